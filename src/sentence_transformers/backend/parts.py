"""What each forward of our own is made of: finding a model's parts, norms, first tokens.

Small functions on packed states (T, D) and on modules; nothing here knows about an architecture.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from sentence_transformers.inputs.packing import PackedLayout


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


def norm(states: Tensor, part: Any) -> Tensor:
    """Layer normalisation of states (T, D)."""
    return F.layer_norm(states, part.normalized_shape, part.weight, part.bias, part.eps)


def first_tokens(states: Tensor, layout: PackedLayout) -> Tensor:
    """Of packed states (T, …) those of the first token of each row, (B, …)."""
    return states[layout.cumulative(states.device)[:-1].long()]
