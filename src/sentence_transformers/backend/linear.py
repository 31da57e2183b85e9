"""Ways to compute a linear layer of our own forward, and which to take when.

As it is, with a weight arranged for oneDNN, in blocks of fixed shapes, or in eight bits. Each takes states
(T, in), the layer and a buffer (T, out), which the result may overwrite. Nothing here knows about models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sentence_transformers.backend import arranged, fixed_shapes, int8
from sentence_transformers.backend.int8 import Int8Linear

Linear = Callable[[Tensor, Any, Tensor], Tensor]

KINDS = (nn.Linear, Int8Linear)
"""The layers that can be computed here."""


def linear_for(states: Tensor) -> Linear:
    """The way to compute the layers of a batch with states (T, D) like these."""
    way = float_way(states)
    # Sums of whole numbers are exact: in eight bits there is one way, whatever the batch.
    return lambda rows, part, buffer: (
        int8.compute(rows, part, buffer) if type(part) is Int8Linear else way(rows, part, buffer)
    )


def float_way(states: Tensor) -> Linear:
    """The same for layers that are not in eight bits."""
    if fixed_shapes.wanted():
        return fixed_linear
    return arranged_linear if arranged.pays(states) else plain_linear


def several_of(states: Tensor, parts: Sequence[Any], buffers: Sequence[Tensor]) -> list[Tensor]:
    """What several layers make of the same states (T, in)."""
    if all(type(part) is Int8Linear for part in parts):
        return int8.compute_several(states, parts, buffers)
    linear = linear_for(states)
    if float_way(states) is arranged_linear and all(type(part) is nn.Linear for part in parts):
        made = arranged.several(states, parts)
        if made is not None:
            return made
    return [linear(states, part, buffer) for part, buffer in zip(parts, buffers, strict=True)]


def arranged_linear(states: Tensor, part: Any, buffer: Tensor) -> Tensor:
    """As `plain_linear`, with an arranged weight once there is one."""
    made = arranged.several(states, (part,))
    return plain_linear(states, part, buffer) if made is None else made[0]


def fixed_linear(states: Tensor, part: Any, buffer: Tensor) -> Tensor:
    """As `plain_linear`, in blocks in which the place of a row does not matter."""
    return fixed_shapes.by_blocks(
        lambda rows, out: linear_of_block(rows, part, out), states, out=buffer, key=key_of(part)
    )


def fixed_activation(activation: Callable[[Tensor], Tensor], states: Tensor) -> Tensor:
    """An activation in such blocks: the code for a few numbers at the end may be other code."""
    return fixed_shapes.by_blocks(activation, out=states, key=activation)


def can_be_fixed(part: nn.Linear) -> bool:
    """Whether places can be made not to matter for a linear layer: on the CPU, unless a trial says otherwise."""
    weight = part.weight
    return (
        weight.device.type == "cpu"
        and weight.is_contiguous()
        and fixed_shapes.possible(
            lambda rows, out: linear_of_block(rows, part, out),
            weight.new_empty(0, part.in_features),
            out=weight.new_empty(0, part.out_features),
            key=key_of(part),
        )
    )


def all_can_be_fixed(parts: Iterable[nn.Linear]) -> bool:
    """The same for many layers; of those that are computed in the same way only one is tried."""
    unlike = {
        (part.weight.shape, part.weight.stride(), part.weight.device, part.bias is None): part
        for part in parts
    }
    return all(map(can_be_fixed, unlike.values()))


def activation_can_be_fixed(activation: Callable[[Tensor], Tensor], part: nn.Linear) -> bool:
    """The same for an activation of what a linear layer gives."""
    kind = torch.float32 if type(part) is Int8Linear else part.weight.dtype
    out = part.weight.new_empty(0, part.out_features, dtype=kind)
    return fixed_shapes.possible(activation, out=out, key=activation)


def in_blocks_if_fixed(activation: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """An activation as this thread is to compute it: in blocks where `fixed_shapes` are wanted."""
    return partial(fixed_activation, activation) if fixed_shapes.wanted() else activation


def key_of(part: Any) -> tuple[str, bool]:
    """What is tried for a linear layer holds for all others of its shape."""
    return "linear", part.bias is None


def plain_linear(states: Tensor, part: Any, buffer: Tensor) -> Tensor:
    """A linear layer whose result overwrites a buffer, (T, out)."""
    if part.bias is None:
        return torch.mm(states, part.weight.t(), out=buffer)
    return torch.addmm(part.bias, states, part.weight.t(), out=buffer)


def linear_of_block(states: Tensor, part: Any, buffer: Tensor) -> Tensor:
    """As `plain_linear`, by the library that is faster here; the same one whatever was computed before."""
    if not arranged.always_pays(states) or not part.weight.is_contiguous():
        return plain_linear(states, part, buffer)
    return buffer.copy_(arranged.kernels()[0](states, part.weight, part.bias, "none", [], "none"))
