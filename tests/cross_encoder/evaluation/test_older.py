"""The evaluators that return one number, and the files that they write."""

from __future__ import annotations

import math

import pytest

from sentence_transformers.cross_encoder import evaluation
from sentence_transformers.evaluation import SequentialEvaluator

PAIRS = [["a", ".1"], ["b", ".9"], ["c", ".4"], ["d", ".4"], ["e", ".7"]]
LABELS = [0, 1, 1, 0, 1]
SCORES = [0.1, 0.8, 0.3, 0.2, 0.4]
CLASSES = [["a", "0"], ["b", "2"], ["c", "3"], ["d", "0.5"], ["e", "-1"]]
SAMPLES = [
    {"query": "q", "positive": [".5", ".2"], "negative": [".4", ".1"]},
    {"query": "r", "positive": [".2"], "negative": [".4"]},
]

CASES = {
    "CEBinaryAccuracyEvaluator": ((PAIRS, LABELS), 1, 0.8, "results.csv", "Accuracy"),
    "CEBinaryClassificationEvaluator": (
        (PAIRS, LABELS),
        1,
        (1 + 1 + 3 / 4) / 3,
        "results.csv",
        "Accuracy,Accuracy_Threshold,F1,F1_Threshold,Precision,Recall,Average_Precision",
    ),
    "CECorrelationEvaluator": (
        (PAIRS, SCORES),
        1,
        9.5 / math.sqrt(9.5 * 10),
        "results.csv",
        "Pearson_Correlation,Spearman_Correlation",
    ),
    "CEF1Evaluator": (
        (CLASSES, [0, 2, 1, 2, 0]),
        3,
        (0.8 + 0 + 0.5) / 3,
        "results.csv",
        "Macro F1 score,Micro F1 score,Weighted F1 score",
    ),
    "CESoftmaxAccuracyEvaluator": ((CLASSES, [0, 2, 1, 2, 0]), 3, 0.6, "results.csv", "Accuracy"),
    "CERerankingEvaluator": ((SAMPLES,), 1, 0.75, "results_@10.csv", "MRR@10,NDCG@10"),
}
every_evaluator = pytest.mark.parametrize("name", CASES)


@every_evaluator
def test_the_main_score_is_returned_and_the_file_has_all(name, numbers, tmp_path):
    arguments, labels, expected, file, columns = CASES[name]
    evaluator = getattr(evaluation, name)(*arguments, name="dev")
    folder = tmp_path / "not yet there"
    for epoch in (-1, 3):
        score = evaluator(numbers(labels), str(folder), epoch=epoch)
        assert type(score) is float
        assert score == pytest.approx(expected)
    assert evaluator.primary_metric is None
    assert [path.name for path in folder.iterdir()] == [f"{name}_dev_{file}"]
    header, *rows = (folder / f"{name}_dev_{file}").read_text().splitlines()
    assert header == f"epoch,steps,{columns}"
    assert [row.split(",")[:2] for row in rows] == [["-1", "-1"], ["3", "-1"]]


@every_evaluator
def test_no_file_is_written_unless_it_is_wanted(name, numbers, tmp_path):
    arguments, labels, *_ = CASES[name]
    getattr(evaluation, name)(*arguments, write_csv=False)(numbers(labels), str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@every_evaluator
def test_the_settings_of_newer_releases_are_taken(name, numbers):
    arguments, labels, *_ = CASES[name]
    model = numbers(labels)
    getattr(evaluation, name)(*arguments, batch_size=3, prompt_name="query", show_progress_bar=True)(model)
    options = model.calls[0][1]
    assert (options["batch_size"], options["prompt_name"], options["show_progress_bar"]) == (3, "query", True)


@every_evaluator
def test_a_model_with_the_wrong_number_of_scores_is_refused(name, numbers):
    arguments, labels, *_ = CASES[name]
    with pytest.raises(ValueError, match=f"{name} needs a model with "):
        getattr(evaluation, name)(*arguments)(numbers(2 if labels == 1 else 1))


def test_several_of_them_are_run_one_after_another(numbers):
    evaluators = [
        evaluation.CEBinaryAccuracyEvaluator(PAIRS, LABELS, threshold=limit) for limit in (0.5, 0.8)
    ]
    assert SequentialEvaluator(evaluators)(numbers()) == pytest.approx(
        {"evaluator_0": 0.8, "evaluator_1": 0.6, "sequential_score": 0.6}
    )


def test_the_threshold_itself_is_not_above_it(numbers):
    assert evaluation.CEBinaryAccuracyEvaluator(PAIRS, LABELS, threshold=0.75)(numbers()) == 0.6


def test_with_two_classes_f1_is_that_of_class_one(numbers, tmp_path):
    """Class 1 has the higher score above 1."""
    pairs = [["a", "0"], ["b", "2"], ["c", "3"], ["d", "0.5"], ["e", "-1"]]
    evaluator = evaluation.CEF1Evaluator(pairs, [0, 1, 0, 1, 1])
    assert evaluator(numbers(2), str(tmp_path)) == pytest.approx(2 * 1 / (2 + 3))
    assert (tmp_path / "CEF1Evaluator_results.csv").read_text().splitlines()[
        0
    ] == "epoch,steps,Binary F1 score"


def test_labels_of_two_classes_are_checked_at_once():
    with pytest.raises(ValueError, match=r"labels\[2\] is 2"):
        evaluation.CEBinaryClassificationEvaluator(PAIRS, [0, 1, 2, 0, 1])
    with pytest.raises(AssertionError, match="5 sentence_pairs and 1 labels"):
        evaluation.CESoftmaxAccuracyEvaluator(PAIRS, [0])


def test_samples_in_which_there_is_nothing_to_order_are_left_out():
    samples = [
        *SAMPLES,
        {"query": "s", "positive": [], "negative": ["1"]},
        {"query": "t", "positive": [".3"], "negative": []},
    ]
    assert evaluation.CERerankingEvaluator(samples).samples == SAMPLES
    assert evaluation.CERerankingEvaluator(dict(enumerate(samples))).samples == SAMPLES
    with pytest.raises(ValueError, match="Give it 'query', 'positive'"):
        evaluation.CERerankingEvaluator([{"query": "s"}])
