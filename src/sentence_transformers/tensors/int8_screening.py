"""Rule most pairs of rows out by products of whole numbers of eight bits, without ever ruling out a wrong one.

Each row is taken for whole multiples of a step of its own, and what is left of it is short. If x is near x' and q
near q', then x·q differs from x'·q' by at most |x - x'| |q| + |x'| |q - q'| (Cauchy-Schwarz). With what the rounding
of float32 may add, that is a bound for every pair, at the cost of a product in eight bits (`int8_products.py`). What
reaches a limit by its bound is scored in full by whoever asks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sentence_transformers.tensors.blocks import BlockScorer, Rows, ranges, row_count
from sentence_transformers.tensors.int8_products import (
    ABOVE,
    LARGEST_WEIGHT,
    Arranged,
    arrange,
    products_of_codes,
)

COST_OF_A_SCORE = {127: 0.4, 63: 0.5}
"""What a score in eight bits costs, in scores of float32, for each largest code of the kernel."""

COST_OF_ROUNDING = 100.0
"""What rounding and arranging a row costs, in the same measure, whatever the width."""

FEWEST_SCORES = 2**24
"""With fewer scores, preparing takes too large a part of the time."""

LARGEST_LENGTH = 2.0**60
"""Products of longer rows come near the end of float32."""

ROWS_AT_ONCE = 512
"""Rows that are rounded together, near the core."""

ROUNDING = 2.0**-24
"""Largest relative error of rounding to float32."""

LOST_LENGTH = 2.0**-62
"""No number whose square is lost, or inexact for being too small, is larger."""

TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class Rounded:
    """Rows as whole numbers, and how far these may be from the rows."""

    codes: Tensor
    """(n, D), int8."""

    steps: Tensor
    """What 1 stands for in each row, (n, 1)."""

    lengths: Tensor
    """No row is longer, (n, 1)."""

    errors: Tensor
    """No row is further from what its codes stand for, (n, 1)."""

    @property
    def is_usable(self) -> bool:
        """Whether all rows are numbers, and of a length that can be multiplied."""
        return not len(self.lengths) or bool(self.lengths.max() < LARGEST_LENGTH)

    def as_states(self, limit: int) -> Tensor:
        """The codes as the kernel reads states, (n, D) uint8."""
        return self.codes.view(torch.uint8) + (limit + 1)


def rounded(rows: Tensor, limit: int, *, is_measured: bool) -> Rounded:
    """Rows (n, D), float32, as whole numbers up to a limit.

    Args:
        rows: The rows.
        limit: The largest number.
        is_measured: Whether to compute how far each row is from its codes, which bounds it more closely than half
            a step for each of its numbers.
    """
    count, width = rows.shape
    # Sums of `width` squares, each of them rounded, and a root.
    longer = 1 + (width + 16) * ROUNDING
    codes = torch.empty(count, width, dtype=torch.int8)
    steps, lengths, errors = (torch.empty(count, 1) for _ in range(3))
    space = torch.empty(min(ROWS_AT_ONCE, count), width)
    for part in ranges(count, ROWS_AT_ONCE):
        place = slice(part.start, part.stop)
        own, numbers = rows[place], space[: len(part)]
        torch.linalg.vector_norm(own, dim=1, keepdim=True, out=lengths[place])
        torch.amax(torch.abs(own, out=numbers), dim=1, keepdim=True, out=steps[place])
        steps[place].mul_(ABOVE / limit).clamp_(min=TINY)
        torch.mul(own, steps[place].reciprocal(), out=numbers)
        if is_measured:
            nearest = numbers.round()
            codes[place] = nearest
            torch.linalg.vector_norm(numbers.sub_(nearest), dim=1, keepdim=True, out=errors[place])
        else:
            codes[place] = numbers.round_()
    lengths.mul_(longer).add_(math.sqrt(width) * LOST_LENGTH)
    # What stands in `numbers` is itself rounded.
    inexact = math.sqrt(width) * 4 * ROUNDING * limit
    if is_measured:
        errors.mul_(longer).add_(inexact).mul_(steps * longer)
    else:
        torch.mul(steps, (math.sqrt(width) / 2 + inexact) * longer, out=errors)
    return Rounded(codes, steps, lengths, errors)


def slack(
    states: Rounded, longest: float, furthest: float, largest_step: float, width: int
) -> tuple[Tensor, float]:
    """How much scores may exceed the products of codes of each of some rows (q, 1), and how much they may be off.

    Args:
        states: The rows.
        longest: The length of the longest of those that they are multiplied with.
        furthest: The largest error of these.
        largest_step: The largest step of these.
        width: How many numbers a row has.

    Returns:
        The first covers all that rounding may do; the second, for all rows together, that of scores in float32.
    """
    # What is compared in the end, and floors, are sums of `width` rounded products.
    rounding = (2 * width + 64) * ROUNDING
    reach = states.lengths + states.errors
    bound = states.lengths * furthest + (longest + furthest) * states.errors
    bound = bound * (1 + 16 * ROUNDING) + reach * ((longest + furthest) * rounding)
    # Wide sums of whole numbers are rounded when they become float32.
    bound += states.steps * (largest_step * width / 64) + width * TINY
    return bound, (rounding * longest * float(states.lengths.max()) if len(reach) else 0.0) + width * TINY


@dataclass(frozen=True)
class RoundedBounds:
    """Bounds of the scores of some queries with a block of a corpus."""

    queries: Rounded
    states: Tensor
    block: Arranged
    limit: int
    slack: Tensor
    """(Q, 1)"""

    margin: float
    """How much a score may be off by rounding."""

    def bounds(self, part: slice) -> Tensor:
        """Numbers (q, n), of which those that do not reach `limits` belong to scores that do not reach them."""
        return products_of_codes(self.states[part], self.block, self.limit)

    def limits(self, part: slice, wanted: Tensor) -> Tensor:
        """The limits for scores that are wanted, (q, 1)."""
        return (wanted - self.slack[part]) / self.queries.steps[part]


@dataclass(frozen=True)
class RoundedQueryScreen:
    """What a corpus is screened with for the best rows of some queries."""

    prepared: Tensor
    """The queries as they are scored, (Q, D)."""

    queries: Rounded

    states: Tensor
    """Their codes as the kernel reads them, (Q, D)."""

    limit: int
    """The largest of them."""

    floors: Tensor
    """A score that as many rows as are looked for do reach, (Q, 1)."""

    @classmethod
    def of(cls, prepared: Tensor, floors: Tensor, limit: int) -> RoundedQueryScreen | None:
        """The screen of queries (Q, D) as they are scored; None if they have no bounds."""
        queries = rounded(prepared, limit, is_measured=True)
        return cls(prepared, queries, queries.as_states(limit), limit, floors) if queries.is_usable else None

    def against(self, block: Tensor) -> RoundedBounds | None:
        """Bounds for a block of the corpus (n, D) as it is scored; None if it has none."""
        rows = rounded(block, LARGEST_WEIGHT, is_measured=False)
        if not rows.is_usable:
            return None
        extra, margin = slack(self.queries, *largest_of(rows), block.shape[1])
        arranged = arrange(rows.codes, rows.steps)
        return RoundedBounds(self.queries, self.states, arranged, self.limit, extra, margin)


@dataclass(frozen=True)
class RoundedScreen:
    """Rounded rows of one set whose products bound those of the rows."""

    rows: Rounded
    """As they are multiplied from the right."""

    own: Rounded
    """As they are multiplied from the left."""

    limit: int
    threshold: float

    def bounds(self, rows: range, columns: range) -> Tensor:
        """Numbers (n, m), of which those that do not reach `limits` belong to scores below the threshold."""
        right = slice(columns.start, columns.stop)
        states = self.own.codes[rows.start : rows.stop].view(torch.uint8) + (self.limit + 1)
        return products_of_codes(states, arrange(self.rows.codes[right], self.rows.steps[right]), self.limit)

    def limits(self, rows: range, columns: range) -> Tensor:
        """The limits of some rows with some others, (n, 1)."""
        own, others = some_of(self.own, rows), some_of(self.rows, columns)
        extra, _ = slack(own, *largest_of(others), own.codes.shape[1])
        return (self.threshold - extra) / own.steps


def rounded_screen(
    embeddings: Rows, scorer: BlockScorer, threshold: float, limit: int
) -> RoundedScreen | None:
    """A screen of all rows of a set; None if some have no bounds."""
    parts: list[tuple[Rounded, Rounded]] = []
    for part in ranges(row_count(embeddings), 8 * ROWS_AT_ONCE):
        block = scorer.prepared(embeddings, part)
        rows = rounded(block, LARGEST_WEIGHT, is_measured=True)
        if not rows.is_usable:
            return None
        parts.append((rows, rows if limit == LARGEST_WEIGHT else rounded(block, limit, is_measured=True)))
    right, left = (
        Rounded(
            *(
                torch.cat([getattr(part[side], name) for part in parts])
                for name in ("codes", "steps", "lengths", "errors")
            )
        )
        for side in (0, 1)
    )
    return RoundedScreen(right, left, limit, threshold)


def some_of(rows: Rounded, places: range) -> Rounded:
    part = slice(places.start, places.stop)
    return Rounded(rows.codes[part], rows.steps[part], rows.lengths[part], rows.errors[part])


def largest_of(rows: Rounded) -> tuple[float, float, float]:
    """The largest length, error and step of some rows."""
    if not len(rows.steps):
        return 0.0, 0.0, 0.0
    return float(rows.lengths.max()), float(rows.errors.max()), float(rows.steps.max())


def share_passing(some: Tensor, others: Tensor, limits: Tensor, limit: int, *, is_measured: bool) -> float:
    """The share of pairs of rows (S, D) and (T, D) whose bounds reach limits (S, 1), 1 if they have no bounds."""
    queries = rounded(some, limit, is_measured=True)
    rows = rounded(others, LARGEST_WEIGHT, is_measured=is_measured)
    if not (queries.is_usable and rows.is_usable):
        return 1.0
    extra, _ = slack(queries, *largest_of(rows), some.shape[1])
    return float((some @ others.mT >= limits - extra).float().mean())
