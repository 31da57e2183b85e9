"""Whether a model is still what its class made it.

Whoever computes a model's layers by other means must know that nothing has been put into it: no hook, no adapter, no
layer or weight of another kind, no `forward` of somebody's own. Asked anew at every call, so it has to be quick.
Nothing here knows about architectures.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from torch import Tensor, nn

from sentence_transformers.backend.linear import KINDS

BUILDING_BLOCKS = {nn.Module, nn.ModuleList, *KINDS, nn.LayerNorm, nn.Embedding, nn.Dropout}


def untouched(model: nn.Module, *, beside: frozenset[type] = frozenset()) -> bool:
    """Whether the modules of a model are all of its own kind, without hooks and with their own forward.

    Args:
        model: A transformers model, or a lean one.
        beside: Classes that it may contain besides its own, activations and the `BUILDING_BLOCKS`.
    """
    modules = every_module(model)
    own = type(model).__module__
    return (
        not has_hooks(model, modules)
        and all(kind in beside or is_usual(kind, own) for kind in set(map(type, modules)))
        and not any("forward" in module.__dict__ for module in modules)
    )


def has_hooks(model: nn.Module, modules: list[nn.Module] | None = None) -> bool:
    """Whether anybody wants to be called when a part of the model runs."""
    if nn.modules.module._global_forward_hooks or nn.modules.module._global_forward_pre_hooks:
        return True
    for module in every_module(model) if modules is None else modules:
        if module._forward_hooks or module._forward_pre_hooks:
            return True
    return False


def every_module(model: nn.Module) -> list[nn.Module]:
    """A model and everything in it; as `Module.modules`, which takes five times as long."""
    found = [model]
    for module in found:
        if module._modules:
            found += [child for child in module._modules.values() if child is not None]
    return found


def first_tensor(module: nn.Module) -> Tensor | None:
    """The first parameter in a module, or else its first buffer; None where there is neither.

    What `next(module.parameters())` gives, without the machinery around it, which takes as long as a small product.
    """
    found = first_of("_parameters", module)
    return first_of("_buffers", module) if found is None else found


def first_of(kind: str, module: nn.Module) -> Tensor | None:
    """The first tensor of a kind, a module's own before those of its parts."""
    for tensor in module.__dict__[kind].values():
        if tensor is not None:
            return tensor
    for child in module._modules.values():
        found = None if child is None else first_of(kind, child)
        if found is not None:
            return found
    return None


@lru_cache(maxsize=512)
def is_usual(kind: type, own: str) -> bool:
    """Whether a class is among those transformers builds these models of; `own` is the module that defines them."""
    where = kind.__module__
    return (
        where in (own, "transformers.activations", "torch.nn.modules.activation") or kind in BUILDING_BLOCKS
    )


def plain(parts: Iterable[Any]) -> bool:
    """Whether parts of a layer are plain layers with plain weights (adapters and quantisers replace either)."""
    return all(
        type(part) in (*KINDS, nn.LayerNorm) and type(part._parameters.get("weight")) is nn.Parameter
        for part in parts
    )
