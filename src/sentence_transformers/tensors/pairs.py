"""Pairs of rows of one set: all that reach a score, or the best of them, each computed once.

Scores are symmetric, so only the half above the diagonal is computed. Where a score must be reached, most pairs
are ruled out by fewer numbers than the rows have (`screening.py`), and only the rest is scored in full. Either
way what is returned is exact.

The order of two rows must not matter to the similarity. A score that is NaN reaches nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sentence_transformers.tensors.blocks import (
    BlockScorer,
    Rows,
    check_sizes,
    device_of,
    is_dense,
    picked_rows,
    ranges,
    readable,
    row_count,
    some_rows,
)
from sentence_transformers.tensors.screening import places_reaching, screen_for
from sentence_transformers.tensors.similarity import Similarity, cos_sim, dots_of_places
from sentence_transformers.tensors.topk import top_k

PANEL_ROWS = 4096
"""Rows that are prepared once for all columns right of them."""

STRIP_ROWS = 1024
"""Rows of a block of scores. More of them waste more below the diagonal, fewer multiply more slowly."""

BLOCK_COLUMNS = 2048
"""Columns of a block of scores at most."""

SAMPLED_ROWS = 128
"""Rows by which the score is judged that the best pairs reach."""

SLACK = 1.05
"""How many more pairs than are asked for should reach the score that a sample suggests, at least."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows of one set."""

    scores: Tensor
    """(P,)"""

    first: Tensor
    """The lower row number of each pair, (P,)."""

    second: Tensor
    """The higher row number of each pair, (P,)."""

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, places: Any) -> Pairs:
        return Pairs(self.scores[places], self.first[places], self.second[places])

    @classmethod
    def joined(cls, parts: list[Pairs]) -> Pairs:
        if not parts:
            return cls(torch.empty(0), *torch.empty(2, 0, dtype=torch.int64))
        return cls(
            torch.cat([part.scores for part in parts]),
            torch.cat([part.first for part in parts]),
            torch.cat([part.second for part in parts]),
        )


@torch.no_grad()
def pairs_at_least(
    embeddings: Rows,
    threshold: float,
    *,
    max_pairs: int,
    similarity: Similarity = cos_sim,
    max_columns: int = BLOCK_COLUMNS,
    device: str | torch.device | None = None,
    progress: Callable[[int], Any] | None = None,
) -> Pairs | None:
    """All pairs of rows that reach a score.

    Args:
        embeddings: One row each, (N, D).
        threshold: The score to reach.
        max_pairs: More pairs than this are not kept.
        similarity: Takes two blocks of rows, gives scores (n, m).
        max_columns: Rows that a block is scored against at most.
        device: Where to score, block by block; by default where the embeddings are.
        progress: Called with the number of further rows that are done.

    Returns:
        The pairs, each once. For every row, the others that come before it stand in ascending order, and so do
        those behind it. None if there are more than `max_pairs`, as soon as that is known.
    """
    embeddings = readable(embeddings)
    scorer = BlockScorer(similarity, torch.device(device) if device is not None else device_of(embeddings))
    screen = screen_for(embeddings, scorer, threshold)
    parts: list[Pairs] = []
    count = 0
    for rows, columns, own, others in blocks_above_diagonal(embeddings, scorer, max_columns, progress):
        bounds = scorer.scores(own, others) if screen is None else screen.bounds(rows, columns)
        limit = threshold if screen is None else screen.limits(rows, columns)
        row, column, values = places_reaching(bounds, limit)
        if columns.start < rows.stop:
            is_behind = column + columns.start > row + rows.start
            row, column, values = row[is_behind], column[is_behind], values[is_behind]
        if screen is not None:
            values = dots_of_places(own, others, row, column)
            reached = values >= threshold
            row, column, values = row[reached], column[reached], values[reached]
        if len(row):
            parts.append(Pairs(values, row + rows.start, column + columns.start))
            count += len(row)
            if count > max_pairs:
                return None
    return Pairs.joined(parts)


