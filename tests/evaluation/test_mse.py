"""MSEEvaluator, beyond what all evaluators promise."""

from __future__ import annotations

import numpy as np
import pytest

from sentence_transformers.evaluation import MSEEvaluator
from tiny import sample_texts

SOURCES = [text[:50] for text in sample_texts()[:8]]
TARGETS = [text[10:60] for text in sample_texts()[:8]]


@pytest.mark.parametrize("truncate_dim", [None, 8])
def test_it_is_the_mean_of_squared_differences(truncate_dim, minilm):
    difference = minilm.encode(SOURCES)[:, :truncate_dim] - minilm.encode(TARGETS)[:, :truncate_dim]
    metrics = MSEEvaluator(SOURCES, TARGETS, teacher_model=minilm, truncate_dim=truncate_dim)(minilm)
    assert metrics == {"negative_mse": pytest.approx(-100 * np.mean(difference**2), rel=1e-4)}


def test_a_student_that_is_its_teacher_makes_no_error(dense):
    assert MSEEvaluator(SOURCES, SOURCES, teacher_model=dense)(dense)["negative_mse"] == pytest.approx(
        0, abs=1e-9
    )


def test_sparse_embeddings_are_compared_as_dense_ones(sparse):
    difference = sparse.encode(SOURCES).to_dense() - sparse.encode(TARGETS).to_dense()
    metrics = MSEEvaluator(SOURCES, TARGETS, teacher_model=sparse)(sparse)
    assert metrics["negative_mse"] == pytest.approx(-100 * float(difference.square().mean()), rel=1e-5)


def test_the_file_keeps_both_underscores_without_a_name(dense):
    assert MSEEvaluator(SOURCES, TARGETS, dense).csv_file == "mse_evaluation__results.csv"
    assert MSEEvaluator(SOURCES, TARGETS, dense, name="x").csv_file == "mse_evaluation_x_results.csv"


def test_models_of_different_widths_need_truncation(minilm, dense):
    with pytest.raises(ValueError, match=r"384 dimensions and the student's 32.*truncate_dim"):
        MSEEvaluator(SOURCES, TARGETS, teacher_model=minilm)(dense)
    assert MSEEvaluator(SOURCES, TARGETS, teacher_model=minilm, truncate_dim=32)(dense)["negative_mse"] < 0


def test_without_a_teacher_there_is_nothing_to_compare():
    with pytest.raises(ValueError, match="teacher_model"):
        MSEEvaluator(SOURCES, TARGETS)
