"""Linear layers that compute with whole numbers of eight bits.

The weights are rounded once, those of each output by a step of their own; the states are rounded as they come, each
token by a step of its own, as LLM.int8() (Dettmers et al. 2022) and ZeroQuant (Yao et al. 2022) do. Between them stand
sums of whole numbers, which are exact: what such a layer makes of a token is the same in any batch. They are computed
by `tensors/int8_products.py`; on other devices than a CPU, float32 computes the same whole numbers. Nothing here
knows about models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sentence_transformers.tensors.int8_products import (
    LIMITS,
    Arranged,
    Codes,
    arrange,
    kernel_limit,
    products,
    rounded_states,
    rounded_weight,
    whole_products,
)

ROWS_AT_ONCE = 1024
"""Tokens that go through a layer together: their states stay near the core between the steps."""


class Int8Linear(nn.Module):
    """A linear layer whose weight is kept in eight bits, and which computes with eight bits.

    Args:
        weight: (out, in), int8.
        weight_scale: What 1 stands for in each row of the weight, (out, 1).
        bias: (out,), or None.

    Shapes:
        (…, in) to (…, out), in the type of the input.
    """

    bias: nn.Parameter | None

    def __init__(self, weight: Tensor, weight_scale: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.weight_scale = nn.Parameter(weight_scale.float(), requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self._arranged: Arranged | None = None

    @classmethod
    def of(cls, layer: nn.Linear) -> Int8Linear:
        """The layer that stands for another one, with its weight rounded."""
        codes, steps = rounded_weight(layer.weight.detach())
        return cls(codes, steps, None if layer.bias is None else layer.bias.detach())

    def float_weight(self) -> Tensor:
        """The weight that the codes stand for, (out, in), float32."""
        return self.weight.float() * self.weight_scale.float()

    def forward(self, input: Tensor) -> Tensor:
        """The layer's result for (…, in); with a gradient if the input asks for one."""
        if is_traced() or needs_gradient(input):
            weight, bias = self.float_weight(), None if self.bias is None else self.bias.float()
            return F.linear(input.float(), weight, bias).to(input.dtype)
        rows = input.reshape(-1, self.in_features)
        out = compute(rows, self, rows.new_empty(len(rows), self.out_features))
        return out.view(*input.shape[:-1], self.out_features)

    def arranged(self) -> Arranged:
        """The weight for the kernels; made anew when another one has taken its place."""
        weight = self.weight
        version = None if weight.is_inference() else weight._version
        made = self._arranged
        if made is None or made.source.data_ptr() != weight.data_ptr() or made.version != version:
            # Threads that come here together do this twice, and get the same.
            made = self._arranged = arrange(weight.detach(), self.weight_scale.detach(), version)
        return made

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_arranged": None}


def is_traced() -> bool:
    """Whether a graph is being made that is to run without this kernel: exported, or compiled."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling()


def needs_gradient(states: Tensor) -> bool:
    """Whether somebody will ask how a result changes with these states."""
    return torch.is_grad_enabled() and states.requires_grad


def compute(states: Tensor, layer: Int8Linear, buffer: Tensor) -> Tensor:
    """What a layer makes of states (T, in); fills `buffer` (T, out), which is returned."""
    limit = limit_for(states)
    for start in range(0, len(states), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        finish(rounded_states(states[part], limit), layer, buffer[part])
    return buffer


def compute_several(states: Tensor, layers: Sequence[Int8Linear], buffers: Sequence[Tensor]) -> list[Tensor]:
    """What several layers make of the same states, which are rounded once."""
    limit = limit_for(states)
    for start in range(0, len(states), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        codes = rounded_states(states[part], limit)
        for layer, buffer in zip(layers, buffers, strict=True):
            finish(codes, layer, buffer[part])
    return list(buffers)


def finish(codes: Codes, layer: Int8Linear, buffer: Tensor) -> None:
    """What a layer makes of codes, into `buffer` (T, out)."""
    numbers, steps, limit = codes
    if numbers.device.type == "cpu" and kernel_limit() == limit:
        sums = products(numbers, layer.arranged(), limit)
    else:
        sums = whole_products(numbers, layer.weight, limit).mul_(layer.weight_scale.float().T)
    if buffer.dtype == torch.float32:
        torch.mul(sums, steps, out=buffer)
    else:
        buffer.copy_(sums.mul_(steps))
    if layer.bias is not None:
        buffer.add_(layer.bias)


def limit_for(states: Tensor) -> int:
    """The largest code that states are rounded to on their device."""
    return (kernel_limit() if states.device.type == "cpu" else None) or LIMITS[0]
