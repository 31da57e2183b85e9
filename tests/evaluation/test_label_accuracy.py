"""LabelAccuracyEvaluator, beyond what all evaluators promise."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader

from sentence_transformers import InputExample
from sentence_transformers.evaluation import LabelAccuracyEvaluator
from tiny import sample_texts

TEXTS = [text[:60] for text in sample_texts()[:14]]


class AnglesInThree(torch.nn.Module):
    """Three classes of pairs by the cosine of their embeddings, called like the loss of that kind."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, sentence_features, labels):
        assert labels is None
        a, b = (self.model(column)["sentence_embedding"] for column in sentence_features)
        cosine = torch.nn.functional.cosine_similarity(a, b)
        return [a, b], torch.stack([-cosine, 0.5 * torch.ones_like(cosine), cosine], dim=1)


@pytest.mark.parametrize("batch_size", [1, 4, 20])
def test_it_is_the_share_of_right_classes(batch_size, dense):
    pairs = list(zip(TEXTS[:7], TEXTS[7:]))
    cosines = [float(dense.similarity(*dense.encode(list(pair)))) for pair in pairs]
    classes = [0 if cosine < -0.5 else 2 if cosine > 0.5 else 1 for cosine in cosines]
    labels = [label if row % 3 else (label + 1) % 3 for row, label in enumerate(classes)]
    examples = [InputExample(texts=list(pair), label=label) for pair, label in zip(pairs, labels)]
    evaluator = LabelAccuracyEvaluator(
        DataLoader(examples, batch_size=batch_size), name="nli", softmax_model=AnglesInThree(dense)
    )
    assert evaluator(dense) == {"nli_accuracy": pytest.approx(4 / 7)}
    assert evaluator.csv_file == "accuracy_evaluation_nli_results.csv"


def test_without_a_classifier_there_is_nothing_to_evaluate(dense):
    with pytest.raises(ValueError, match="softmax_model"):
        LabelAccuracyEvaluator(DataLoader([InputExample(texts=["a", "b"], label=0)]))(dense)
