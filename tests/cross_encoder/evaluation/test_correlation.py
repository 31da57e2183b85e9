"""Correlation of scores with known ones."""

from __future__ import annotations

import pytest

from sentence_transformers.cross_encoder.evaluation import CrossEncoderCorrelationEvaluator

PAIRS = [["a", ".1"], ["b", ".9"], ["c", ".4"], ["d", ".7"]]


def test_both_correlations_are_measured_and_written(numbers, tmp_path):
    evaluator = CrossEncoderCorrelationEvaluator(PAIRS, [1.0, 9.0, 7.0, 4.0], "dev")
    metrics = evaluator(numbers(), str(tmp_path))
    assert metrics["dev_spearman"] == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert metrics["dev_pearson"] == pytest.approx(2.775 / 3.675, rel=1e-6)
    assert evaluator.primary_metric == "dev_spearman"
    lines = (tmp_path / "CrossEncoderCorrelationEvaluator_dev_results.csv").read_text().splitlines()
    assert lines[0] == "epoch,steps,Pearson_Correlation,Spearman_Correlation"
    assert lines[1].startswith("-1,-1,0.7551020")


def test_a_model_with_several_scores_is_refused(numbers):
    with pytest.raises(ValueError, match="needs a model with one score for each pair, and this one gives 2"):
        CrossEncoderCorrelationEvaluator(PAIRS, [1, 2, 3, 4])(numbers(2))


def test_rows_must_match():
    with pytest.raises(ValueError, match="4 sentence_pairs and 1 scores"):
        CrossEncoderCorrelationEvaluator(PAIRS, [1.0])
