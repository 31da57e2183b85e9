"""Products of matrices of whole numbers of eight bits: the numbers, the trial of the kernel, and the kernel.

PyTorch has a kernel for states of eight bits without a sign and weights with one, and another that is faster for few
rows. Where a trial shows that its sums are exact on this processor, each is used; float32 computes the same whole
numbers elsewhere. Nothing here knows what the numbers stand for: layers of a model (`backend/int8.py`) or embeddings
(`int8_screening.py`).
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

LARGEST_WEIGHT = 127

LIMITS = (127, 63)
"""Largest codes of states that are tried: without instructions for it, sums of pairs of products of larger ones
do not fit the kernel's sixteen bits."""

EXACT = 2**24
"""Float32 holds every whole number up to here."""

ABOVE = 1 + 2**-22
"""A step is this much larger than it need be, so that no number is rounded to one above the limit."""


NUMBERS_AT_ONCE = 2**18
"""Numbers for each thread that are rounded together: fewer would be nearer to the core, but each round of steps
is a time when other threads wait for Python."""

FEW_ROWS = 40
"""Rows up to which the kernel for few of them is the faster one."""


class Codes(NamedTuple):
    """States as whole numbers, of which the largest of each row is `limit`."""

    numbers: Tensor
    """(T, in), uint8: `limit + 1` stands for zero, as the kernel reads it."""

    largest: Tensor
    """What `limit` stands for in each row, (T, 1), float32."""

    limit: int

    def whole(self) -> Tensor:
        """The numbers with their signs, (T, in), float32."""
        return self.numbers.float().sub_(self.limit + 1)


class Arranged(NamedTuple):
    """A weight in the order in which the kernel reads it."""

    weight: Tensor
    steps: Tensor
    """(out,), float32."""

    zeros: Tensor


def rounded_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A weight (out, in) as whole numbers, int8, and what 1 stands for in each row, (out, 1) float32."""
    weight = weight.float()
    steps = weight.abs().amax(dim=1, keepdim=True) / LARGEST_WEIGHT
    steps = torch.where(steps > 0, steps, 1.0)
    codes = (weight / steps).round_().clamp_(-LARGEST_WEIGHT, LARGEST_WEIGHT)
    return codes.to(torch.int8), steps


def rounded_states(states: Tensor, limit: int) -> Codes:
    """States (T, in) as whole numbers, each row by a step of its own."""
    numbers = torch.empty(states.shape, dtype=torch.uint8, device=states.device)
    # The conversion to numbers with a sign is the faster one.
    filled = numbers.view(torch.int8) if 2 * limit + 1 <= LARGEST_WEIGHT else numbers
    largest = torch.empty(len(states), 1, device=states.device)
    count = max(1, NUMBERS_AT_ONCE * torch.get_num_threads() // max(1, states.shape[1]))
    for start in range(0, len(states), count):
        part = slice(start, start + count)
        shifted, found = shifted_rows(states[part], limit)
        filled[part].copy_(shifted)
        largest[part] = found
    return Codes(numbers, largest, limit)


def shifted_rows(states: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Numbers whose whole parts are the codes of states (T, in), (T, in), and the largest state of each row, (T, 1).

    All are above zero, so that cutting off what follows the point rounds to the nearest. A row of zeros becomes
    anything, times nothing. One with NaN or infinity has such a largest state, which its results show.
    """
    states = states.float()
    spare = torch.empty_like(states)
    largest = torch.abs(states, out=spare).amax(1, keepdim=True)
    whole, middle = constants(states.shape[1], limit, states.device)
    return multiply_and_add(states, whole / largest, middle, spare), largest


