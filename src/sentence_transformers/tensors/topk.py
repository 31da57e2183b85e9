"""The best rows of a corpus for each query: exact, in bounded memory, and the same every time.

Scores are computed block by block, and of each block only what beats the best found so far is looked at,
so that selecting costs little beside the matrix product. Whatever the sizes of the blocks, of rows that
score the same the one that stands first in the corpus wins. How alike two embeddings are is handed in;
what the rows stand for is not known here.

A score that is NaN or minus infinity stands for "no match": such a row is never among the best.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sentence_transformers.tensors.blocks import (
    GROUP,
    BlockScorer,
    Rows,
    bytes_of_a_row,
    check_sizes,
    device_of,
    grouped,
    ranges,
    readable,
    row_count,
)
from sentence_transformers.tensors.int8_screening import RoundedQueryScreen
from sentence_transformers.tensors.screening import (
    QueryScreen,
    members_reaching,
    places_reaching,
    screen_of_queries,
)
from sentence_transformers.tensors.similarity import Similarity, cos_sim, dots_of_places

logger = logging.getLogger(__name__)

MAX_QUERIES = 1024
"""Queries that are scored at once; more do not make a matrix product faster."""

SCREENED_QUERIES = 512
"""Queries whose upper bounds are computed at once."""

MOST_RESCORED = 0.05
"""Share of a block's pairs above which it is scored in full instead of pair by pair."""

FEW_BETTER = 2
"""Rows of a block that are looked at one by one, in multiples of those that are kept; more are sorted together."""

DEFAULT_BYTES: Mapping[str, int] = {"cpu": 2**25, "elsewhere": 2**29}
"""Memory for a block of scores and the rows it is made of. On a CPU a block should stay near the cores."""


@dataclass(frozen=True)
class Best:
    """The best rows for each query, best first, k of them or fewer if the corpus is smaller."""

    scores: Tensor
    """(Q, k), minus infinity where a query has fewer matches."""

    rows: Tensor
    """Numbers of the rows in the corpus, (Q, k), -1 where a query has fewer matches."""


