"""BinaryClassificationEvaluator, beyond what all evaluators promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from sentence_transformers import InputExample
from sentence_transformers.evaluation import BinaryClassificationEvaluator
from sentence_transformers.tensors.similarity import SimilarityFunction
from tiny import sample_texts

FIRST = [text[:80] for text in sample_texts()[:24]]
SECOND = [text[len(text) // 2 :] if row % 3 else sample_texts()[row + 5] for row, text in enumerate(FIRST)]
LABELS = [int(row % 3 > 0) for row in range(24)]


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
def test_it_is_the_best_that_scikit_learn_finds(name, minilm):
    similarity = SimilarityFunction.to_similarity_pairwise_fn(name)(
        minilm.encode(FIRST), minilm.encode(SECOND)
    ).numpy()
    metrics = BinaryClassificationEvaluator(FIRST, SECOND, LABELS, similarity_fn_names=[name])(minilm)
    called = [similarity >= threshold for threshold in similarity]
    best = max(called, key=lambda rows: sk.f1_score(LABELS, rows))
    expected = {
        "accuracy": max(sk.accuracy_score(LABELS, rows) for rows in called),
        "f1": sk.f1_score(LABELS, best),
        "precision": sk.precision_score(LABELS, best),
        "recall": sk.recall_score(LABELS, best),
        "mcc": sk.matthews_corrcoef(LABELS, best),
        "ap": sk.average_precision_score(LABELS, similarity),
    }
    for key, value in expected.items():
        assert metrics[f"{name}_{key}"] == pytest.approx(value, abs=1e-6), key


@pytest.mark.parametrize("name", ["cosine", "euclidean", "manhattan"])
def test_thresholds_can_be_used_as_they_are(name, minilm):
    first, second = minilm.encode(FIRST), minilm.encode(SECOND)
    metrics = BinaryClassificationEvaluator(FIRST, SECOND, LABELS, similarity_fn_names=[name])(minilm)
    similarity = SimilarityFunction.to_similarity_pairwise_fn(name)(first, second).numpy()
    assert metrics[f"{name}_accuracy_threshold"] > 0
    if name == "cosine":
        called = similarity >= metrics[f"{name}_accuracy_threshold"]
    else:
        called = -similarity <= metrics[f"{name}_accuracy_threshold"]
    assert sk.accuracy_score(LABELS, called) == pytest.approx(metrics[f"{name}_accuracy"])


def test_distances_separate_as_well_as_cosines_do_on_unit_vectors(minilm):
    names = ["cosine", "euclidean"]
    evaluator = BinaryClassificationEvaluator(FIRST, SECOND, LABELS, similarity_fn_names=names)
    metrics = evaluator(minilm)
    for key in ("accuracy", "f1", "ap", "mcc"):
        assert metrics[f"euclidean_{key}"] == pytest.approx(metrics[f"cosine_{key}"], abs=1e-6)
        assert metrics[f"max_{key}"] == max(metrics[f"{name}_{key}"] for name in names)
    assert evaluator.primary_metric == "max_ap"


def test_the_metrics_can_be_computed_alone(dense):
    evaluator = BinaryClassificationEvaluator(FIRST, SECOND, LABELS, name="dev")
    alone = evaluator.compute_metrics(dense)
    assert {f"dev_cosine_{key}": value for key, value in alone["cosine"].items()} == evaluator(dense)
    assert evaluator.compute_metrices(dense) == alone


def test_sparse_and_token_vectors_are_separated_too(sparse, tokens):
    for model, name in ((sparse, "dot"), (tokens, "maxsim")):
        similarity = model.similarity_pairwise(model.encode(FIRST), model.encode(SECOND))
        metrics = BinaryClassificationEvaluator(FIRST, SECOND, LABELS)(model)
        expected = sk.average_precision_score(LABELS, similarity)
        assert metrics[f"{name}_ap"] == pytest.approx(expected, abs=1e-6)


def test_pairs_that_score_the_same_are_called_together(dense):
    texts, labels = ["the same"] * 6, [1, 0, 1, 1, 0, 1]
    metrics = BinaryClassificationEvaluator(texts, texts, labels)(dense)
    assert metrics["cosine_accuracy"] == pytest.approx(4 / 6)
    assert metrics["cosine_f1"] == pytest.approx(0.8)
    assert metrics["cosine_ap"] == pytest.approx(4 / 6)
    assert metrics["cosine_mcc"] == 0


@pytest.mark.parametrize("labels", [np.array(LABELS), torch.tensor(LABELS), [bool(one) for one in LABELS]])
def test_labels_may_be_of_any_type(labels, dense):
    expected = BinaryClassificationEvaluator(FIRST, SECOND, LABELS)(dense)
    assert BinaryClassificationEvaluator(FIRST, SECOND, labels)(dense) == expected


def test_examples_give_the_same(dense):
    examples = [InputExample(texts=list(texts), label=label) for *texts, label in zip(FIRST, SECOND, LABELS)]
    by_examples = BinaryClassificationEvaluator.from_input_examples(examples)
    assert by_examples(dense) == BinaryClassificationEvaluator(FIRST, SECOND, LABELS)(dense)


@pytest.mark.parametrize("wrong", [2, -1, 0.5, "1"])
def test_another_label_than_0_or_1_is_an_error(wrong):
    with pytest.raises(AssertionError, match=r"labels\[1\] is"):
        BinaryClassificationEvaluator(FIRST[:2], SECOND[:2], [1, wrong])