def blocks_above_diagonal(
    embeddings: Rows, scorer: BlockScorer, max_columns: int, progress: Callable[[int], Any] | None = None
) -> Iterator[tuple[range, range, Any, Any]]:
    """Blocks of rows and columns, and both prepared, that hold each two rows of a set once.

    For every row the others come in ascending order, whether it stands among the rows or the columns.
    """
    count = row_count(embeddings)
    for panel in ranges(count, PANEL_ROWS):
        prepared = scorer.prepared(embeddings, panel)
        for start in range(panel.start, count, max_columns):
            columns = range(start, min(start + max_columns, count))
            others = scorer.prepared(embeddings, columns)
            for start_of_strip in range(panel.start, min(panel.stop, columns.stop), STRIP_ROWS):
                rows = range(start_of_strip, min(start_of_strip + STRIP_ROWS, panel.stop))
                own = some_rows(prepared, range(rows.start - panel.start, rows.stop - panel.start))
                behind = range(max(rows.start, columns.start), columns.stop)
                yield rows, behind, own, some_rows(others, range(behind.start - start, len(columns)))
        if progress is not None:
            progress(len(panel))


def best_pairs(
    embeddings: Rows,
    *,
    max_pairs: int,
    neighbours: int,
    rows_at_once: int = 5000,
    similarity: Similarity = cos_sim,
    max_rows: int | None = None,
    max_bytes: int | None = None,
    device: str | torch.device | None = None,
) -> Pairs:
    """The pairs of rows that are most alike.

    A pair counts if one of the two is among the best `neighbours` of the other. Of these pairs the best are
    returned, exactly, and each once.

    Args:
        embeddings: One row each, (N, D).
        max_pairs: How many pairs to return at most.
        neighbours: How many others each row is paired with at most.
        rows_at_once: Rows whose neighbours are kept at once, where they must be.
        similarity: Takes two blocks of rows, gives scores (n, m).
        max_rows: Rows that a block is scored against at most.
        max_bytes: Memory for a block of scores, as of `TopK`.
        device: Where to score; by default where the embeddings are.

    Returns:
        The pairs, best first; of pairs that score the same, those of the first rows first.

    Raises:
        ValueError: If a size is below 1.
    """
    check_sizes(max_pairs=max_pairs, neighbours=neighbours, rows_at_once=rows_at_once, max_rows=max_rows)
    embeddings = readable(embeddings)
    # If enough pairs reach a score, no list of neighbours is needed for those that do not.
    floor = sampled_floor(embeddings, max_pairs, neighbours, similarity, device)
    if floor is not None:
        columns = min(max_rows or BLOCK_COLUMNS, BLOCK_COLUMNS)
        found = pairs_at_least(
            embeddings,
            floor,
            max_pairs=4 * max_pairs,
            similarity=similarity,
            max_columns=columns,
            device=device,
        )
        if found is not None:
            found = among_neighbours(in_order(found), neighbours, row_count(embeddings))
            if len(found) >= max_pairs:
                return found[:max_pairs]
    options = {"similarity": similarity, "max_rows": max_rows, "max_bytes": max_bytes, "device": device}
    return best_pairs_of_neighbours(embeddings, max_pairs, neighbours, rows_at_once, **options)


def sampled_floor(
    embeddings: Rows, max_pairs: int, neighbours: int, similarity: Similarity, device: Any
) -> float | None:
    """A score that enough pairs should reach, judged by some rows; None where it cannot be told, or is no use."""
    count = row_count(embeddings)
    if not is_dense(embeddings) or count < 8 * SAMPLED_ROWS:
        return None
    sample = (
        torch.randperm(count, generator=torch.Generator().manual_seed(count))[:SAMPLED_ROWS].sort().values
    )
    # The worst case is that each pair is found from both of its rows.
    needed = int(2 * SLACK * max_pairs * len(sample) / count) + 1
    if needed >= len(sample) * min(neighbours, count - 1):
        return None
    best = top_k(
        picked_rows(embeddings, sample),
        embeddings,
        neighbours + 1,
        similarity=similarity,
        device=device,
    )
    # A row is no neighbour of itself.
    scores = best.scores[best.rows != sample.to(best.rows.device).unsqueeze(1)]
    floor = float(scores.topk(min(needed, len(scores))).values[-1]) if len(scores) else -torch.inf
    return floor if floor > -torch.inf else None


