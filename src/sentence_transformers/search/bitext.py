"""Find translations: pairs of sentences of two languages that mean the same, in texts that are not aligned.

A high cosine alone does not tell a translation: some sentences are near to everything. The margin compares the
cosine of two sentences with that of each to its other neighbours. After Artetxe and Schwenk 2019, "Margin-based
Parallel Corpus Mining with Multilingual Sentence Embeddings".

How neighbours are found stands in `tensors/topk.py`; texts and models are not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sentence_transformers.search.retrieval import lists_of
from sentence_transformers.tensors.blocks import check_sizes, readable, row_count
from sentence_transformers.tensors.topk import Best, top_k_both_ways


def bitext_mining(
    source_embeddings: Tensor,
    target_embeddings: Tensor,
    k: int = 4,
    margin: str = "ratio",
    retrieval: str = "max",
    min_score: float | None = None,
    *,
    max_bytes: int | None = None,
) -> list[list[float | int]]:
    """Find the rows of two sets of embeddings that are translations of each other.

    Each row proposes, of its `k` nearest rows of the other side by cosine, the one with the largest margin.
    With b the mean of two means, that of the cosines of the source row to its k nearest targets and that of the
    target row to its k nearest sources, the margin of a pair with cosine a is

    - "ratio": a / b, around 1 for a pair that does not stand out. A pair whose b is not above zero has no such
      ratio, and is left out.
    - "distance": a - b.
    - "absolute": a, the cosine itself.

    Artetxe and Schwenk 2019, "Margin-based Parallel Corpus Mining with Multilingual Sentence Embeddings".

    Args:
        source_embeddings: One row per sentence of the one language, (S, D): a tensor, an array, also a
            memory-mapped one, or a list. Scored where they are.
        target_embeddings: One row per sentence of the other, (T, D), of the same multilingual model.
        k: How many neighbours count. Where the other side has fewer rows, all of them do.
        margin: "ratio", "distance" or "absolute".
        retrieval: Which of the proposed pairs are kept. "forward": those that source rows propose. "backward":
            those that target rows propose. "intersection": those that both propose. "max": of all proposals the
            best one, then the best of what is left without its two rows, and so on.
        min_score: Leave out pairs with a lower margin; None to keep all.
        max_bytes: See `tensors.topk.TopK`.

    Returns:
        Lists `[margin, row of the source, row of the target]`, best first, then by rows. With "max" and
        "intersection" each row occurs once at most; with "forward" (or "backward") each source (target) row
        does. A row that holds NaN is in no pair.

    Raises:
        ValueError: If a set is empty or has no rows, if their widths differ, if `k` or `max_bytes` is below 1,
            or if `margin` or `retrieval` is not known.

    Example:
        >>> pairs = bitext_mining(model.encode(["A cat.", "Rain."]), model.encode(["Es regnet.", "Eine Katze."]))
        >>> [pair[1:] for pair in pairs]
        [[0, 1], [1, 0]]
    """
    check_sizes(k=k, max_bytes=max_bytes)
    check_choice("margin", margin, MARGINS)
    check_choice("retrieval", retrieval, RETRIEVALS)
    source, target = readable(source_embeddings), readable(target_embeddings)
    check_sides(source, target)

    forward, backward = top_k_both_ways(source, target, k, max_bytes=max_bytes)
    mean_of_source, mean_of_target = mean_score(forward), mean_score(backward)  # (S,), (T,)
    best_target = proposals(forward, mean_of_source, mean_of_target, MARGINS[margin])
    best_source = proposals(backward, mean_of_target, mean_of_source, MARGINS[margin]).turned()
    pairs = RETRIEVALS[retrieval](best_target, best_source)
    if min_score is not None:
        pairs = pairs.where(pairs.scores >= min_score)
    pairs = pairs.best_first()
    if retrieval == "max":
        pairs = pairs.where(is_best_of_both(pairs))
    return lists_of(pairs.scores, pairs.source, pairs.target)


@dataclass(frozen=True)
class Pairs:
    """Pairs of a source row and a target row, each pair once."""

    scores: Tensor
    """(P,)"""

    source: Tensor
    """(P,)"""

    target: Tensor
    """(P,)"""

    def turned(self) -> Pairs:
        """The same pairs, seen from the other side."""
        return Pairs(self.scores, self.target, self.source)

    def where(self, kept: Tensor) -> Pairs:
        return Pairs(self.scores[kept], self.source[kept], self.target[kept])

    def best_first(self) -> Pairs:
        """By score, then by source row, then by target row."""
        order = self.target.argsort(stable=True)
        order = order[self.source[order].argsort(stable=True)]
        return self.where(order[self.scores[order].argsort(descending=True, stable=True)])


def mean_score(best: Best) -> Tensor:
    """Mean score of each row's neighbours, (Q,), NaN for a row without any."""
    found = best.rows >= 0
    return best.scores.masked_fill(~found, 0).sum(dim=1) / found.sum(dim=1)


