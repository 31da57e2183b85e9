"""Losses over one pair at a time against their written-out definitions."""

from __future__ import annotations

import math

import pytest
import torch

from pair_model import PairModel
from score_loss_cases import COLUMNS
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss, CrossEntropyLoss, MSELoss

PAIRS = COLUMNS["pairs"]
LABELS = torch.tensor([0.0, 1.0, 0.3, 1.0, 0.0, 0.8])


def logits(model: PairModel) -> list[float]:
    return model.scores(list(zip(*PAIRS))).tolist()


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_binary_cross_entropy_is_its_definition(weight):
    model = PairModel()
    expected = [
        -weight * y * math.log(1 / (1 + math.exp(-s))) - (1 - y) * math.log(1 - 1 / (1 + math.exp(-s)))
        for s, y in zip(logits(model), LABELS.tolist())
    ]
    loss = BinaryCrossEntropyLoss(model, pos_weight=torch.tensor(weight))
    assert loss(PAIRS, LABELS).item() == pytest.approx(sum(expected) / 6, rel=1e-6)
    assert loss.get_config_dict()["pos_weight"] == weight


def test_labels_may_be_whole_numbers_or_stand_in_a_column():
    loss = BinaryCrossEntropyLoss(PairModel())
    labels = torch.tensor([0, 1, 1, 0, 1, 0])
    expected = loss(PAIRS, labels.float()).item()
    assert loss(PAIRS, labels).item() == expected
    assert loss(PAIRS, labels[:, None]).item() == expected


def test_mse_is_its_definition():
    model = PairModel()
    expected = sum((s - y) ** 2 for s, y in zip(logits(model), LABELS.tolist()))
    assert MSELoss(model)(PAIRS, LABELS).item() == pytest.approx(expected / 6, rel=1e-6)
    assert MSELoss(model, reduction="sum")(PAIRS, LABELS).item() == pytest.approx(expected, rel=1e-6)


def test_an_activation_comes_before_the_loss():
    model = PairModel()
    expected = sum((math.tanh(s) - y) ** 2 for s, y in zip(logits(model), LABELS.tolist()))
    loss = MSELoss(model, torch.nn.Tanh())
    assert loss(PAIRS, LABELS).item() == pytest.approx(expected / 6, rel=1e-6)


def test_cross_entropy_is_its_definition():
    model = PairModel(3)
    classes = [0, 2, 1, 1, 0, 2]
    expected = [
        math.log(sum(map(math.exp, scores))) - scores[number]
        for scores, number in zip(logits(model), classes)
    ]
    value = CrossEntropyLoss(model)(PAIRS, torch.tensor(classes))
    assert value.item() == pytest.approx(sum(expected) / 6, rel=1e-6)


def test_a_class_may_be_given_as_probabilities():
    classes = torch.tensor([0, 2, 1, 1, 0, 2])
    loss = CrossEntropyLoss(PairModel(3))
    certain = torch.nn.functional.one_hot(classes, 3).double()
    torch.testing.assert_close(loss(PAIRS, certain), loss(PAIRS, classes))


@pytest.mark.parametrize("label", [3, -1])
def test_a_class_that_the_model_does_not_have_is_refused(label):
    with pytest.raises(ValueError, match=rf"given the class {label}, and the model has the classes 0 to 2"):
        CrossEntropyLoss(PairModel(3))(PAIRS, torch.tensor([0, 1, 2, label, 0, 0]))


def test_a_class_that_is_to_be_ignored_is_not_refused():
    loss = CrossEntropyLoss(PairModel(3))
    value = loss(PAIRS, torch.tensor([0, 2, 1, -100, -100, -100]))
    part = loss([column[:3] for column in PAIRS], torch.tensor([0, 2, 1]))
    torch.testing.assert_close(value, part)


@pytest.mark.parametrize("labels", [torch.rand(6), torch.ones(6, 2, dtype=torch.long), torch.rand(6, 2)])
def test_other_labels_of_classes_are_refused(labels):
    with pytest.raises(ValueError, match="needs an int, the class of each row, or 3 probabilities"):
        CrossEntropyLoss(PairModel(3))(PAIRS, labels)
