"""MSEEvaluatorFromDataFrame, beyond what all evaluators promise."""

from __future__ import annotations

import csv

import pytest

from sentence_transformers.evaluation import MSEEvaluator, MSEEvaluatorFromDataFrame
from tiny import sample_texts

TEXTS = [text[:50] for text in sample_texts()[:9]]
ROWS = [{"en": en, "de": de, "fr": fr} for en, de, fr in zip(TEXTS[:3], TEXTS[3:6], TEXTS[6:], strict=True)]
PAIRS = [("en", "de"), ("en", "fr")]


def error_of(model, sources, targets):
    return MSEEvaluator(sources, targets, teacher_model=model)(model)["negative_mse"]


def test_it_is_the_mean_over_the_pairs_of_columns(dense, tmp_path):
    evaluator = MSEEvaluatorFromDataFrame(ROWS, dense, PAIRS, name="x")
    errors = [error_of(dense, TEXTS[:3], TEXTS[3:6]), error_of(dense, TEXTS[:3], TEXTS[6:])]
    assert evaluator(dense, str(tmp_path)) == {"x_negative_mse": pytest.approx(sum(errors) / 2, rel=1e-5)}
    with open(tmp_path / "mse_evaluation_x_results.csv", newline="", encoding="utf-8") as file:
        header, row = csv.reader(file)
    assert header == ["epoch", "steps", "en-de", "en-fr"]
    assert [float(value) for value in row[2:]] == pytest.approx([-error for error in errors], rel=1e-5)


def test_rows_without_a_text_do_not_count_for_that_pair(dense):
    rows = [*ROWS, {"en": "", "de": "x", "fr": "y"}, {"en": "z", "de": " ", "fr": None}, {"en": "w"}]
    expected = MSEEvaluatorFromDataFrame(ROWS, dense, PAIRS)(dense)
    assert MSEEvaluatorFromDataFrame(rows, dense, PAIRS)(dense) == pytest.approx(expected)


def test_a_pandas_table_will_do(dense):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame([*ROWS, {"en": "only this"}])
    expected = MSEEvaluatorFromDataFrame(ROWS, dense, PAIRS)(dense)
    assert MSEEvaluatorFromDataFrame(table, dense, PAIRS)(dense) == pytest.approx(expected)


def test_a_column_that_does_not_exist_is_an_error(dense):
    with pytest.raises(ValueError, match="'en' and a text 'it'"):
        MSEEvaluatorFromDataFrame(ROWS, dense, [("en", "it")])
    with pytest.raises(ValueError, match="combinations"):
        MSEEvaluatorFromDataFrame(ROWS, dense, [])
