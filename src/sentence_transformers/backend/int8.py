"""Linear layers that compute with whole numbers of eight bits.

The weights are rounded once, those of each output by a step of their own; the states are rounded as they come, each
token by a step of its own, as LLM.int8() (Dettmers et al. 2022) and ZeroQuant (Yao et al. 2022) do. Between them stand
sums of whole numbers, which are exact: what such a layer makes of a token is the same in any batch. They are computed
by `tensors/int8_products.py`; on other devices than a CPU, float32 computes the same whole numbers. Nothing here
knows about models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sentence_transformers.tensors.int8_products import (
    FEW_ROWS,
    LIMITS,
    Arranged,
    Codes,
    arrange,
    arrange_for_few,
    is_exact_for_few,
    kernel_limit,
    multiply_and_add,
    products_of_codes,
    products_of_few,
    rounded_states,
    rounded_weight,
    shifted_rows,
    whole_products,
)

ROWS_AT_ONCE = 4096
"""Tokens for each thread that go through layers together: a batch of usual size whole, a huge one in pieces, so that
what the steps leave behind stays small."""


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
        self._alone: Stack | None = None
        self._together: Stack | None = None

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

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_alone": None, "_together": None}


class Stack:
    """One or several layers with the same input, one upon another, as the kernels read them.

    Args:
        layers: The layers.
        limit: The largest code of their states.
    """

    def __init__(self, layers: Sequence[Int8Linear], limit: int) -> None:
        self.limit = limit
        self.widths = [layer.out_features for layer in layers]
        parts = list(parts_of(layers))
        self.seen = [(part.data_ptr(), version_of(part)) for part in parts]
        # While these live, nothing else lies at their addresses.
        self.sources = [part.detach() for part in parts]
        self.weights = [layer.weight.detach() for layer in layers]
        # Sums are in steps of the weight, and in those of states of which `limit` is the largest.
        self.steps = torch.cat([layer.weight_scale.detach().float() for layer in layers]) / limit
        has_bias = any(layer.bias is not None for layer in layers)
        self.bias = torch.cat([bias_of(layer) for layer in layers]) if has_bias else None
        # Each is made when it is first used. Threads that come together do this twice, and get the same.
        self._many: Arranged | None = None
        self._few: Any = None

    def is_of(self, layers: Sequence[Int8Linear], limit: int) -> bool:
        """Whether the layers are still what this was made from."""
        return limit == self.limit and self.seen == [
            (part.data_ptr(), version_of(part)) for part in parts_of(layers)
        ]

    @property
    def codes(self) -> Tensor:
        """The weights, (out, in), int8."""
        return self.weights[0] if len(self.weights) == 1 else torch.cat(self.weights)

    def results(self, states: Tensor) -> list[Tensor]:
        """What each layer makes of states (T, in), (T, out) float32."""
        sums, largest = self.sums(states)
        finish(sums, largest, self.bias, sums)
        return [sums] if len(self.widths) == 1 else list(sums.split(self.widths, dim=1))

    def fill(self, states: Tensor, buffers: Sequence[Tensor]) -> None:
        """The same, into buffers (T, out) of the type of the states."""
        sums, largest = self.sums(states)
        start = 0
        for width, buffer in zip(self.widths, buffers, strict=True):
            part = slice(start, start + width)
            start += width
            out = buffer if buffer.dtype == torch.float32 else sums[:, part]
            finish(sums[:, part], largest, None if self.bias is None else self.bias[part], out)
            if out is not buffer:
                buffer.copy_(out)

    def sums(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Sums of products of rounded states and the weights, (T, out), and what they have to be multiplied by, (T, 1)."""
        if len(states) <= FEW_ROWS and self.has_kernel(states) and is_exact_for_few():
            if self._few is None:
                self._few = arrange_for_few(self.codes, self.steps)
            shifted, largest = shifted_rows(states, self.limit)
            numbers = shifted.floor_().sub_(self.limit + 1)
            return products_of_few(numbers, self._few, self.limit), largest
        codes = rounded_states(states, self.limit)
        return self.products(codes), codes.largest

    def has_kernel(self, states: Tensor) -> bool:
        """Whether PyTorch's kernel can be used."""
        return states.device.type == "cpu" and kernel_limit() == self.limit

    def products(self, codes: Codes) -> Tensor:
        """Sums of products of whole numbers and the weights, in the units of what states are divided by."""
        if self.has_kernel(codes.numbers):
            if self._many is None:
                self._many = arrange(self.codes, self.steps)
            return products_of_codes(codes.numbers, self._many, self.limit)
        return whole_products(codes.whole(), self.codes, self.limit).mul_(self.steps.T)


def finish(sums: Tensor, largest: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """Multiply sums (T, out) by a number for each row, (T, 1), and add a bias; into `out`."""
    if bias is None:
        torch.mul(sums, largest, out=out)
    else:
        multiply_and_add(sums, largest, bias, out)


def bias_of(layer: Int8Linear) -> Tensor:
    """The bias of a layer, (out,), float32; zeros if it has none."""
    if layer.bias is None:
        return layer.weight_scale.detach().new_zeros(layer.out_features, dtype=torch.float32)
    return layer.bias.detach().float()


def parts_of(layers: Iterable[Int8Linear]) -> Iterator[Tensor]:
    """The tensors of layers, without the search that getting an attribute is."""
    return (part for layer in layers for part in layer._parameters.values() if part is not None)


def version_of(part: Tensor) -> int | None:
    """The number of changes to a tensor, where they are counted."""
    return None if part.is_inference() else part._version


def is_traced() -> bool:
    """Whether a graph is being made that is to run without this kernel: exported, or compiled."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling()


def needs_gradient(states: Tensor) -> bool:
    """Whether somebody will ask how a result changes with these states."""
    return torch.is_grad_enabled() and states.requires_grad


def compute(states: Tensor, layer: Int8Linear, buffer: Tensor) -> Tensor:
    """What a layer makes of states (T, in), (T, out); `buffer` may be overwritten by the result."""
    return compute_several(states, [layer], [buffer])[0]


def compute_several(states: Tensor, layers: Sequence[Int8Linear], buffers: Sequence[Tensor]) -> list[Tensor]:
    """What several layers make of the same states, which are rounded once; as `compute`."""
    stack = stack_of(layers, limit_for(states))
    count = rows_at_once()
    if 0 < len(states) <= count and states.dtype == torch.float32:
        return stack.results(states)
    for start in range(0, len(states), count):
        part = slice(start, start + count)
        stack.fill(states[part], [buffer[part] for buffer in buffers])
    return list(buffers)


def rows_at_once() -> int:
    """Tokens that should go through layers together."""
    return ROWS_AT_ONCE * torch.get_num_threads()


def stack_of(layers: Sequence[Int8Linear], limit: int) -> Stack:
    """Layers for the kernels; made anew when something has taken the place of a part."""
    place = "_alone" if len(layers) == 1 else "_together"
    made: Stack | None = layers[0].__dict__.get(place)
    if made is None or not made.is_of(layers, limit):
        made = layers[0].__dict__[place] = Stack(layers, limit)
    return made


def limit_for(states: Tensor) -> int:
    """The largest code that states are rounded to on their device."""
    return (kernel_limit() if states.device.type == "cpu" else None) or LIMITS[0]
