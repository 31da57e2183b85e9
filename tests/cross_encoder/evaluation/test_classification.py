"""Metrics of classified pairs, with one score or a score for each class. Recorded numbers: `test_recorded.py`."""

from __future__ import annotations

import csv

import pytest

from sentence_transformers import InputExample
from sentence_transformers.cross_encoder.evaluation import CrossEncoderClassificationEvaluator

PAIRS = [["a", ".1"], ["b", ".9"], ["c", ".4"], ["d", ".4"], ["e", ".7"]]


def test_one_score_is_told_apart_at_every_threshold(numbers, tmp_path):
    evaluator = CrossEncoderClassificationEvaluator(PAIRS, [0, 1, 1, 0, 1], name="dev")
    metrics = evaluator(numbers(), str(tmp_path), epoch=1, steps=2)
    expected = {
        "accuracy": 0.8,
        "accuracy_threshold": 0.55,
        "f1": 6 / 7,
        "f1_threshold": 0.25,
        "precision": 0.75,
        "recall": 1.0,
        "average_precision": (1 + 1 + 3 / 4) / 3,
    }
    assert metrics == pytest.approx({f"dev_{key}": value for key, value in expected.items()})
    assert evaluator.primary_metric == "dev_average_precision"
    with open(tmp_path / "CrossEncoderClassificationEvaluator_dev_results.csv", newline="") as file:
        header, row = csv.reader(file)
    assert header == [
        "epoch",
        "steps",
        "Accuracy",
        "Accuracy_Threshold",
        "F1",
        "F1_Threshold",
        "Precision",
        "Recall",
        "Average_Precision",
    ]
    assert list(map(float, row)) == pytest.approx([1, 2, *expected.values()])


def test_of_several_scores_the_highest_is_the_class(numbers, tmp_path):
    """Class 2 has the highest score above 1, class 0 below; 1 is in between nowhere."""
    pairs = [["a", "0"], ["b", "2"], ["c", "3"], ["d", "0.5"], ["e", "-1"]]
    evaluator = CrossEncoderClassificationEvaluator(pairs, [0, 2, 1, 2, 0])
    metrics = evaluator(numbers(3), str(tmp_path))
    # Class 0 is chosen for a, d and e, class 2 for b and c.
    f1 = {0: 2 * 2 / (3 + 2), 1: 0.0, 2: 2 * 1 / (2 + 2)}
    assert metrics == pytest.approx(
        {
            "f1_macro": sum(f1.values()) / 3,
            "f1_micro": 0.6,
            "f1_weighted": (2 * f1[0] + f1[1] + 2 * f1[2]) / 5,
        }
    )
    assert evaluator.primary_metric == "f1_macro"
    header = (tmp_path / evaluator.csv_file).read_text().splitlines()[0]
    assert header == "epoch,steps,Macro_F1,Micro_F1,Weighted_F1"


def test_the_model_is_asked_with_the_settings(numbers):
    model = numbers()
    CrossEncoderClassificationEvaluator(
        PAIRS, [0, 1, 1, 0, 1], prompt_name="query", batch_size=2, show_progress_bar=True
    )(model)
    ((pairs, options),) = model.calls
    assert pairs == [tuple(pair) for pair in PAIRS]
    assert options == {
        "prompt_name": "query",
        "batch_size": 2,
        "show_progress_bar": True,
        "convert_to_numpy": True,
    }


def test_labels_that_do_not_suit_the_model_are_refused(numbers):
    evaluator = CrossEncoderClassificationEvaluator(PAIRS, [0, 1, 2, 0, 1])
    with pytest.raises(ValueError, match="one score for each pair, and there is the label 2"):
        evaluator(numbers())
    with pytest.raises(ValueError, match="classes 0 to 1, and there is the label 2"):
        evaluator(numbers(2))


def test_rows_must_match(numbers):
    with pytest.raises(ValueError, match="5 sentence_pairs and 2 labels"):
        CrossEncoderClassificationEvaluator(PAIRS, [0, 1])
    with pytest.raises(AssertionError, match="nothing to evaluate"):
        CrossEncoderClassificationEvaluator([], [])


def test_examples_hold_pairs_and_labels(numbers):
    examples = [InputExample(texts=pair, label=label) for pair, label in zip(PAIRS, [0, 1, 1, 0, 1])]
    evaluator = CrossEncoderClassificationEvaluator.from_input_examples(examples, name="dev")
    assert evaluator(numbers())["dev_accuracy"] == pytest.approx(0.8)
    with pytest.raises(ValueError, match="2"):
        CrossEncoderClassificationEvaluator.from_input_examples([InputExample(texts=["a"], label=1)])
