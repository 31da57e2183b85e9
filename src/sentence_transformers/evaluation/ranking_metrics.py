"""How good rankings are: where in them the relevant documents stand.

Pure functions over arrays, one row per query. A gain says how relevant a document is: 0 for not at all, 1, or a
grade. `rank_by_score` makes rankings of scores, and deals with documents that score the same. Nothing here
knows about models or texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


def accuracy_at_k(gains: np.ndarray, *, k: int) -> np.ndarray:
    """Whether a relevant document is among the first k.

    Args:
        gains: Gains of the documents in ranked order, (Q, N); fewer than k stand for a ranking that ends there.
        k: How many documents from the top count.

    Returns:
        0 or 1 for each query, (Q,).
    """
    return np.asarray((gains[:, :k] > 0).any(axis=1), dtype=np.float64)


def precision_at_k(gains: np.ndarray, *, k: int) -> np.ndarray:
    """Share of relevant ones among the first k documents, (Q,); arguments as of `accuracy_at_k`.

    What is missing in a short ranking counts as not relevant.
    """
    return (gains[:, :k] > 0).sum(axis=1) / k


def recall_at_k(gains: np.ndarray, *, k: int, relevant: np.ndarray) -> np.ndarray:
    """Share of the relevant documents that stand among the first k, (Q,).

    Args:
        gains: As of `accuracy_at_k`.
        k: The same.
        relevant: How many relevant documents there are for each query, found or not, (Q,); one or more.
    """
    return (gains[:, :k] > 0).sum(axis=1) / relevant


def reciprocal_rank_at_k(gains: np.ndarray, *, k: int) -> np.ndarray:
    """1 / place of the first relevant document, counted from 1; 0 if none is among the first k, (Q,).

    Arguments as of `accuracy_at_k`. The mean over queries is the MRR (Voorhees 1999, "The TREC-8 Question
    Answering Track Report").
    """
    hits = gains[:, :k] > 0
    return (hits / places(hits)).max(axis=1, initial=0.0)


def average_precision_at_k(gains: np.ndarray, *, k: int, relevant: np.ndarray) -> np.ndarray:
    """Mean of the precision at each relevant document, (Q,); those not among the first k give 0.

    Arguments as of `recall_at_k`. The mean is over all relevant documents, but over k of them at most: a ranking
    that begins with k relevant documents gets 1.
    """
    hits = gains[:, :k] > 0
    precision = hits.cumsum(axis=1) / places(hits)
    return (precision * hits).sum(axis=1) / np.minimum(relevant, k)


def ndcg_at_k(gains: np.ndarray, *, k: int, ideal: np.ndarray) -> np.ndarray:
    """Normalised discounted cumulative gain, (Q,): the gains of the first k documents against the best possible.

    Gains count as they are, discounted by log2(place + 1). Järvelin and Kekäläinen 2002, "Cumulated gain-based
    evaluation of IR techniques".

    Args:
        gains: As of `accuracy_at_k`.
        k: The same.
        ideal: Gains of all relevant documents, found or not, in falling order, (Q, M).

    Returns:
        Values in [0, 1]; 0 for a query without relevant documents.
    """
    best = dcg_at_k(ideal, k=k)
    return np.divide(dcg_at_k(gains, k=k), best, out=np.zeros_like(best), where=best > 0)


def dcg_at_k(gains: np.ndarray, *, k: int) -> np.ndarray:
    """Discounted cumulative gain of the first k documents, (Q,)."""
    first = np.asarray(gains[:, :k], dtype=np.float64)
    return (first / np.log2(places(first) + 1)).sum(axis=1)


def ideal_of_counts(relevant: np.ndarray, *, k: int) -> np.ndarray:
    """The first k gains, (Q, k), of the best ranking if each of `relevant` (Q,) documents has the gain 1."""
    return (np.arange(k) < np.asarray(relevant)[:, None]).astype(np.float64)


def places(rankings: np.ndarray) -> np.ndarray:
    """Places in a ranking, (N,), from 1."""
    return np.arange(1, rankings.shape[1] + 1)


@dataclass(frozen=True)
class ScoredRanking:
    """Documents of each query from the highest score down; of documents with equal scores none stands first.

    Attributes:
        gains: Gains in that order, (Q, N).
        first: Where the documents begin that score the same as this one, (Q, N), from 0.
        last: Where they end: the last of them.
    """

    gains: np.ndarray
    first: np.ndarray
    last: np.ndarray

    def average_precision(self) -> np.ndarray:
        """Mean of the precision at each relevant document, (Q,), where equal scores are called together."""
        hits = self.gains > 0
        found = np.take_along_axis(hits.cumsum(axis=1), self.last, axis=1)
        relevant = hits.sum(axis=1)
        total = (hits * found / (self.last + 1)).sum(axis=1)
        return np.divide(total, relevant, out=np.zeros_like(total), where=relevant > 0)

    def reciprocal_rank_at_k(self, *, k: int) -> np.ndarray:
        """As the function of that name; among equal scores, what is not relevant comes first."""
        hits = self.gains > 0
        found = hits.cumsum(axis=1)
        found_before = np.take_along_axis(found - hits, self.first, axis=1)
        equal_hits = np.take_along_axis(found, self.last, axis=1) - found_before
        place = self.last + 2 - equal_hits  # of the first relevant one among the equal ones, from 1
        return (hits * (place <= k) / place).max(axis=1, initial=0.0)

    def ndcg_at_k(self, *, k: int) -> np.ndarray:
        """As the function of that name; equal scores share their gains.

        McSherry and Najork 2008, "Computing Information Retrieval Performance Measures Efficiently in the Presence
        of Tied Scores".
        """
        total = np.concatenate(
            [np.zeros((len(self.gains), 1)), self.gains.cumsum(axis=1)], axis=1
        )  # (Q, N + 1)
        shared = np.take_along_axis(total, self.last + 1, axis=1) - np.take_along_axis(
            total, self.first, axis=1
        )
        ideal = -np.sort(-self.gains, axis=1)
        return ndcg_at_k(shared / (self.last + 1 - self.first), k=k, ideal=ideal)


def rank_by_score(scores: Sequence[Any], gains: Sequence[Any]) -> ScoredRanking:
    """Rank documents by their scores.

    Args:
        scores: For each query the scores of its documents, (N,); their number may differ. A score that is not a
            number is below all others.
        gains: Their gains, in the same order.

    Returns:
        Rankings as long as the longest; at the end of a shorter one stand places without gain.
    """
    count, width = len(scores), max(map(len, scores), default=0)
    keys, values = np.full((count, width), np.inf), np.zeros((count, width))
    is_missing = np.ones((count, width), dtype=bool)
    for row, (row_scores, row_gains) in enumerate(zip(scores, gains, strict=True)):
        keys[row, : len(row_scores)] = -np.asarray(row_scores, dtype=np.float64)
        values[row, : len(row_gains)] = row_gains
        is_missing[row, : len(row_scores)] = False
    keys[np.isnan(keys)] = np.inf
    order = np.lexsort((is_missing, keys), axis=1)
    keys, values = (np.take_along_axis(array, order, axis=1) for array in (keys, values))
    is_missing = np.take_along_axis(is_missing, order, axis=1)

    place = np.broadcast_to(np.arange(width), (count, width))
    is_new = np.ones((count, width), dtype=bool)
    is_new[:, 1:] = (keys[:, 1:] != keys[:, :-1]) | (is_missing[:, 1:] != is_missing[:, :-1])
    ends = np.ones((count, width), dtype=bool)
    ends[:, :-1] = is_new[:, 1:]
    first = np.maximum.accumulate(np.where(is_new, place, 0), axis=1)
    last = np.minimum.accumulate(np.where(ends, place, width)[:, ::-1], axis=1)[:, ::-1]
    return ScoredRanking(gains=values, first=first, last=last)
