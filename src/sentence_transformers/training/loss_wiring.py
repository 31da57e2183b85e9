"""Connect losses with the model that is trained: its wrappers, its optimizer, its files.

A loss holds the model it was made with, and may have parameters of its own, such as a classifier. Nothing
here computes a loss.
"""

from __future__ import annotations

import logging
import pickle
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sentence_transformers.encoder.base import BaseModel
from sentence_transformers.losses.base import EmbeddingLoss
from sentence_transformers.tensors.distributed import get_world_size, is_dist_initialized

logger = logging.getLogger(__name__)

LOSS_FILE = "loss.safetensors"
"""Parameters of the losses in a checkpoint, where they have any."""


def holders(loss: nn.Module, model: Any) -> list[nn.Module]:
    """The loss, and those inside it, that hold a model as `model`."""
    inside_model = {id(module) for module in model.modules()} if isinstance(model, nn.Module) else set()
    return [
        module
        for module in loss.modules()
        if id(module) not in inside_model and isinstance(module._modules.get("model"), nn.Module)
    ]


def point_at(loss: nn.Module, model: nn.Module) -> None:
    """Let a loss, and those inside it, use this model where they use one of the same kind under the name `model`."""
    for module in holders(loss, model):
        if type(module._modules["model"]) is type(model):
            module.model = model


def computed(loss: nn.Module, model: nn.Module, columns: list[Any], labels: Any, **options: Any) -> Any:
    """What a loss is for a batch, through what training has wrapped around the model.

    Args:
        loss: The loss; it calls the model, perhaps several times.
        model: The model, perhaps wrapped.
        columns: What the loss takes of each text column.
        labels: Of each row.
        **options: Further arguments of the loss.
    """
    inner = unwrapped(model)
    whole = isinstance(loss, EmbeddingLoss) and not loss.is_cached and isinstance(inner, BaseModel)
    if whole and isinstance(model, nn.parallel.DistributedDataParallel):
        # One call of the wrapper: only then does it know which parameters took part, whatever the routes.
        return model(partial(loss, columns, labels, **options))
    with wrapped_model(loss, model):
        return loss(columns, labels, **options)


@contextmanager
def wrapped_model(loss: nn.Module, model: nn.Module) -> Iterator[None]:
    """Let a loss call the model through what training has wrapped around it, for the time of the block."""
    inner = unwrapped(model)
    if inner is model:
        yield
        return
    changed = [module for module in holders(loss, model) if module._modules["model"] is inner]
    for module in changed:
        module._modules["model"] = model
    try:
        yield
    finally:
        for module in changed:
            module._modules["model"] = inner


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside wrappers of distributed training and compilation."""
    from accelerate.utils import extract_model_from_parallel

    return extract_model_from_parallel(model, keep_torch_compile=False)


def take_mixed_precision_off(accelerator: Any, model: nn.Module) -> None:
    """Undo what mixed precision has put around a model's forward for training, and let it be put there again.

    Left in place, it would go on rounding what `encode` computes, and the model could not be pickled. What
    distributed training has wrapped is left alone, as its wrapper goes on being used.
    """
    if str(accelerator.distributed_type.value) != "NO" or "_original_forward" not in vars(model):
        return
    accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    if vars(model).get("forward") == type(model).forward.__get__(model):
        del model.forward
    # Or a second training would believe that it is still there.
    model._is_accelerate_prepared = False


@contextmanager
def evaluating(losses: list[nn.Module], model: nn.Module) -> Iterator[None]:
    """Have the parts of losses in evaluation mode for the time of the block, and then as they were.

    A part that was in evaluation mode all along, such as a teacher, stays so. The model is left to others.
    """
    of_model = set(model.modules())
    training = [
        module for loss in losses for module in loss.modules() if module.training and module not in of_model
    ]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True


def own_parameters(loss: nn.Module, model: nn.Module) -> dict[str, nn.Parameter]:
    """Trained parameters of a loss that are not the model's, by name."""
    of_model = {id(parameter) for parameter in model.parameters()}
    return {
        name: parameter
        for name, parameter in loss.named_parameters()
        if parameter.requires_grad and id(parameter) not in of_model
    }


def synchronise(loss: nn.Module, model: nn.Module) -> None:
    """Let the loss's own parameters start and stay equal in all processes, as those of the model do.

    They get the values of the first process, and gradients averaged over all.
    """
    if not is_dist_initialized() or get_world_size() == 1:
        return
    with torch.no_grad():
        for parameter in own_parameters(loss, model).values():
            torch.distributed.broadcast(parameter, src=0)

    def average(gradient: Tensor) -> Tensor:
        total = gradient.clone()
        torch.distributed.all_reduce(total)
        return total / get_world_size()

    for parameter in own_parameters(loss, model).values():
        parameter.register_hook(average)


def add_parameters(optimizer: Any, model: nn.Module, losses: list[nn.Module], weight_decay: float) -> None:
    """Let an optimizer train the losses' own parameters too; vectors and scalars do not decay."""
    known = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    new: dict[int, nn.Parameter] = {}
    for loss in losses:
        new.update({id(parameter): parameter for parameter in own_parameters(loss, model).values()})
    parameters = [parameter for key, parameter in new.items() if key not in known]
    for decay, chosen in (
        (weight_decay, [parameter for parameter in parameters if parameter.dim() >= 2]),
        (0.0, [parameter for parameter in parameters if parameter.dim() < 2]),
    ):
        if chosen:
            optimizer.add_param_group({"params": chosen, "weight_decay": decay})


