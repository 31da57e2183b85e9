"""Rule most pairs of rows out by fewer numbers than the rows have, without ever ruling out a wrong one.

Rows are turned so that their leading numbers hold as much as possible (principal axes of a sample). The dot
product of two rows is that of their leading numbers plus that of the rest, and the rest is at most the product
of its lengths (Cauchy-Schwarz). With the length of the rest as one more number, the dot product of the shortened
rows is an upper bound of the true one. It costs a fraction, and a pair whose bound does not reach the threshold
cannot reach it either.

Another screen keeps all numbers, rounded to eight bits (`int8_screening.py`). Which of them is used, and how many
numbers are kept, is judged by the sample; where nothing is saved, there is no screen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sentence_transformers.tensors.blocks import (
    BlockScorer,
    Rows,
    grouped,
    is_dense,
    picked_rows,
    ranges,
    row_count,
)
from sentence_transformers.tensors.int8_products import kernel_limit
from sentence_transformers.tensors.int8_screening import (
    COST_OF_A_SCORE,
    COST_OF_ROUNDING,
    FEWEST_SCORES,
    RoundedQueryScreen,
    RoundedScreen,
    rounded_screen,
    share_passing,
)

SAMPLED_ROWS = 1024
"""Rows that the axes are taken from, and the worth of a screen is judged by."""

SHARES_OF_WIDTH = (1 / 16, 1 / 12, 1 / 8, 1 / 6, 1 / 4, 1 / 3, 1 / 2)
"""How many of the numbers to keep, of which the best is chosen."""

ROWS_FOR_FLOORS = 4096
"""Rows by which it is judged what the best of the corpus reach at least."""

SHARE_FOR_FLOORS = 64
"""Of a smaller corpus, one in so many rows."""

SAMPLED_QUERIES = 128

FEWEST_QUERIES = 128
"""For fewer queries, shortening a corpus costs more than it saves."""

SCORES_FOR_AXES = 800
"""With fewer scores than this times their squared width, finding the axes takes too large a part of the time."""

COST_OF_RESCORING = 20.0
"""What scoring one pair by itself costs, in scores of a matrix product."""

COST_OF_SELECTING = 0.1
"""What looking at one bound costs, in the same measure, whatever the width."""

WORTHWHILE = 0.85
"""Largest estimated cost, relative to scoring all in full, at which a screen is used."""

MAX_BYTES = 2**28
"""Memory for the shortened rows, or for prepared queries."""

ROWS_AT_ONCE = 4096

ROUNDING = 2.0**-24
"""Largest relative error of rounding to float32."""


@dataclass(frozen=True)
class Axes:
    """The leading axes, and how far rounding may lead astray along them."""

    vectors: Tensor
    """(D, k), orthonormal columns."""

    @property
    def error(self) -> float:
        """Largest error of rows along the axes, as a vector, relative to the length of the row."""
        width, kept = self.vectors.shape
        # Each number is a sum of `width` rounded products, of axes that are rounded themselves.
        return (width + 4) * math.sqrt(kept) * ROUNDING

    def margin(self, largest: float, other: float) -> float:
        """How much a bound, or the score that is compared in the end, may be off by rounding.

        Args:
            largest: The largest length of a row.
            other: The same for the rows that they are multiplied with.
        """
        width, kept = self.vectors.shape
        return (3 * self.error + (kept + width + 32) * ROUNDING) * largest * other

    def shortened(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (n, D) along the axes with the length of the rest, (n, k + 1), and their squared lengths, (n,)."""
        width, kept = self.vectors.shape
        short = rows.new_empty(len(rows), kept + 1)
        leading = torch.matmul(rows, self.vectors, out=short[:, :kept])
        squares = torch.linalg.vector_norm(rows, dim=1).square_()
        rest = squares - torch.linalg.vector_norm(leading, dim=1).square_()
        # The rest must not be taken for shorter than it is.
        rest += (3 * self.error + 2 * (width + kept + 8) * ROUNDING) * squares
        torch.sqrt(rest.clamp_(min=0), out=short[:, kept])
        return short, squares


@dataclass(frozen=True)
class Screen:
    """Shortened rows whose dot products bound those of the rows."""

    rows: Tensor
    """(N, k + 1): leading numbers, and the length of the rest."""

    threshold: float
    """A pair with a smaller bound is ruled out; lower than the true threshold by what rounding may do."""

    def bounds(self, rows: range, columns: range) -> Tensor:
        """Upper bounds (n, m) of the scores of some rows with some others."""
        return self.rows[rows.start : rows.stop] @ self.rows[columns.start : columns.stop].mT

    def limits(self, rows: range, columns: range) -> float:
        """What the bounds of some rows with some others must reach."""
        return self.threshold


