"""Activation functions of encoder layers, by transformers' names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Activation:
    """An activation function that overwrites its argument.

    `fused` is what oneDNN calls it where it computes it together with a linear layer: its name and its variant;
    None where it cannot.
    """

    compute: Callable[[Tensor], Tensor]
    fused: tuple[str, str] | None = None

    def __call__(self, states: Tensor) -> Tensor:
        return self.compute(states)


def exact_gelu(states: Tensor) -> Tensor:
    """Gaussian error linear units (Hendrycks and Gimpel 2016), in place."""
    return torch.ops.aten.gelu_(states)


def tanh_gelu(states: Tensor) -> Tensor:
    """The same by its approximation with a hyperbolic tangent, in place."""
    return torch.ops.aten.gelu_(states, approximate="tanh")


GELU, TANH_GELU = Activation(exact_gelu, ("gelu", "none")), Activation(tanh_gelu, ("gelu", "tanh"))

ACTIVATIONS: dict[str, Activation] = {
    "gelu": GELU,
    "gelu_new": TANH_GELU,
    "gelu_pytorch_tanh": TANH_GELU,
    "relu": Activation(torch.relu_, ("relu", "")),
}
"""Activations by transformers' name."""

SILU = Activation(lambda states: torch.ops.aten.silu_(states))

CLASSES: dict[str, tuple[str, ...]] = {
    "gelu": ("GELUActivation",),
    "gelu_new": ("NewGELUActivation",),
    "gelu_pytorch_tanh": ("GELUTanh", "PytorchGELUTanh"),
    "relu": ("ReLU",),
    "silu": ("SiLUActivation", "SiLU"),
}
"""What transformers has made modules of an activation of, by its name for it."""


def is_activation(part: Any, name: str) -> bool:
    """Whether a part of a model is the activation that its configuration names."""
    return type(part).__name__ in CLASSES.get(name, ())