def among_neighbours(pairs: Pairs, neighbours: int, count: int) -> Pairs:
    """Those of all pairs above some score, best first, in which one row is among the best of the other."""
    # Half as wide, numbers sort faster.
    narrow = torch.int32 if count < 2**31 else torch.int64
    rows = torch.stack([pairs.first.to(narrow), pairs.second.to(narrow)], dim=1).flatten()  # (2P,)
    if torch.bincount(rows, minlength=count).amax() <= neighbours:
        return pairs
    # The pairs are in order, so how good a neighbour is says how often its row occurred before.
    row, place = rows.sort(stable=True)
    rank = torch.arange(len(row), device=row.device) - torch.searchsorted(row, row)
    counts = torch.empty_like(row, dtype=torch.bool).scatter_(0, place, rank < neighbours)
    return pairs[counts.view(-1, 2).any(dim=1)]


def in_order(pairs: Pairs) -> Pairs:
    """Pairs, best first; of pairs that score the same, those of the first rows first."""
    order = falling_order(pairs.scores)
    scores = pairs.scores[order]
    repeats = scores[1:] == scores[:-1]
    if repeats.any():
        # Only what is tied needs to be sorted by three keys.
        edge = repeats.new_zeros(1)
        tied = (torch.cat([repeats, edge]) | torch.cat([edge, repeats])).nonzero()[:, 0]
        members = order[tied]
        for key in (pairs.second, pairs.first):
            members = members[key[members].sort(stable=True).indices]
        order[tied] = members[falling_order(pairs.scores[members])]
    return pairs[order]


def falling_order(scores: Tensor) -> Tensor:
    """The order (P,) of scores, largest first; of equal ones the first. NaN must not occur."""
    if scores.dtype != torch.float32:
        return scores.sort(descending=True, stable=True).indices
    # Whole numbers sort ten times faster, and the bits of a float are one: adding 0 leaves no minus zero, and
    # negative floats count the wrong way round.
    bits = (scores + 0.0).view(torch.int32)
    return (~(bits ^ ((bits >> 31) & 0x7FFFFFFF))).sort(stable=True).indices


def best_pairs_of_neighbours(
    embeddings: Rows, max_pairs: int, neighbours: int, rows_at_once: int, **options: Any
) -> Pairs:
    """`best_pairs` by way of the best neighbours of each row: for any rows, in bounded memory."""
    count = row_count(embeddings)
    pool = Pairs.joined([])
    for rows in ranges(count, rows_at_once):
        # Once there are enough pairs, only better ones are worth looking for.
        is_full = len(pool) == max_pairs
        best = top_k(
            some_rows(embeddings, rows),
            embeddings,
            min(neighbours, max(count - 1, 1)),
            own_rows=rows.start,
            at_least=float(pool.scores[-1]) if is_full else None,
            **options,
        )
        found = best.rows >= 0
        query = found.nonzero()[:, 0] + rows.start  # (P,)
        pool = merged(pool, best.scores[found], query, best.rows[found], count)[:max_pairs]
    return pool


def merged(pool: Pairs, scores: Tensor, query: Tensor, row: Tensor, count: int) -> Pairs:
    """Pairs with further ones, in order. A pair that was found from both sides keeps its better score."""
    code = torch.minimum(query, row) * count + torch.maximum(query, row)
    code = torch.cat([pool.first.to(code.device) * count + pool.second.to(code.device), code])
    scores = torch.cat([pool.scores.to(scores), scores])
    code, place = code.unique(return_inverse=True)
    scores = scores.new_empty(len(code)).scatter_reduce(0, place, scores, "amax", include_self=False)
    scores, order = scores.sort(descending=True, stable=True)
    return Pairs(scores, code[order] // count, code[order] % count)