def screen_for(embeddings: Rows, scorer: BlockScorer, threshold: float) -> Screen | RoundedScreen | None:
    """A screen of rows for pairs that reach a threshold; None where it would not pay.

    Args:
        embeddings: One row each, (N, D).
        scorer: What scores them. Only dot products and cosines on a CPU are screened.
        threshold: The score that a pair must reach.
    """
    count = row_count(embeddings)
    scores = count * count // 2
    by_axes, limit = ways_to_screen(embeddings, scorer, scores)
    sample = sample_of(embeddings, SAMPLED_ROWS, scorer) if by_axes or limit else None
    if sample is None:
        return None
    width = sample.shape[1]
    places = torch.arange(len(sample)) % 4 == 0
    limits = torch.full((int(places.sum()), 1), threshold)
    cost = math.inf
    # Rounded from the left and from the right.
    if limit and 2 * count * width <= MAX_BYTES:
        passing = share_passing(sample[places], sample[~places], limits, limit, is_measured=True)
        cost = COST_OF_A_SCORE[limit] + cost_of_bounds(passing) + 4 * COST_OF_ROUNDING / count
    kept = None
    if by_axes:
        vectors = principal_axes(sample)
        turned = sample @ vectors
        most = MAX_BYTES // (4 * count) - 1
        kept = numbers_to_keep(turned[places], turned[~places], limits, most=most, below=cost)
    if kept is None:
        return rounded_screen(embeddings, scorer, threshold, limit) if limit and cost < WORTHWHILE else None
    axes = Axes(vectors[:, :kept].contiguous())
    rows = torch.empty(count, kept + 1)
    largest = 0.0
    for part in ranges(count, ROWS_AT_ONCE):
        rows[part.start : part.stop], squares = axes.shortened(scorer.prepared(embeddings, part))
        largest = max(largest, float(squares.max())) if squares.isfinite().all() else torch.inf
        if largest == torch.inf:
            return None
    length = math.sqrt(largest)
    return Screen(rows, threshold - axes.margin(length, length))


@dataclass(frozen=True)
class QueryScreen:
    """What a corpus is screened with for the best rows of some queries."""

    axes: Axes

    prepared: Tensor
    """The queries as they are scored, (Q, D)."""

    queries: Tensor
    """Shortened queries, (Q, k + 1)."""

    length: float
    """The largest length of a query."""

    floors: Tensor
    """A score that as many rows as are looked for do reach, (Q, 1)."""

    def against(self, block: Tensor) -> ShortenedBounds | None:
        """Bounds for a block of the corpus (n, D) as it is scored; None if it has none."""
        short, squares = self.axes.shortened(block)
        if not squares.isfinite().all():
            return None
        margin = self.axes.margin(self.length, math.sqrt(float(squares.max())))
        return ShortenedBounds(self.queries, short, margin)


@dataclass(frozen=True)
class ShortenedBounds:
    """Bounds of the scores of some queries with a block of a corpus."""

    queries: Tensor
    block: Tensor
    margin: float
    """How much a bound, or the score that is compared in the end, may be off by rounding."""

    def bounds(self, part: slice) -> Tensor:
        """Upper bounds (q, n) of the scores of some queries."""
        return self.queries[part] @ self.block.mT

    def limits(self, part: slice, wanted: Tensor) -> Tensor:
        """What the bounds must reach for scores that are wanted, (q, 1)."""
        return wanted - self.margin


