"""TranslationEvaluator, beyond what all evaluators promise."""

from __future__ import annotations

import numpy as np
import pytest

from sentence_transformers.evaluation import TranslationEvaluator
from tiny import sample_texts

SOURCES = [text[:50] for text in sample_texts()[:10]]
TARGETS = [text[10:60] for text in sample_texts()[:10]]


@pytest.mark.parametrize("kind", ["minilm", "dense", "sparse"])
def test_it_is_the_share_of_largest_cosines_on_the_diagonal(kind, request):
    model = request.getfixturevalue(kind)
    a, b = (
        np.stack([np.asarray(v.to_dense() if kind == "sparse" else v) for v in model.encode(texts)])
        for texts in (SOURCES, TARGETS)
    )
    a, b = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (a, b))
    scores = a @ b.T
    metrics = TranslationEvaluator(SOURCES, TARGETS, name="x")(model)
    forth = np.mean(scores.argmax(axis=1) == np.arange(10))
    back = np.mean(scores.argmax(axis=0) == np.arange(10))
    assert metrics == pytest.approx(
        {"x_src2trg_accuracy": forth, "x_trg2src_accuracy": back, "x_mean_accuracy": (forth + back) / 2}
    )


class TwoDimensions:
    """Known vectors for known texts; compared by the dot product, if it were asked."""

    similarity_fn_name = "dot"
    vectors = {"a": [1.0, 0.0], "b": [0.0, 1.0], "A": [1.0, 0.1], "B": [50.0, 49.0]}

    def encode(self, sentences):
        return [self.vectors[text] for text in sentences]


def test_the_angle_counts_and_not_the_length():
    metrics = TranslationEvaluator(["a", "b"], ["A", "B"])(TwoDimensions())
    assert metrics["src2trg_accuracy"] == 1.0
    assert metrics["trg2src_accuracy"] == 0.5


def test_of_equally_near_ones_the_first_counts(dense):
    metrics = TranslationEvaluator(["the same"] * 4, ["the same"] * 4)(dense)
    assert metrics["mean_accuracy"] == 0.25


def test_wrong_matches_are_printed_when_asked_for(capsys):
    evaluator = TranslationEvaluator(["a", "b"], ["B", "A"], print_wrong_matches=True)
    evaluator(TwoDimensions())
    printed = capsys.readouterr().out
    assert "\na\n  own translation  0.7142  B\n  nearest          0.9950  A\n" in printed
    TranslationEvaluator(["a", "b"], ["B", "A"])(TwoDimensions())
    assert capsys.readouterr().out == ""
