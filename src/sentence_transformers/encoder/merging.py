"""Make one model out of the weights of several.

The models must be alike but for their weights, which is checked before anything is computed. What a merge
method computes stands in `tensors/merging.py`; here models are loaded, compared, and the result is put
together.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sentence_transformers.tensors.merging import merger, method_named

if TYPE_CHECKING:
    from sentence_transformers.encoder.base import BaseModel

DTYPES: Mapping[str, torch.dtype] = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}

INPUT_SETTINGS = frozenset(
    {"do_lower_case", "document_length", "max_seq_length", "query_length", "unpad_inputs"}
)
"""Settings of a module that say how it reads inputs, not what its weights mean."""

UNIMPORTANT = frozenset(
    {
        "_attn_implementation",
        "_commit_hash",
        "_name_or_path",
        "architectures",
        "attn_implementation",
        "dtype",
        "gradient_checkpointing",
        "initializer_range",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    }
)
"""Settings of a transformers configuration that two models may differ in, like all that say "dropout"."""


def merge_models(
    cls: type[BaseModel],
    models: Sequence[str | Path | BaseModel],
    method: str = "linear",
    *,
    base_model: str | Path | BaseModel | None = None,
    parameters: dict[str, Any] | None = None,
    dtype: str | torch.dtype | None = torch.float32,
    out_dtype: str | torch.dtype | None = None,
    device: str | torch.device = "cpu",
    batch_options: Any = None,
    **load_kwargs: Any,
) -> BaseModel:
    """Merge models into a new one of the class `cls`; everything else is described at `BaseModel.merge`."""
    chosen = method_named(method)
    if batch_options is not None:
        raise ValueError(
            f"batch_options={batch_options!r} are options of the package mergekit, which is not used here: "
            "tensors are merged one at a time. Leave it out."
        )
    if isinstance(models, (str, Path)) or len(models) < 2:
        given = models if isinstance(models, (str, Path)) else f"{len(models)} in a list"
        raise ValueError(f"Merging takes a list of at least two models, and got {given}.")
    computed_in = read_dtype("dtype", dtype)
    result_in = read_dtype("out_dtype", out_dtype)
    merged = list(models)
    if chosen.base == "needed":
        if base_model is None:
            raise ValueError(
                f"The merge method {method!r} adds up what models have learnt since their base model. Pass "
                "base_model, the one they were all trained from."
            )
        merged = [model for model in models if not is_same(model, base_model)]
        if not merged:
            raise ValueError("All models are the base model, and there is nothing to merge. Pass others.")
    elif base_model is not None:
        if chosen.base == "unused":
            raise ValueError(f"The merge method {method!r} has no use for a base_model. Leave it out.")
        if not any(is_same(model, base_model) for model in models):
            raise ValueError(
                f"With the merge method {method!r}, base_model says which of the models is the first, and it is "
                "none of them. Pass one of them, or leave it out."
            )
        merged.sort(key=lambda model: not is_same(model, base_model))
    merge = merger(method, parameters, models=len(merged))

    loaded: dict[str, BaseModel] = {}

    def opened(model: str | Path | BaseModel) -> BaseModel:
        if not isinstance(model, (str, Path)):
            if not isinstance(model, cls):
                raise TypeError(f"{type(model).__name__} is no {cls.__name__}, and no name or folder of one.")
            return model
        if str(model) not in loaded:
            # Every kind of model takes these two.
            load: Any = cls
            loaded[str(model)] = load(str(model), device=str(device), **load_kwargs)
        return loaded[str(model)]

    first, *others = [opened(model) for model in models]
    sources = [tensors_of(opened(model)) for model in merged]
    base = [] if chosen.base != "needed" or base_model is None else [tensors_of(opened(base_model))]
    for number, other in enumerate(others, start=1):
        check_compatible(first, other, f"model {number}")
    if base_model is not None:
        check_compatible(first, opened(base_model), "base_model")

    result = copy.deepcopy(first).to(device).eval()
    result._target_device = torch.device(device)
    # What its card said is true of the first model only: data sets, results, losses.
    result.model_card_data = None
    for name, tensor in tensors_of(result).items():
        tensor.grad = None
        if not tensor.is_floating_point():
            continue
        wanted = computed_in or widest([source[name] for source in [*sources, *base]])
        inputs = [source[name].detach().to(device, wanted) for source in sources]
        before = [source[name].detach().to(device, wanted) for source in base]
        tensor.data = merge(inputs, *before).to(result_in or wanted)
    return result


def is_same(model: str | Path | BaseModel, other: str | Path | BaseModel) -> bool:
    """Whether both are one instance or one name."""
    if isinstance(model, (str, Path)) and isinstance(other, (str, Path)):
        return str(model) == str(other)
    return model is other


def read_dtype(argument: str, value: str | torch.dtype | None) -> torch.dtype | None:
    """A floating-point type, which may be given by its name."""
    dtype = DTYPES.get(value.removeprefix("torch.")) if isinstance(value, str) else value
    if value is not None and dtype not in DTYPES.values():
        raise ValueError(f"{argument}={value!r}. Pass None, {', '.join(DTYPES)}, or such a torch.dtype.")
    return dtype


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and saved buffers by name; one that is shared comes once, under its first name."""
    found: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if isinstance(tensor, Tensor):
            found.setdefault(id(tensor), (name, tensor))
    return dict(found.values())