def screen_of_queries(
    queries: Rows, corpus: Rows, scorer: BlockScorer, k: int, *, queries_at_once: int
) -> QueryScreen | RoundedQueryScreen | None:
    """A screen of a corpus for the k best rows of each query; None where it would not pay.

    Args:
        queries: One row per query, (Q, D).
        corpus: The rows to search, (N, D).
        scorer: What scores them.
        k: How many rows each query must find at least, before a floor can be told.
        queries_at_once: Queries that are scored with the sample together.
    """
    count = row_count(queries)
    if count < FEWEST_QUERIES or not is_dense(queries) or 4 * count * queries.shape[1] > MAX_BYTES:
        return None
    scores = count * row_count(corpus)
    by_axes, limit = ways_to_screen(corpus, scorer, scores)
    if not by_axes and not limit:
        return None
    size = max(SAMPLED_ROWS, min(ROWS_FOR_FLOORS, row_count(corpus) // SHARE_FOR_FLOORS))
    sample = sample_of(corpus, size, scorer)
    if sample is None or len(sample) <= 4 * k:
        return None
    prepared = scorer.prepared(queries, range(count))
    if prepared.dtype != torch.float32 or not prepared.isfinite().all():
        return None
    some = prepared[:: max(1, count // SAMPLED_QUERIES)]
    # Of the whole corpus as many rows are as good as these of the sample.
    rank = min(k, 1 + 2 * k * len(sample) // row_count(corpus))
    limits = scorer.scores(some, sample).topk(rank, dim=1).values[:, -1:]
    others = sample[-SAMPLED_ROWS:]
    cost, kept = math.inf, None
    if limit:
        passing = share_passing(some, others, limits, limit, is_measured=False)
        cost = COST_OF_A_SCORE[limit] + cost_of_bounds(passing) + COST_OF_ROUNDING / count
    if by_axes:
        vectors = principal_axes(sample[:SAMPLED_ROWS])
        kept = numbers_to_keep(some @ vectors, others @ vectors, limits, uses=count, below=cost)
    if kept is None and cost >= WORTHWHILE:
        return None
    floors = [
        scorer.scores(prepared[part.start : part.stop], sample).topk(k, dim=1).values[:, -1:]
        for part in ranges(count, queries_at_once)
    ]
    if kept is None:
        return RoundedQueryScreen.of(prepared, torch.cat(floors), limit) if limit else None
    axes = Axes(vectors[:, :kept].contiguous())
    short, squares = axes.shortened(prepared)
    return QueryScreen(axes, prepared, short, math.sqrt(float(squares.max())), torch.cat(floors))


def places_reaching(bounds: Tensor, limits: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where (n, m) numbers reach a limit, or that of their row, (n, 1): row by row.

    Returns:
        The rows, the columns, and the numbers themselves, (P,) each.
    """
    groups = grouped(bounds, at_least_groups=1)  # (n, G, g)
    return members_reaching(groups, groups.amax(dim=-1), limits)


def members_reaching(
    groups: Tensor, largest: Tensor, limits: float | Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`places_reaching` for numbers in groups, (n, G, g), of which the largest are known, (n, G)."""
    per_row, size = groups.shape[1:]
    # A NaN must not hide the rest of its group.
    flat = (~(largest < limits)).flatten().nonzero()[:, 0]  # (h,)
    # One index is many times faster than two.
    members = groups.reshape(-1, size).index_select(0, flat)  # (h, g)
    if isinstance(limits, Tensor):
        limits = limits[:, 0].index_select(0, flat // per_row).unsqueeze(1)
    place = (members >= limits).flatten().nonzero()[:, 0]  # (P,)
    hit = flat.index_select(0, place // size)
    row = hit // per_row
    return (
        row,
        (hit - row * per_row) * size + place % size,
        members.flatten().index_select(0, place),
    )


def ways_to_screen(embeddings: Rows, scorer: BlockScorer, scores: int) -> tuple[bool, int | None]:
    """Whether so many scores are worth finding axes, and the largest code if they are worth rounding."""
    if not scorer.is_dot_product or not is_dense(embeddings) or scorer.device.type != "cpu":
        return False, None
    limit = kernel_limit() if scores >= FEWEST_SCORES else None
    return scores >= SCORES_FOR_AXES * embeddings.shape[1] ** 2, limit


def sample_of(embeddings: Rows, size: int, scorer: BlockScorer) -> Tensor | None:
    """Some rows (S, D), prepared, in random order; None if they are no float32."""
    count = row_count(embeddings)
    picked = torch.randperm(count, generator=torch.Generator().manual_seed(count))[: min(size, count // 4)]
    sample = scorer.prepared(picked_rows(embeddings, picked), range(len(picked)))
    return sample if sample.dtype == torch.float32 and sample.isfinite().all() else None


def principal_axes(sample: Tensor) -> Tensor:
    """Orthonormal axes (D, D), as columns, in which a sample (S, D) has its largest numbers first."""
    sample = sample.double()
    return torch.linalg.eigh(sample.mT @ sample).eigenvectors.flip(1).float()


def numbers_to_keep(
    some: Tensor,
    others: Tensor,
    limits: Tensor,
    *,
    most: int | None = None,
    uses: float = math.inf,
    below: float = math.inf,
) -> int | None:
    """How many leading numbers make the cheapest screen of some rows (S, D) against others, turned to the axes.

    Args:
        some: (S, D).
        others: (T, D).
        limits: The score to reach for each of `some`, (S, 1).
        most: More may not be kept.
        uses: How many rows each shortened one is compared with, which shares the cost of shortening it.
        below: What another screen costs.

    Returns:
        The number, or None if no screen pays.
    """
    width = some.shape[1]
    best, least = None, min(WORTHWHILE, below)
    for share in SHARES_OF_WIDTH:
        kept = max(1, round(share * width))
        if most is not None and kept > most:
            break
        rest, rest_of_others = (torch.linalg.vector_norm(rows[:, kept:], dim=1) for rows in (some, others))
        bounds = some[:, :kept] @ others[:, :kept].mT + rest.unsqueeze(1) * rest_of_others
        passing = float((bounds >= limits).float().mean())
        cost = (kept + 1) / width + cost_of_bounds(passing) + 2 * kept / uses
        if cost < least:
            best, least = kept, cost
    return best


def cost_of_bounds(passing: float) -> float:
    """What it costs to look at a bound, and to score the share that passes, in scores of a matrix product."""
    return COST_OF_SELECTING + COST_OF_RESCORING * passing
