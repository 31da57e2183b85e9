"""Find groups of rows that are close together: communities around a centre.

Which pairs of rows are close is found by `tensors/pairs.py`; here they are put together into groups.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from sentence_transformers.tensors.blocks import (
    BlockScorer,
    Rows,
    check_sizes,
    device_of,
    picked_rows,
    ranges,
    readable,
    row_count,
)
from sentence_transformers.tensors.pairs import Pairs, blocks_above_diagonal, pairs_at_least
from sentence_transformers.tensors.similarity import cos_sim, pairwise_dot_score

MAX_PAIRS = 2**22
"""Close pairs that are kept in memory at most, some 400 MB with what is made of them; where there are more, scores are
computed twice."""

ROWS_AT_ONCE = 4096

ROUNDING = 1e-6
"""How far the cosine of a row with itself may fall short of 1."""

MAX_SCORES = 2**24
"""Scores of centres that are kept at once, where they are computed again."""


def community_detection(
    embeddings: Tensor | np.ndarray,
    threshold: float = 0.75,
    min_community_size: int = 10,
    batch_size: int = 1024,
    show_progress_bar: bool = False,
) -> list[list[int]]:
    """Find communities: rows around a centre whose cosine similarity to it reaches a threshold.

    Every row is a possible centre. The row with most neighbours comes first and takes them all; each further
    one takes those that are left, if these are enough. The result is exact, and always the same.

    Args:
        embeddings: One row each, (N, D): a tensor or an array, which may be memory-mapped.
        threshold: Cosine similarity that each member reaches with the centre.
        min_community_size: Members, with the centre, that a community has at least.
        batch_size: Rows that are scored against others at once at most.
        show_progress_bar: Whether to show progress.

    Returns:
        The row numbers of each community, largest community first. The centre comes first, then the other
        members by falling similarity to it. No row is in two communities.

    Raises:
        ValueError: If a size is below 1, or the embeddings are not (N, D).
    """
    check_sizes(min_community_size=min_community_size, batch_size=batch_size)
    embeddings = readable(embeddings)
    count = row_count(embeddings)
    if count < min_community_size:
        return []
    with tqdm(total=count, desc="Finding communities", disable=not show_progress_bar) as progress:
        pairs = pairs_at_least(
            embeddings,
            threshold,
            max_pairs=MAX_PAIRS,
            similarity=cos_sim,
            max_columns=2 * batch_size,
            progress=progress.update,
        )
    may_be_center = reaches_itself(embeddings, threshold)
    if pairs is not None:
        found = communities_of_pairs(pairs, may_be_center, min_community_size)
    else:
        found = communities_of_many(embeddings, threshold, may_be_center, min_community_size, batch_size)
    return sorted((members.tolist() for members in found), key=len, reverse=True)


def reaches_itself(embeddings: Rows, threshold: float) -> np.ndarray:
    """Whether each row is as close to itself as a member must be, (N,): zero and NaN are not."""
    scorer = BlockScorer(cos_sim, device_of(embeddings))
    blocks = (scorer.prepared(embeddings, part) for part in ranges(row_count(embeddings), ROWS_AT_ONCE))
    closeness = torch.cat([pairwise_dot_score(block, block) for block in blocks])
    return (closeness >= threshold - ROUNDING).cpu().numpy()


def communities_of_pairs(pairs: Pairs, may_be_center: np.ndarray, minimum: int) -> Iterator[np.ndarray]:
    """Communities made of all close pairs of rows, as row numbers; those with most close rows first."""
    count = len(may_be_center)
    scores, first, second = (part.cpu().numpy() for part in (pairs.scores, pairs.first, pairs.second))
    row = np.concatenate([second, first])
    others, scores = np.concatenate([first, second]), np.concatenate([scores, scores])
    by_row = np.argsort(row, kind="stable")
    others, scores = others[by_row], scores[by_row]
    close = np.bincount(row, minlength=count)  # (N,)
    starts = np.concatenate([[0], np.cumsum(close)])
    is_free = np.ones(count, dtype=bool)
    for center in centers((close + 1) * may_be_center, minimum):
        if not is_free[center]:
            continue
        part = slice(starts[center], starts[center + 1])
        is_left = is_free[others[part]]
        members, closeness = others[part][is_left], scores[part][is_left]
        if len(members) + 1 >= minimum:
            members = around(center, members, closeness)
            is_free[members] = False
            yield members


def centers(sizes: np.ndarray, minimum: int) -> np.ndarray:
    """Rows with enough members (sizes (N,)), those with most first, and of these the first."""
    rows = np.flatnonzero(sizes >= minimum)
    return rows[np.argsort(-sizes[rows], kind="stable")]


def around(center: int, members: np.ndarray, closeness: np.ndarray) -> np.ndarray:
    """A centre, then its members by falling closeness, and of the same closeness the lowest row first."""
    return np.concatenate([[center], members[np.lexsort((members, -closeness))]])


@torch.no_grad()
def communities_of_many(
    embeddings: Rows, threshold: float, may_be_center: np.ndarray, minimum: int, batch_size: int
) -> Iterator[np.ndarray]:
    """Communities of rows of which too many are close to each other to keep all pairs.

    Scores are computed once to count the close rows of each, and again for the centres that come up; as large
    communities take most rows away, the second time is short.
    """
    scorer = BlockScorer(cos_sim, device_of(embeddings))
    count = len(may_be_center)
    close = np.zeros(count, dtype=np.int64)
    for rows, columns, own, others in blocks_above_diagonal(embeddings, scorer, 2 * batch_size):
        is_close = above_diagonal(scorer.scores(own, others) >= threshold, columns.start - rows.start)
        close[rows.start : rows.stop] += is_close.sum(dim=1).cpu().numpy()
        close[columns.start : columns.stop] += is_close.sum(dim=0).cpu().numpy()
    is_free = np.ones(count, dtype=bool)
    waiting = centers((close + 1) * may_be_center, minimum)
    while len(waiting := waiting[is_free[waiting]]):
        free = np.flatnonzero(is_free)
        at_once = max(1, min(batch_size, MAX_SCORES // len(free)))
        batch, waiting = waiting[:at_once], waiting[at_once:]
        own = scorer.prepared(picked_rows(embeddings, torch.from_numpy(batch)), range(len(batch)))
        blocks = (
            torch.from_numpy(free[part.start : part.stop]) for part in ranges(len(free), 16 * batch_size)
        )
        scores = torch.cat(
            [
                scorer.scores(own, scorer.prepared(picked_rows(embeddings, block), range(len(block))))
                for block in blocks
            ],
            dim=1,
        )
        for center, closeness in zip(batch, scores.cpu().numpy(), strict=True):
            if not is_free[center]:
                continue
            places = np.flatnonzero((closeness >= threshold) & is_free[free])
            places = places[free[places] != center]
            if len(places) + 1 >= minimum:
                members = around(center, free[places], closeness[places])
                is_free[members] = False
                yield members


def above_diagonal(are_close: Tensor, offset: int) -> Tensor:
    """Which are close (n, m), of the columns behind the row; the first one stands `offset` behind the first row."""
    corner = are_close[:, : max(0, len(are_close) - offset)]
    corner &= torch.ones_like(corner).triu(1 - offset)
    return are_close
