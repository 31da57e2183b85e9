"""How near results are to others, in figures."""

from __future__ import annotations

import numpy as np
import pytest

from sentence_transformers.encoder.way_report import Likeness, compare_scores, compare_vectors, share_kept


def test_vectors_are_compared_by_the_cosine_of_their_rows():
    left, right = np.random.default_rng(0).normal(size=(2, 5, 4))
    found = compare_vectors(left, right)
    by_definition = np.array(
        [a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for a, b in zip(left, right, strict=True)]
    )
    assert found.similarity == pytest.approx(by_definition.mean())
    assert found.least_cosine == pytest.approx(by_definition.min())
    zero = np.zeros((2, 3))
    assert compare_vectors(zero, zero) == Likeness(1.0, least_cosine=1.0)
    assert compare_vectors(zero, np.ones((2, 3))).similarity == 0.0
    assert np.isnan(compare_vectors(np.ones((1, 2)), np.array([[np.nan, 1.0]])).similarity)


def test_scores_are_compared_by_correlation_and_greatest_difference():
    left, right = np.random.default_rng(0).normal(size=(2, 20))
    found = compare_scores(left, right)
    assert found.similarity == pytest.approx(np.corrcoef(left, right)[0, 1])
    assert found.greatest_difference == pytest.approx(np.abs(left - right).max())
    assert compare_scores(left, left) == Likeness(1.0, greatest_difference=0.0)
    assert np.isnan(compare_scores(np.ones(3), np.arange(3.0)).similarity)


@pytest.mark.parametrize(
    ("score", "reference", "greater", "kept"),
    [(0.8, 0.8, True, 1.0), (0.4, 0.8, True, 0.5), (-4.0, -2.0, True, 0.5), (4.0, 2.0, False, 0.5), (0.9, 0.8, True, 1.125)],
)  # fmt: skip
def test_the_share_of_a_score_that_is_kept_is_below_one_for_the_worse(score, reference, greater, kept):
    assert share_kept(score, reference, greater_is_better=greater) == pytest.approx(kept)


def test_a_share_between_a_good_and_a_bad_score_is_no_number():
    assert np.isnan(share_kept(-0.1, 0.8, greater_is_better=True))
    assert np.isnan(share_kept(0.1, 0.0, greater_is_better=True))
