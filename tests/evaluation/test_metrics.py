"""Correlations and separation of classes, against scipy, scikit-learn and brute force over all thresholds."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from sentence_transformers.evaluation.metrics import Separation, largest, mean_ranks, pearson, spearman


def random_rows(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores, in every second case with many ties, and labels."""
    random = np.random.default_rng(seed)
    rows = int(random.integers(2, 30))
    scores = random.integers(0, 8, rows) / 8 if seed % 2 else random.normal(size=rows)
    return scores.astype(np.float32), random.integers(0, 2, rows)


@pytest.mark.parametrize("seed", range(40))
def test_correlations_agree_with_scipy(seed):
    random = np.random.default_rng(seed)
    x = random.integers(0, 6, 25) / 5 if seed % 2 else random.normal(size=25) * 1e-3 + 7
    y = random.integers(0, 4, 25).astype(float)
    assert pearson(x, y) == pytest.approx(stats.pearsonr(x, y)[0], abs=1e-9)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y)[0], abs=1e-12)
    np.testing.assert_allclose(mean_ranks(x), stats.rankdata(x))


@pytest.mark.parametrize("correlation", [pearson, spearman])
def test_a_correlation_with_a_constant_or_a_nan_is_undefined(correlation):
    assert math.isnan(correlation([0.1] * 7, range(7)))
    assert math.isnan(correlation(range(3), [1.0, 2.0, math.nan]))
    assert math.isnan(correlation([1.0], [2.0]))


@pytest.mark.parametrize("correlation", [pearson, spearman])
def test_lists_on_one_line_correlate_by_exactly_one(correlation):
    x = np.random.default_rng(0).normal(size=100)
    assert correlation(x, 3 * x + 1) == pytest.approx(1, abs=1e-12)
    assert -1 <= correlation(x, -2 * x) <= -1 + 1e-12


def test_the_largest_number_is_found_beside_nan():
    assert largest([math.nan, 0.25, 0.5]) == 0.5
    assert math.isnan(largest([math.nan, math.nan]))


@pytest.mark.parametrize("seed", range(60))
def test_accuracy_and_f1_are_the_best_over_all_thresholds(seed):
    scores, labels = random_rows(seed)
    separation = Separation(scores, labels)
    thresholds = [*scores, np.nextafter(scores.max(), np.float32(np.inf))]

    accuracy, threshold = separation.best_accuracy()
    assert accuracy == pytest.approx(max(sk.accuracy_score(labels, scores >= one) for one in thresholds))
    assert sk.accuracy_score(labels, scores >= np.float32(threshold)) == pytest.approx(accuracy)

    best = separation.best_f1()
    assert best.f1 == pytest.approx(
        max(sk.f1_score(labels, scores >= one, zero_division=0) for one in thresholds)
    )
    if labels.any():
        called = scores >= np.float32(best.threshold)
        assert sk.f1_score(labels, called) == pytest.approx(best.f1)
        assert sk.precision_score(labels, called) == pytest.approx(best.precision)
        assert sk.recall_score(labels, called) == pytest.approx(best.recall)


@pytest.mark.parametrize("seed", range(60))
def test_average_precision_and_mcc_agree_with_scikit_learn(seed):
    scores, labels = random_rows(seed)
    separation = Separation(scores, labels)
    if labels.any():
        assert separation.average_precision() == pytest.approx(sk.average_precision_score(labels, scores))
    for decision in range(len(separation.levels) + 1):
        called = scores >= np.float32(separation.threshold(decision))
        assert called.sum() == separation.called[decision]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a single label
            expected = sk.matthews_corrcoef(labels, called)
        assert separation.mcc(decision) == pytest.approx(expected, abs=1e-12)


def test_a_threshold_stands_half_way_between_the_rows_it_parts():
    separation = Separation(np.array([0.75, 0.25, 0.5], np.float32), np.array([1, 0, 1]))
    assert separation.best_accuracy() == (1.0, 0.375)
    assert separation.best_f1().threshold == 0.375


def test_of_equally_good_thresholds_the_highest_is_taken():
    separation = Separation(np.array([4.0, 3.0, 2.0, 1.0]), np.array([0, 0, 1, 1]))
    accuracy, threshold = separation.best_accuracy()
    assert accuracy == 0.5
    assert threshold == np.nextafter(4.0, 5.0)


def test_a_threshold_parts_neighbouring_floats():
    high = np.float32(0.3)
    scores = np.array([high, np.nextafter(high, np.float32(0))])
    accuracy, threshold = Separation(scores, np.array([1, 0])).best_accuracy()
    assert accuracy == 1.0
    assert (scores >= np.float32(threshold)).tolist() == [True, False]


def test_without_positive_rows_nothing_can_be_found():
    separation = Separation(np.array([0.25, 0.5]), np.array([0, 0]))
    assert separation.average_precision() == 0
    best = separation.best_f1()
    assert (best.f1, best.precision, best.recall, best.threshold, best.mcc) == (0, 0, 0, 0, 0)


def test_mcc_of_many_rows_does_not_overflow():
    labels = np.arange(200_000) % 2
    scores = labels + np.linspace(0, 0.5, 200_000)
    assert Separation(scores, labels).best_f1().mcc == pytest.approx(1.0)


def test_positive_rows_without_a_score_are_missed_at_every_threshold():
    scores, labels = np.array([0.9, 0.5, 0.1]), np.array([1, 0, 1])
    separation = Separation(scores, labels, missed=2)
    assert separation.average_precision() == pytest.approx((1 + 2 / 3) / 4)
    best = separation.best_f1()
    assert best.f1 == pytest.approx(2 * 2 / (3 + 4))
    assert (best.precision, best.recall) == (pytest.approx(2 / 3), 0.5)
    assert Separation(scores, np.zeros(3, dtype=int), missed=1).best_f1().precision == 0
