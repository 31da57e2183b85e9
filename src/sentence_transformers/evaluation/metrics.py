"""Correlation of scores with known scores, and how well scores tell two classes apart.

Pure functions over arrays of numbers; nothing here knows about models or similarities. Metrics of rankings
stand in `ranking_metrics.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np


def pearson(x: Any, y: Any) -> float:
    """Pearson correlation: how well a straight line describes the relation of two lists of numbers.

    Args:
        x: Numbers, (N,).
        y: As many.

    Returns:
        A value in [-1, 1]; nan where one of the lists is constant or holds a nan, which leaves it undefined.
    """
    x, y = deviations(x), deviations(y)
    lengths = float(np.linalg.norm(x)) * float(np.linalg.norm(y))
    return min(1.0, max(-1.0, float(x @ y) / lengths)) if lengths > 0 else math.nan


def spearman(x: Any, y: Any) -> float:
    """Spearman correlation: the Pearson correlation of the ranks; equal numbers share their mean rank.

    Arguments and result are those of `pearson`.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if np.isnan(x).any() or np.isnan(y).any():
        return math.nan
    return pearson(mean_ranks(x), mean_ranks(y))


def largest(values: Iterable[float]) -> float:
    """The largest number; nan only if there is no other."""
    return max(values, key=lambda value: -math.inf if math.isnan(value) else value)


def deviations(values: Any) -> np.ndarray:
    """Differences from the mean, (N,), in float64; all zero for a constant, whatever its mean rounds to."""
    values = np.asarray(values, dtype=np.float64)
    return values - (values[0] if (values == values[0]).all() else values.mean())


def mean_ranks(values: np.ndarray) -> np.ndarray:
    """Rank of each number, (N,), from 1 up; equal ones share their mean rank."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)  # rank of the last of each group
    return (last - (sizes - 1) / 2)[group]


@dataclass(frozen=True)
class Separation:
    """How well scores tell positive rows from negative ones, at every threshold.

    Rows are called positive from the highest score down. Rows of equal score are called so together: no
    threshold parts them. So there are K + 1 decisions for K different scores, from calling no row positive to
    calling all.

    Args:
        scores: Scores, (N,); higher speaks for positive.
        labels: 1 for positive rows, 0 for negative ones, (N,).
        missed: Positive rows without a score, which no decision calls positive.
    """

    scores: np.ndarray
    labels: np.ndarray
    missed: int = 0

    @cached_property
    def levels(self) -> np.ndarray:
        """The different scores, highest first, (K,)."""
        return -np.unique(-self.scores)

    @cached_property
    def called(self) -> np.ndarray:
        """How many rows each decision calls positive, (K + 1,)."""
        return self.counted_down(np.ones_like(self.labels))

    @cached_property
    def hits(self) -> np.ndarray:
        """How many of these are positive, (K + 1,)."""
        return self.counted_down(self.labels)

    @property
    def positives(self) -> int:
        return int(self.hits[-1]) + self.missed

    @property
    def rows(self) -> int:
        return int(self.called[-1]) + self.missed

    def counted_down(self, weights: np.ndarray) -> np.ndarray:
        """Sum of the weights of the rows that each decision calls positive, (K + 1,)."""
        _, level = np.unique(-self.scores, return_inverse=True)
        return np.concatenate([[0], np.cumsum(np.bincount(level, weights=weights))]).astype(np.int64)

    def threshold(self, decision: int) -> float:
        """The least score that a decision calls positive: half way between the rows it parts, in their type.

        Right above the highest score where no row is called positive, the lowest score where all are.
        """
        levels = self.levels
        if decision == 0:
            return float(np.nextafter(levels[0], levels.dtype.type(np.inf)))
        above = levels[decision - 1]
        if decision == len(levels):
            return float(above)
        between = above + (levels[decision] - above) / 2
        # Between neighbouring floats there is nothing, and the middle rounds to one of them.
        return float(between if between > levels[decision] else above)

    def best_accuracy(self) -> tuple[float, float]:
        """The best share of rows called rightly, and its threshold; the highest one of several."""
        misses = self.called - self.hits
        right = self.hits + (self.rows - self.positives - misses)  # (K + 1,)
        best = int(right.argmax())
        return float(right[best] / self.rows), self.threshold(best)

    def best_f1(self) -> F1:
        """The decision with the best F1, the harmonic mean of precision and recall; all zero if no scored row is positive."""
        if self.hits[-1] == 0:
            return F1(f1=0.0, precision=0.0, recall=0.0, threshold=0.0, mcc=0.0)
        f1 = 2 * self.hits / (self.called + self.positives)  # (K + 1,)
        best = int(f1.argmax())
        return F1(
            f1=float(f1[best]),
            precision=float(self.hits[best] / self.called[best]),
            recall=float(self.hits[best] / self.positives),
            threshold=self.threshold(best),
            mcc=self.mcc(best),
        )

    def average_precision(self) -> float:
        """Mean of the precision at each positive row, as the rows are called from the highest score down.

        The area under the precision-recall curve as a sum of steps. 0 if nothing is positive.
        """
        if self.positives == 0:
            return 0.0
        precision = self.hits[1:] / self.called[1:]  # (K,)
        return float((np.diff(self.hits) * precision).sum() / self.positives)

    def mcc(self, decision: int) -> float:
        """Matthews correlation of a decision with the labels; 0 where all rows are called, or are, the same.

        Matthews 1975, "Comparison of the predicted and observed secondary structure of T4 phage lysozyme".
        """
        # Python's integers: the product of four counts may not fit 64 bits.
        rows, called, positives, hits = (
            self.rows,
            int(self.called[decision]),
            self.positives,
            int(self.hits[decision]),
        )
        spread = called * (rows - called) * positives * (rows - positives)
        return (hits * rows - called * positives) / math.sqrt(spread) if spread else 0.0


@dataclass(frozen=True, kw_only=True)
class F1:
    """The decision with the best F1, in numbers."""

    f1: float
    precision: float
    recall: float
    threshold: float
    mcc: float


def f1_means(predicted: Any, labels: Any) -> dict[str, float]:
    """F1 of choosing among several classes, in three ways to make one number of it.

    Args:
        predicted: The class chosen for each row, (N,).
        labels: The true ones, (N,).

    Returns:
        `f1_macro`, the mean over all classes that were chosen or true; `f1_weighted`, the same weighted by how many
        rows are truly of the class; `f1_micro`, over all decisions, which is the share of right ones.
    """
    predicted, labels = np.asarray(predicted), np.asarray(labels)
    classes = np.union1d(predicted, labels)[:, None]  # (C, 1)
    chosen, true = (predicted == classes).sum(axis=1), (labels == classes).sum(axis=1)  # (C,)
    hits = ((predicted == classes) & (labels == classes)).sum(axis=1)
    f1 = 2 * hits / (chosen + true)
    return {
        "f1_macro": float(f1.mean()),
        "f1_micro": float((predicted == labels).mean()),
        "f1_weighted": float((f1 * true).sum() / len(labels)),
    }