class TopK:
    """The best rows for each query, kept while the corpus arrives in chunks.

    Args:
        queries: One row per query.
        k: How many rows to keep for each query.
        similarity: Takes a block of queries and a block of the corpus, gives scores (Q, N). The rows of the
            cosine and the dot product may be half precision, and are scored in float32.
        own_rows: Where the queries themselves begin in the corpus, if they are part of it: query i is row
            `own_rows + i` and is no match of itself.
        at_least: Rows that score lower are no match.
        max_queries: Queries in a block of scores at most.
        max_rows: Rows of the corpus in a block at most.
        max_bytes: Memory for one block of scores and its rows; by default 32 MiB on a CPU and 512 MiB on
            other devices. The result, (Q, k), comes on top.
        device: Where to score, block by block; by default where the queries are.

    Raises:
        ValueError: If k or a size is below 1.
    """

    def __init__(
        self,
        queries: Rows,
        k: int,
        *,
        similarity: Similarity = cos_sim,
        own_rows: int | None = None,
        at_least: float | None = None,
        max_queries: int = MAX_QUERIES,
        max_rows: int | None = None,
        max_bytes: int | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        check_sizes(k=k, max_queries=max_queries, max_rows=max_rows, max_bytes=max_bytes)
        self.queries = readable(queries)
        self.k = k
        self.own_rows = own_rows
        self.at_least = at_least
        self.max_queries = max_queries
        self.max_rows = max_rows
        self.device = torch.device(device) if device is not None else device_of(self.queries)
        self.scorer = BlockScorer(similarity, self.device)
        self.max_bytes = max_bytes or DEFAULT_BYTES["cpu" if self.device.type == "cpu" else "elsewhere"]
        self.seen = 0
        count = row_count(self.queries)
        self.scores = torch.empty(count, 0, device=self.device)
        self.rows = torch.empty(count, 0, dtype=torch.int64, device=self.device)
        self.has_warned = False

    @property
    def best(self) -> Best:
        """The best rows of what has come so far."""
        return Best(self.scores, self.rows)

    @torch.no_grad()
    def add(self, corpus: Rows) -> None:
        """Search the next chunk of the corpus; its rows are numbered on from those of the chunk before."""
        corpus = readable(corpus)
        count = row_count(corpus)
        self.make_room(min(self.k, self.seen + count))
        # A query that is part of the corpus is no match of itself.
        reached = self.k + (self.own_rows is not None)
        screen = screen_of_queries(
            self.queries, corpus, self.scorer, reached, queries_at_once=self.max_queries
        )
        for rows in self.blocks_of(corpus, count):
            block = self.scorer.prepared(corpus, rows)
            if screen is not None and self.add_screened(screen, rows, block):
                continue
            for queries in ranges(row_count(self.queries), self.max_queries):
                own = self.scorer.prepared(self.queries, queries)
                scores = self.scorer.scores(own, block)  # (q, n)
                self.keep_best(
                    queries,
                    self.without_own_rows(scores, queries, rows),
                    self.seen + rows.start,
                )
        self.seen += count

    def add_screened(self, screen: QueryScreen | RoundedQueryScreen, rows: range, block: Tensor) -> bool:
        """Search a prepared block by way of upper bounds; says whether that could be done.

        What is kept is scored pair by pair, so that equal rows get the same score wherever they stand.
        """
        against = screen.against(block)
        if against is None:
            return False
        at_once = max(1, min(SCREENED_QUERIES, self.max_bytes // (16 * len(rows))))
        count = row_count(self.queries)
        # Parts of one size: a small rest multiplies slowly.
        at_once = math.ceil(count / math.ceil(count / at_once))
        for queries in ranges(count, at_once):
            part = slice(queries.start, queries.stop)
            threshold = self.threshold(queries)  # (q, 1)
            wanted = torch.maximum(threshold, screen.floors[part])
            bounds, limits = against.bounds(part), against.limits(part, wanted)  # (q, n), (q, 1)
            query, column, _ = places_reaching(self.without_own_rows(bounds, queries, rows), limits)
            own = screen.prepared[part]
            if len(query) > bounds.numel() * MOST_RESCORED:
                bounds, limits = self.scorer.scores(own, block), wanted - against.margin
                query, column, _ = places_reaching(self.without_own_rows(bounds, queries, rows), limits)
            scores = dots_of_places(own, block, query, column)  # (P,)
            is_better = scores > threshold[query, 0]
            column = column[is_better] + self.seen + rows.start
            self.take_over_places(queries, query[is_better], column, scores[is_better])
        return True

    def make_room(self, width: int) -> None:
        """Widen the result to this many rows for each query."""
        missing = width - self.scores.shape[1]
        self.scores = functional.pad(self.scores, (0, missing), value=-torch.inf)
        self.rows = functional.pad(self.rows, (0, missing), value=-1)

    def blocks_of(self, corpus: Rows, count: int) -> Iterator[range]:
        """Row numbers of the blocks that a chunk is cut into, so that each stays within the budget."""
        queries = min(self.max_queries, row_count(self.queries))
        # Scores are held twice while they are compared, and rows twice while they are normalised.
        bytes_for_each_row = 2 * (4 * max(1, queries) + bytes_of_a_row(corpus))
        size = max(1, self.max_bytes // bytes_for_each_row)
        # Without a rest there is no block that must be filled up to whole groups.
        size = size // GROUP * GROUP or size
        return ranges(count, min(size, self.max_rows or size))

    def without_own_rows(self, scores: Tensor, queries: range, rows: range) -> Tensor:
        """Scores in which no query matches itself."""
        if self.own_rows is None:
            return scores
        offset = self.own_rows + queries.start - self.seen - rows.start
        if not -len(queries) < offset < len(rows):
            return scores
        # A copy, as a similarity may hand out what it keeps.
        scores = scores.clone()
        scores.diagonal(offset).fill_(-torch.inf)
        return scores

    def keep_best(self, queries: range, scores: Tensor, first_row: int) -> None:
        """Take over what a block has that is better than what is kept.

        The rows of a block stand behind all that came before, so at the same score they lose.
        """
        if not scores.numel() or not self.scores.shape[1]:
            return
        if self.scores.dtype != scores.dtype:
            self.scores = self.scores.to(torch.promote_types(self.scores.dtype, scores.dtype))
        threshold = self.threshold(queries)  # (q, 1)
        groups = grouped(scores, at_least_groups=self.scores.shape[1])  # (q, G, g)
        largest = groups.amax(dim=-1)  # (q, G)
        if largest.isnan().any():
            self.warn_about_nan()
            groups = groups.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
            largest = groups.amax(dim=-1)
        if self.seen_enough(threshold):
            above = torch.nextafter(threshold, torch.full_like(threshold, torch.inf))
            query, column, values = members_reaching(groups, largest, above)
            if len(query) <= FEW_BETTER * self.scores[queries.start : queries.stop].numel():
                self.take_over_places(queries, query, column + first_row, values)
                return
        improved = (largest.amax(dim=1, keepdim=True) > threshold).nonzero()[:, 0]  # (r,)
        if not len(improved):
            return
        threshold, largest = threshold[improved], largest[improved]
        needed = int((largest > threshold).count_nonzero(dim=1).amax())
        # The k best scores lie in the k groups with the largest of them, even where scores are equal.
        found, rows = stable_topk(largest, min(self.k, needed))  # (r, m)
        size = groups.shape[-1]
        if size > 1:
            chosen = rows.sort(dim=1).values
            found = groups[improved.unsqueeze(1), chosen].flatten(1)  # (r, m * g)
            rows = (chosen.unsqueeze(-1) * size + torch.arange(size, device=self.device)).flatten(1)
            found, order = stable_topk(found, self.k)
            rows = rows.gather(1, order)
        found = found.masked_fill(found <= threshold, -torch.inf)
        self.take_over(improved + queries.start, found, rows + first_row)

    def take_over_places(self, queries: range, query: Tensor, row: Tensor, scores: Tensor) -> None:
        """Take over rows that are better than what is kept, (P,) each: in the order of queries, then of rows."""
        if not len(query):
            return
        # One line for each query with something better, filled up with minus infinity.
        improved, line, found = query.unique_consecutive(return_inverse=True, return_counts=True)
        place = torch.arange(len(query), device=query.device) - (found.cumsum(0) - found)[line]
        better = scores.new_full((len(improved), int(found.max())), -torch.inf)
        rows = torch.zeros_like(better, dtype=torch.int64)
        better[line, place], rows[line, place] = scores, row
        self.take_over(improved + queries.start, better, rows)

    def take_over(self, improved: Tensor, found: Tensor, rows: Tensor) -> None:
        """Sort further rows (r, m) with their scores in among those kept for some queries, (r,)."""
        merged = torch.cat([self.scores[improved], found], dim=1)  # (r, k + at most k)
        merged, order = merged.sort(dim=1, descending=True, stable=True)
        rows = torch.cat([self.rows[improved], rows], dim=1).gather(1, order)
        width = self.scores.shape[1]
        self.scores[improved], self.rows[improved] = merged[:, :width], rows[:, :width]

    def threshold(self, queries: range) -> Tensor:
        """What a score must exceed to be among the best, (q, 1)."""
        kept = self.scores[queries.start : queries.stop]
        # While there is room for more, anything that is a match gets in.
        is_full = kept.shape[1] == self.k
        lowest = kept[:, -1:] if is_full else kept.new_full((len(kept), 1), -torch.inf)
        if self.at_least is None:
            return lowest
        floor = torch.nextafter(lowest.new_tensor(self.at_least), lowest.new_tensor(-torch.inf))
        return lowest.clamp(min=floor)

    def seen_enough(self, threshold: Tensor) -> bool:
        """Whether every query has something to beat, (q, 1), so that few rows of a block are better."""
        return not bool(threshold.isneginf().any())

    def warn_about_nan(self) -> None:
        if not self.has_warned:
            logger.warning(
                "Some scores are not numbers (NaN), and their rows are left out of the results. Look for NaN in "
                "the embeddings; half precision overflows in some models."
            )
        self.has_warned = True


def top_k(queries: Rows, corpus: Rows, k: int, **options: Any) -> Best:
    """The best k rows of a corpus for each query.

    Args:
        queries: One row per query.
        corpus: The rows to search; a memory-mapped array is read block by block.
        k: How many rows to find for each query.
        **options: As of `TopK`.
    """
    search = TopK(queries, k, **options)
    search.add(corpus)
    return search.best


@torch.no_grad()
def top_k_both_ways(
    queries: Rows,
    corpus: Rows,
    k: int,
    *,
    similarity: Similarity = cos_sim,
    max_bytes: int | None = None,
    device: str | torch.device | None = None,
) -> tuple[Best, Best]:
    """The best k rows of each of two sets for each row of the other; every score is computed once.

    Args:
        queries: One set of rows.
        corpus: The other set.
        k: How many rows to find for each row.
        similarity: As of `TopK`, as are the other two.
        max_bytes: See there.
        device: See there.

    Returns:
        The best of `corpus` for each of `queries`, and the best of `queries` for each of `corpus`.
    """
    forward = TopK(queries, k, similarity=similarity, max_bytes=max_bytes, device=device)
    backward = TopK(corpus, k, similarity=similarity, max_bytes=max_bytes, device=forward.device)
    forward.make_room(min(k, row_count(backward.queries)))
    backward.make_room(min(k, row_count(forward.queries)))
    scorer = forward.scorer
    for columns in forward.blocks_of(backward.queries, row_count(backward.queries)):
        block = scorer.prepared(backward.queries, columns)
        for rows in ranges(row_count(forward.queries), forward.max_queries):
            scores = scorer.scores(scorer.prepared(forward.queries, rows), block)  # (n, m)
            forward.keep_best(rows, scores, columns.start)
            backward.keep_best(columns, scores.mT, rows.start)
    return forward.best, backward.best


def stable_topk(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row of (R, N), largest first, and where they stand; of equal ones the first.

    `torch.topk` takes any of the equal ones. NaN must not occur.
    """
    if k >= scores.shape[1]:
        return scores.sort(dim=1, descending=True, stable=True)
    values, places = scores.topk(k, dim=1)
    lowest = values[:, -1:]
    ambiguous = ((scores >= lowest).count_nonzero(dim=1) > k).nonzero().squeeze(1)
    if len(ambiguous):
        candidates, limit = scores[ambiguous], lowest[ambiguous]
        is_larger, is_equal = candidates > limit, candidates == limit
        room = k - is_larger.count_nonzero(dim=1).unsqueeze(1)
        kept = is_larger | (is_equal & (is_equal.cumsum(dim=1) <= room))  # k of each row
        places[ambiguous] = kept.nonzero()[:, 1].view(-1, k)
    places = places.sort(dim=1).values
    values, order = scores.gather(1, places).sort(dim=1, descending=True, stable=True)
    return values, places.gather(1, order)
