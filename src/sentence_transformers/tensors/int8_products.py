"""Products of matrices of whole numbers of eight bits: the numbers, the trial of the kernel, and the kernel.

PyTorch has a kernel for states of eight bits without a sign and weights with one. Where a trial shows that its sums
are exact on this processor, it is used; float32 computes the same whole numbers elsewhere. Nothing here knows what
the numbers stand for: layers of a model (`backend/int8.py`) or embeddings (`int8_screening.py`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

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


class Codes(NamedTuple):
    """States as whole numbers."""

    numbers: Tensor
    """(T, in), float32: what the states are, in steps."""

    steps: Tensor
    """What 1 stands for in each row, (T, 1), float32."""

    limit: int
    """The largest number."""


class Arranged(NamedTuple):
    """A weight in the order in which the kernel reads it, and which one it was made from."""

    weight: Tensor
    steps: Tensor
    """(out,), float32."""

    zeros: Tensor
    source: Tensor
    version: int | None


def rounded_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A weight (out, in) as whole numbers, int8, and what 1 stands for in each row, (out, 1) float32."""
    weight = weight.float()
    steps = weight.abs().amax(dim=1, keepdim=True) / LARGEST_WEIGHT
    steps = torch.where(steps > 0, steps, 1.0)
    codes = (weight / steps).round_().clamp_(-LARGEST_WEIGHT, LARGEST_WEIGHT)
    return codes.to(torch.int8), steps


def rounded_states(states: Tensor, limit: int) -> Codes:
    """States (T, in) as whole numbers, each row by a step of its own."""
    states = states.float()
    steps = states.abs().amax(dim=1, keepdim=True)
    # A row of zeros has no step. One with NaN or infinity gets such a step, which its results show.
    steps = steps.mul_(ABOVE / limit).clamp_min_(torch.finfo(torch.float32).tiny)
    return Codes(torch.div(states, steps).round_(), steps, limit)


def arrange(weight: Tensor, steps: Tensor, version: int | None = None) -> Arranged:
    """A weight (out, in), int8, with its steps, (out, 1), for the kernel."""
    packed = torch.ops.onednn.qlinear_prepack(weight, None)
    return Arranged(
        packed, steps.float().flatten(), torch.zeros(len(steps), dtype=torch.int64), weight, version
    )


def products(numbers: Tensor, made: Arranged, limit: int) -> Tensor:
    """Sums of products of whole numbers (T, in) and an arranged weight, times the weight's steps, (T, out) float32."""
    return products_of_codes(codes_of(numbers, limit), made, limit)


def codes_of(numbers: Tensor, limit: int) -> Tensor:
    """Whole numbers (T, in) as the kernel reads states: uint8, of which `limit + 1` stands for zero."""
    return numbers.to(torch.int8).view(torch.uint8).add_(limit + 1)


def products_of_codes(codes: Tensor, made: Arranged, limit: int) -> Tensor:
    """`products` for whole numbers that are the kernel's codes already."""
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
    weight = weight.to(torch.int8)
    exact = whole_products(numbers, weight, limit)
    try:
        return torch.equal(products(numbers, arrange(weight, torch.ones(out, 1)), limit), exact)
    except (AttributeError, NotImplementedError, RuntimeError):  # a PyTorch that was built without it
        return False