def proposals(
    best: Best,
    own_means: Tensor,
    other_means: Tensor,
    margin: Callable[[Tensor, Tensor], Tensor],
) -> Pairs:
    """For each row the neighbour with the largest margin, the first one of those with the same.

    Args:
        best: The neighbours of each row, (Q, k).
        own_means: Mean score of each row's neighbours, (Q,).
        other_means: The same for the rows of the other side, (N,).
        margin: Takes scores and means of their shape, gives margins.

    Returns:
        Pairs of a row and the row it proposes, without the rows that have no neighbour.
    """
    means = (own_means.unsqueeze(1) + other_means[best.rows.clamp(min=0)]) / 2  # (Q, k)
    margins = margin(best.scores, means).masked_fill(best.rows < 0, -torch.inf)
    largest = margins.amax(dim=1, keepdim=True)  # (Q, 1)
    is_largest = margins == largest
    first = best.rows.masked_fill(~is_largest, len(other_means)).amin(dim=1)  # (Q,)
    own = torch.arange(len(best.rows), device=best.rows.device)
    largest = largest.squeeze(1)
    return Pairs(largest, own, first).where(largest > -torch.inf)


def all_of(forward: Pairs, backward: Pairs) -> Pairs:
    """The pairs that one side proposes or both do."""
    return joined(forward, backward, at_least=1)


def common_to(forward: Pairs, backward: Pairs) -> Pairs:
    """The pairs that both sides propose."""
    return joined(forward, backward, at_least=2)


def joined(forward: Pairs, backward: Pairs, *, at_least: int) -> Pairs:
    """Pairs that are found in so many of two sets. One of both keeps its better score: they differ by rounding."""
    source = torch.cat([forward.source, backward.source])
    target = torch.cat([forward.target, backward.target])
    scores = torch.cat([forward.scores, backward.scores])
    width = int(target.max()) + 1 if len(target) else 1
    code, place, times = (source * width + target).unique(return_inverse=True, return_counts=True)
    scores = scores.new_empty(len(code)).scatter_reduce(0, place, scores, "amax", include_self=False)
    return Pairs(scores, code // width, code % width).where(times >= at_least)


def is_best_of_both(pairs: Pairs) -> Tensor:
    """Which of the pairs (P,), best first, are taken by one who goes through them and uses each row once.

    In each round those are taken that are the first of their source row and of their target row, and pairs that
    share a row with them go. What is left has a first pair, so it ends; real embeddings need some ten rounds.
    """
    taken = torch.zeros(len(pairs.scores), dtype=torch.bool, device=pairs.scores.device)
    left = torch.arange(len(taken), device=taken.device)
    while len(left):
        source = pairs.source[left].unique(return_inverse=True)[1]  # (L,), numbered without gaps
        target = pairs.target[left].unique(return_inverse=True)[1]
        chosen = (first_of(source, left) == left) & (first_of(target, left) == left)
        taken[left[chosen]] = True
        is_used = torch.isin(source, source[chosen]) | torch.isin(target, target[chosen])
        left = left[~is_used]
    return taken


def first_of(rows: Tensor, places: Tensor) -> Tensor:
    """For each pair the first place (L,) of the pairs with the same row."""
    first = places.new_empty(len(rows)).scatter_reduce(0, rows, places, "amin", include_self=False)
    return first[rows]


def ratio(scores: Tensor, means: Tensor) -> Tensor:
    """Scores in multiples of the mean; no match where it is not above zero, and the order would turn round."""
    return torch.where(means > 0, scores / means, -torch.inf)


MARGINS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ratio": ratio,
    "distance": lambda scores, means: scores - means,
    "absolute": lambda scores, means: scores,
}
"""Scores and means of their shape -> margins."""

RETRIEVALS: Mapping[str, Callable[[Pairs, Pairs], Pairs]] = {
    "max": all_of,
    "forward": lambda forward, backward: forward,
    "backward": lambda forward, backward: backward,
    "intersection": common_to,
}
"""What source rows propose, and what target rows propose -> what is kept."""


def check_choice(name: str, value: str, table: Mapping[str, Any]) -> None:
    if value not in table:
        raise ValueError(f"{name}={value!r} is not known. Pass one of: {', '.join(map(repr, table))}.")


def check_sides(source: Any, target: Any) -> None:
    """Check that both sides have rows, of the same width."""
    widths = {}
    for name, rows in (("source_embeddings", source), ("target_embeddings", target)):
        if not row_count(rows):
            raise ValueError(f"{name} is empty, so nothing can be matched. Pass one row for each sentence.")
        shape = tuple(getattr(rows, "shape", ()))
        if len(shape) != 2:
            raise ValueError(f"{name} has the shape {shape}. Pass one row for each sentence, (rows, width).")
        widths[name] = shape[1]
    if len(set(widths.values())) > 1:
        raise ValueError(
            f"The embeddings of the source are {widths['source_embeddings']} numbers wide, and those of the "
            f"target {widths['target_embeddings']}. Pass embeddings of one model, truncated to the same width."
        )