def widest(tensors: Sequence[Tensor]) -> torch.dtype:
    """The type that holds the values of all."""
    dtype = tensors[0].dtype
    for tensor in tensors[1:]:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def check_compatible(first: BaseModel, other: BaseModel, label: str) -> None:
    """Raise a ValueError that names the first difference which makes merging weights meaningless."""
    difference = first_difference(first, other, label) if other is not first else None
    if difference:
        raise ValueError(
            f"{label} cannot be merged with model 0: {difference}. Pass models that were trained from the same one."
        )


def first_difference(first: BaseModel, other: BaseModel, label: str) -> str | None:
    """What tells two models apart besides the values of their weights; None for nothing."""
    for model in (first, other):
        if model.get_backend() != "torch":
            return f"one runs with {model.get_backend()}, where there are no weights to merge; load it with torch"
    return (
        differing_modules(first, other, label)
        or differing_tensors(first, other, label)
        or differing_configurations(first, other, label)
        or differing_vocabularies(first, other, label)
    )


def differing_modules(first: BaseModel, other: BaseModel, label: str) -> str | None:
    parts, other_parts = parts_of(first), parts_of(other)
    if parts.keys() != other_parts.keys():
        return f"model 0 has the modules {described(parts)}, and {label} has {described(other_parts)}"
    for name, part in parts.items():
        if type(part) is not type(other_parts[name]):
            kind, other_kind = type(part).__name__, type(other_parts[name]).__name__
            return f"module {name!r} of model 0 is {kind}, and of {label} {other_kind}"
        settings, others = settings_of(part), settings_of(other_parts[name])
        for key in [*settings, *(key for key in others if key not in settings)]:
            if settings.get(key) != others.get(key):
                return f"module {name!r} ({type(part).__name__}) has {key}={settings.get(key)!r} in model 0, and {others.get(key)!r} in {label}"
    return None


def parts_of(model: BaseModel) -> dict[str, Any]:
    """The modules a model is made of, those inside a Router included, but not what is inside transformers."""
    return {
        name: module
        for name, module in model.named_modules()
        if name and ("." not in name or hasattr(module, "get_config_dict"))
    }


def described(parts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name!r} ({type(part).__name__})" for name, part in parts.items())


def settings_of(part: Any) -> dict[str, Any]:
    """The saved settings of a module, less those that do not matter here."""
    settings = part.get_config_dict() if hasattr(part, "get_config_dict") else {}
    return {key: value for key, value in settings.items() if key not in INPUT_SETTINGS}


def differing_tensors(first: BaseModel, other: BaseModel, label: str) -> str | None:
    tensors, others = tensors_of(first), tensors_of(other)
    for name in [*tensors, *(name for name in others if name not in tensors)]:
        if name not in tensors or name not in others:
            owner, lacking = ("model 0", label) if name in tensors else (label, "model 0")
            return f"{owner} has a weight {name!r}, and {lacking} has none of its own"
        if tensors[name].shape != others[name].shape:
            return f"{name!r} is {tuple(tensors[name].shape)} in model 0, and {tuple(others[name].shape)} in {label}"
        for tensor, owner in ((tensors[name], "model 0"), (others[name], label)):
            if isinstance(tensor, nn.Parameter) and not tensor.is_floating_point():
                return f"{name!r} is quantised in {owner} ({tensor.dtype}); load it without quantisation"
    return None


def differing_configurations(first: BaseModel, other: BaseModel, label: str) -> str | None:
    configurations, others = configurations_of(first), configurations_of(other)
    for name, config in configurations.items():
        for key, value in config.items():
            # A key that only one has is from an older release, and says nothing to the model's class.
            if key in others.get(name, {}) and others[name][key] != value:
                return f"the transformer in {name!r} has {key}={value!r} in model 0, and {others[name][key]!r} in {label}"
    return None


def configurations_of(model: BaseModel) -> dict[str, dict[str, Any]]:
    """Configuration of each transformers model, by the module that holds it."""
    return {
        name: important(part.auto_model.config.to_dict())
        for name, part in parts_of(model).items()
        if hasattr(part, "auto_model")
    }


def important(config: Mapping[str, Any]) -> dict[str, Any]:
    """Entries of a configuration, nested ones included, that decide what weights mean."""
    return {
        key: important(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if key not in UNIMPORTANT and "dropout" not in str(key)
    }


def differing_vocabularies(first: BaseModel, other: BaseModel, label: str) -> str | None:
    others = parts_of(other)
    for name, part in parts_of(first).items():
        if vocabulary_of(part) != vocabulary_of(others[name]):
            return f"the tokenizers of module {name!r} have different vocabularies in model 0 and {label}"
    return None


def vocabulary_of(part: Any) -> Any:
    """The tokens of a module's tokenizer; None for a module without one."""
    read = getattr(getattr(part, "tokenizer", None), "get_vocab", None)
    return None if read is None else read()
