"""What each forward of our own is made of: finding a model's parts, activations, norms, first tokens.

Small functions on packed states (T, D) and on modules; nothing here knows about an architecture.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sentence_transformers.backend import fixed_shapes
from sentence_transformers.backend.linear import fixed_activation
from sentence_transformers.inputs.packing import PackedLayout

Activation = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Activation] = {
    "gelu": lambda states: torch.ops.aten.gelu_(states),
    "gelu_new": lambda states: torch.ops.aten.gelu_(states, approximate="tanh"),
    "gelu_pytorch_tanh": lambda states: torch.ops.aten.gelu_(states, approximate="tanh"),
    "relu": torch.relu_,
}
"""Activation functions by transformers' name, each overwriting its argument."""

ACTIVATION_CLASSES: dict[str, tuple[str, ...]] = {
    "gelu": ("GELUActivation",),
    "gelu_new": ("NewGELUActivation",),
    "gelu_pytorch_tanh": ("GELUTanh", "PytorchGELUTanh"),
    "relu": ("ReLU",),
    "silu": ("SiLUActivation", "SiLU"),
}
"""What transformers has made modules of an activation of, by its name for it."""


def is_activation(part: Any, name: str) -> bool:
    """Whether a part of a model is the activation that its configuration names."""
    return type(part).__name__ in ACTIVATION_CLASSES.get(name, ())


def class_path(model: nn.Module) -> str:
    """Path of a transformers model's class below `transformers.models`; of a lean model, that of what it stands for."""
    stands_for = getattr(model, "class_path", None)
    if stands_for is not None:  # opened without transformers, see lean.py
        return str(stands_for)
    kind = type(model)
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("transformers.models.")


def part_at(module: Any, path: list[str]) -> Any:
    """A module inside another; as `get_submodule`, which takes ten times as long."""
    for name in path:
        module = module._modules[name]
    return module


def in_blocks_if_fixed(activation: Activation) -> Activation:
    """An activation as this thread is to compute it: in blocks where `fixed_shapes` are wanted."""
    return partial(fixed_activation, activation) if fixed_shapes.wanted() else activation


def norm(states: Tensor, part: Any) -> Tensor:
    """Layer normalisation of states (T, D)."""
    return F.layer_norm(states, part.normalized_shape, part.weight, part.bias, part.eps)


def first_tokens(states: Tensor, layout: PackedLayout) -> Tensor:
    """Of packed states (T, …) those of the first token of each row, (B, …)."""
    return states[layout.cumulative(states.device)[:-1].long()]