@lru_cache(maxsize=64)
def constants(width: int, limit: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The limit, and what is added to each state in steps, (in,): the code for zero, and a half."""
    with torch.inference_mode(False):
        return torch.tensor(float(limit), device=device), torch.full((width,), limit + 1.5, device=device)


def multiply_and_add(values: Tensor, factors: Tensor, added: Tensor, out: Tensor) -> Tensor:
    """`values · factors + added` for values (T, N), a factor of each row (T, 1), and (N,) or (T, N); into `out`."""
    if adds_alike():
        return torch.addcmul(added, values, factors, out=out)
    return torch.mul(values, factors, out=out).add_(added)


@lru_cache(maxsize=1)
def adds_alike() -> bool:
    """Whether multiplying and adding in one step rounds all numbers of a row alike, those at its end too."""
    random = torch.Generator().manual_seed(0)
    one, two, three = (torch.randn(500, 1, generator=random).expand(-1, 71).contiguous() for _ in range(3))
    sums = torch.addcmul(one, two, three[:, :1])
    return torch.equal(sums, sums[:, :1].expand_as(sums))


def arrange(weight: Tensor, steps: Tensor) -> Arranged:
    """A weight (out, in), int8, with its steps, (out, 1), for the kernel."""
    packed = torch.ops.onednn.qlinear_prepack(weight, None)
    return Arranged(packed, steps.float().flatten(), torch.zeros(len(steps), dtype=torch.int64))


def products_of_codes(codes: Tensor, made: Arranged, limit: int) -> Tensor:
    """Sums of products of whole numbers and an arranged weight, times the weight's steps, (T, out) float32.

    Args:
        codes: The numbers as the kernel reads them, (T, in), uint8: `limit + 1` stands for zero.
        made: The weight.
        limit: The largest of the numbers.
    """
    result: Tensor = torch.ops.onednn.qlinear_pointwise(
        codes, 1.0, limit + 1, made.weight, made.steps, made.zeros, None, 1.0, 0, torch.float32, "none", [], "none"
    )  # fmt: skip
    return result


def whole_products(numbers: Tensor, weight: Tensor, limit: int) -> Tensor:
    """Sums of products of whole numbers and a weight (out, in), (T, out) float32."""
    width = EXACT // (limit * LARGEST_WEIGHT)
    parts = [
        left @ right.float().T
        for left, right in zip(numbers.split(width, dim=1), weight.split(width, dim=1), strict=True)
    ]
    return parts[0] if len(parts) == 1 else torch.stack([part.double() for part in parts]).sum(dim=0).float()


@lru_cache(maxsize=1)
def kernel_limit() -> int | None:
    """The largest code for which PyTorch's kernel is exact on this processor; None if there is no such kernel."""
    return next((limit for limit in LIMITS if is_exact(limit)), None)


def is_exact(limit: int) -> bool:
    """Whether the kernel gives exact sums of the largest codes, and of some others."""
    numbers, weight = trial(limit)
    exact = whole_products(numbers, weight, limit)
    try:
        made = arrange(weight, torch.ones(len(weight), 1))
        return torch.equal(products_of_codes(as_codes(numbers, limit), made, limit), exact)
    except (AttributeError, NotImplementedError, RuntimeError):  # a PyTorch that was built without it
        return False


def trial(limit: int) -> tuple[Tensor, Tensor]:
    """Whole numbers (T, in), float32, and a weight (out, in), int8, whose products are the hardest ones."""
    rows, width, out = 48, 512, 64
    random = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (rows, width), generator=random) * 2.0 - 1.0
    numbers = torch.cat(
        [
            torch.full((rows, width), float(limit)),
            limit * signs,
            torch.randint(-limit, limit + 1, signs.shape, generator=random).float(),
        ]
    )
    weight = torch.randint(-LARGEST_WEIGHT, LARGEST_WEIGHT + 1, (out, width), generator=random)
    weight[0], weight[1], weight[2:50] = LARGEST_WEIGHT, -LARGEST_WEIGHT, LARGEST_WEIGHT * signs
    return numbers, weight.to(torch.int8)


def as_codes(numbers: Tensor, limit: int) -> Tensor:
    """Whole numbers (T, in) as the kernel reads them: uint8, of which `limit + 1` stands for zero."""
    return (numbers + (limit + 1)).to(torch.uint8)


def arrange_for_few(weight: Tensor, steps: Tensor) -> Any:
    """A weight (out, in), int8, with its steps, (out, 1), for the kernel for few rows."""
    quantized = torch._make_per_channel_quantized_tensor(
        weight, steps.double().flatten(), torch.zeros(len(steps), dtype=torch.int64), 0
    )
    return torch.ops.quantized.linear_prepack(quantized, None)


def products_of_few(numbers: Tensor, made: Any, limit: int) -> Tensor:
    """`products_of_codes` of few whole numbers (T, in), float32, by the kernel for them."""
    result: Tensor = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
        numbers, 1.0, limit + 1, made
    )
    return result


@lru_cache(maxsize=1)
def is_exact_for_few() -> bool:
    """Whether the kernel for few rows gives the same, to the last bit, as the other one."""
    limit = kernel_limit()
    if limit is None:
        return False
    numbers, weight = trial(limit)
    steps = torch.rand(len(weight), 1, generator=torch.Generator().manual_seed(0)) + 1e-3
    wanted = products_of_codes(as_codes(numbers, limit), arrange(weight, steps), limit)
    try:
        with warnings.catch_warnings():
            # PyTorch says once that it will remove such tensors one day. Then there is no such kernel.
            warnings.simplefilter("ignore")
            made = arrange_for_few(weight, steps)
        return all(
            torch.equal(products_of_few(numbers[rows], made, limit), wanted[rows])
            for rows in (slice(None), slice(1), slice(60, 67))
        )
    except (AttributeError, NotImplementedError, RuntimeError):  # a PyTorch without it, or another processor
        return False
