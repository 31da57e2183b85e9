"""Linear layers of a half-precision model that compute in float32.

Their weights stay as they are; only the product is computed, and given, in float32, so that close scores are
not rounded to ties. Such a layer is an ordinary one in everything else: it is saved, moved and copied as before.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Float32Linear(nn.Linear):
    """A linear layer that computes in float32 whatever its weights and inputs are."""

    def forward(self, input: Tensor) -> Tensor:
        """The layer's result for (…, D), in float32."""
        bias = None if self.bias is None else self.bias.float()
        with torch.autocast(input.device.type, enabled=False):
            return F.linear(input.float(), self.weight.float(), bias)


def compute_in_float32(model: nn.Module, paths: Sequence[str]) -> None:
    """Let linear layers of a model compute in float32, and all others as they usually do.

    Args:
        model: The model.
        paths: Of the layers, as `model.get_submodule` takes them.

    Raises:
        ValueError: If a path leads nowhere, or to anything but a plain `torch.nn.Linear`.
    """
    chosen = [linear_at(model, path) for path in paths]
    for module in model.modules():
        if type(module) is Float32Linear:
            module.__class__ = nn.Linear
    for module in chosen:
        module.__class__ = Float32Linear


def linear_at(model: nn.Module, path: str) -> nn.Linear:
    """The linear layer at a path in a model."""
    try:
        found = model.get_submodule(path)
    except AttributeError as error:
        linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        raise ValueError(
            f"keep_in_fp32_modules names {path!r}, which is not in the model ({error}). Its linear layers are "
            f"{', '.join(linear[-3:]) or 'none'}{', and others' if len(linear) > 3 else ''}."
        ) from error
    if type(found) not in (nn.Linear, Float32Linear):
        raise ValueError(
            f"keep_in_fp32_modules names {path!r}, a {type(found).__name__}. Name torch.nn.Linear layers only: the "
            "layers behind any other would be given float32 that they cannot take."
        )
    return found
