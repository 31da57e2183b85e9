"""Checkpoints whose linear layers are in eight bits: made, told, and opened.

They are kept in the form of `compressed-tensors` that is called "int-quantized": weights int8 with a step for each
output (`weight`, `weight_scale`), states rounded by a step for each token when they come. So other programs read what
is saved here, and checkpoints of that form that others have made are read here, without that package.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from sentence_transformers.backend.int8 import Int8Linear

logger = logging.getLogger(__name__)

METHOD = "compressed-tensors"
FORMAT = "int-quantized"
SCALE = "weight_scale"

WEIGHTS: Mapping[str, Any] = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False}  # fmt: skip
STATES: Mapping[str, Any] = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}  # fmt: skip


def quantize_layers(model: nn.Module) -> int:
    """Replace the linear layers of a transformers (or lean) model's repeated layers by ones in eight bits.

    What stands before and behind them (embeddings, poolers, heads) stays as it is: it is small, and a head's scores
    are asked for in full. The configuration says from now on what the checkpoint is.

    Returns:
        How many were replaced.
    """
    chosen = list(repeated_linear_layers(model))
    for path, layer in chosen:
        put(model, path, Int8Linear.of(layer))
    if chosen:
        settings = settings_of(model)
        config: Any = model.config
        config.quantization_config = settings
        if hasattr(model, "settings"):  # of a lean model
            model.settings = {**model.settings, "quantization_config": settings}
    return len(chosen)


def repeated_linear_layers(model: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """The plain linear layers that stand in a list of layers, with their paths."""
    for path, module in model.named_modules():
        if type(module) is nn.Linear and any(part.isdigit() for part in path.split(".")):
            yield path, module


def settings_of(model: nn.Module) -> dict[str, Any]:
    """What `config.json` says of a model with layers in eight bits."""
    ignored = [path for path, module in model.named_modules() if type(module) is nn.Linear]
    group = {"targets": ["Linear"], "weights": {**WEIGHTS}, "input_activations": {**STATES}}
    return {
        "quant_method": METHOD,
        "format": FORMAT,
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": ignored,
    }


def is_int8(settings: Any) -> bool:
    """Whether an entry `quantization_config` describes a checkpoint that can be opened here."""
    if settings is None:
        return False
    facts = settings if isinstance(settings, Mapping) else settings.to_dict()
    groups = list((facts.get("config_groups") or {}).values())
    return (
        facts.get("quant_method") == METHOD
        and facts.get("format") == FORMAT
        and bool(groups)
        and all(
            all((group.get("weights") or {}).get(name) == value for name, value in WEIGHTS.items())
            and all(
                (group.get("input_activations") or {}).get(name) == value for name, value in STATES.items()
            )
            for group in groups
        )
    )


def with_int8_layers(model: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """A transformers model built from its configuration, with the tensors of a checkpoint; int8 layers where those are.

    Raises:
        ValueError: If tensors of the repeated layers are missing, or have another shape than the model's.
    """
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    if not hasattr(model, prefix[:-1]) and any(name.startswith(prefix) for name in state):
        state = {
            name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)
        }
    for name, scale in state.items():
        path, _, last = name.rpartition(".")
        if last == SCALE:
            put(
                model,
                path,
                Int8Linear(state[f"{path}.weight"], scale.reshape(-1, 1), state.get(f"{path}.bias")),
            )
    steps = {
        name: scale.reshape(-1, 1).float() for name, scale in state.items() if name.endswith(f".{SCALE}")
    }
    try:
        outcome = model.load_state_dict({**state, **steps}, strict=False, assign=True)
    except RuntimeError as error:
        raise ValueError(f"The weights do not fit the configuration beside them: {error}") from error
    tied = tuple(getattr(model, "_tied_weights_keys", None) or ())
    missing = (
        [name for name in outcome.missing_keys if not name.endswith(tied)] if tied else outcome.missing_keys
    )
    lost = [name for name in missing if any(part.isdigit() for part in name.split("."))]
    if lost:
        raise ValueError(
            f"The checkpoint lacks {len(lost)} tensors of its layers, such as {lost[0]!r}. Save or download the model "
            "again."
        )
    if missing:
        logger.warning("New, and not trained, are %s: the checkpoint has none.", ", ".join(missing))
    if outcome.missing_keys and hasattr(model, "tie_weights"):
        model.tie_weights()
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.is_floating_point() and parameter.requires_grad)
    return model.eval()


def put(model: nn.Module, path: str, layer: nn.Module) -> None:
    """Put a layer in the place of another."""
    place, _, last = path.rpartition(".")
    setattr(model.get_submodule(place), last, layer)