def set_rates(
    optimizer: Any, model: nn.Module, losses: list[nn.Module], rate_by_pattern: Mapping[str, float]
) -> None:
    """Give parameters learning rates of their own.

    Args:
        optimizer: Its groups are split where a pattern takes some of their parameters.
        model: Names the parameters.
        losses: Name theirs.
        rate_by_pattern: Learning rate by regular expression, searched for in the names; the first that is found
            counts.

    Raises:
        ValueError: If an expression finds no parameter.
    """
    if not rate_by_pattern:
        return
    names = {id(parameter): name for loss in losses for name, parameter in loss.named_parameters()}
    names.update({id(parameter): name for name, parameter in model.named_parameters()})
    found: set[str] = set()
    groups = []
    for group in optimizer.param_groups:
        parts: dict[str | None, list[Any]] = {}
        for parameter in group["params"]:
            name = names.get(id(parameter), "")
            pattern = next((pattern for pattern in rate_by_pattern if re.search(pattern, name)), None)
            parts.setdefault(pattern, []).append(parameter)
        for pattern, parameters in parts.items():
            rate = {} if pattern is None else {"lr": rate_by_pattern[pattern]}
            found.update([] if pattern is None else [pattern])
            groups.append({**group, **rate, "params": parameters})
    unused = [pattern for pattern in rate_by_pattern if pattern not in found]
    if unused:
        raise ValueError(
            f"learning_rate_mapping: no trained parameter has a name in which {unused} is found. Names look like "
            f"{sorted(names.values())[:3]}."
        )
    optimizer.param_groups[:] = groups


def as_mapping(losses: Any) -> Mapping[str, nn.Module]:
    return losses if isinstance(losses, Mapping) else {"": losses}


def saved_state(losses: Any) -> dict[str, Tensor]:
    """The losses' own parameters under the names they have in a file."""
    state: dict[str, Tensor] = {}
    for name, loss in as_mapping(losses).items():
        model = getattr(loss, "model", None)
        if isinstance(model, nn.Module):
            for key, parameter in own_parameters(loss, model).items():
                state[f"{name}.{key}" if name else key] = parameter.detach()
    return state


def save_own_parameters(losses: Any, folder: Path) -> None:
    """Write the losses' own parameters beside the model, if there are any."""
    state = saved_state(losses)
    if state:
        from safetensors.torch import save_file

        save_file({key: value.cpu().contiguous().clone() for key, value in state.items()}, folder / LOSS_FILE)


def load_own_parameters(losses: Any, folder: Path) -> None:
    """Read what `save_own_parameters` wrote, if it wrote anything."""
    if not (folder / LOSS_FILE).is_file():
        return
    from safetensors.torch import load_file

    saved = load_file(folder / LOSS_FILE)
    with torch.no_grad():
        for key, parameter in saved_state(losses).items():
            if key in saved:
                parameter.copy_(saved[key])


def save_arguments(args: Any, folder: Path) -> None:
    """Write the training arguments beside the model, as transformers does, if they can be written."""
    path = folder / "training_args.bin"
    try:
        torch.save(args, path)
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        path.unlink(missing_ok=True)
        logger.warning(
            "%s is not written: %s. A sampler or another argument that is a function can be kept if it is defined "
            "at the top of a module.",
            path,
            error,
        )


def load_weights(model: Any, folder: str) -> None:
    """Put the weights of a saved model of the same structure into a model.

    Raises:
        ValueError: If the folder's model has another structure.
    """
    # Spreading a model over processes gives it a class of its own in front of the one it had.
    kind: Any = next(kind for kind in type(model).__mro__ if not hasattr(kind, "unshard"))
    saved = kind(folder, device="cpu", trust_remote_code=getattr(model, "trust_remote_code", False))
    try:
        if is_spread(model):
            spread_state(model, saved.state_dict())
        else:
            model.load_state_dict(saved.state_dict())
    except RuntimeError as error:
        raise ValueError(
            f"The checkpoint in {folder} is of another model than the one in training: {error}"
        ) from error


def is_spread(model: nn.Module) -> bool:
    """Whether each process has only a part of the weights (FSDP2)."""
    return any(hasattr(parameter, "full_tensor") for parameter in model.parameters())


def spread_state(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Give every process its part of the weights of a model that is spread; all have the whole `state`."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    set_model_state_dict(model, state, options=StateDictOptions(full_state_dict=True))


def collected_state(model: nn.Module) -> dict[str, Any]:
    """The whole weights of a model that is spread, in the first process; all take part."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def save_with_state(model: Any, folder: str, state: Mapping[str, Tensor]) -> None:
    """Save a model whose parameters are spread over processes, with the collected ones in their place."""
    own: list[tuple[nn.Module, str, nn.Parameter]] = []
    try:
        for prefix, module in model.named_modules():
            for name, parameter in list(module._parameters.items()):
                whole = state.get(f"{prefix}.{name}" if prefix else name)
                if parameter is not None and whole is not None:
                    own.append((module, name, parameter))
                    module._parameters[name] = nn.Parameter(whole, requires_grad=parameter.requires_grad)
        model.save_pretrained(folder)
    finally:
        for module, name, parameter in own:
            module._parameters[name] = parameter
