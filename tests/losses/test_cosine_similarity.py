"""The cosine loss against its written-out definition."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from loss_columns import gradients_are_those_of_small_differences, made, value_of
from sentence_transformers.losses import CosineSimilarityLoss

LABELS = [0.1, 0.9, 0.4, 0.4, 0.7, 0.0]


def cosines(columns) -> list[float]:
    return [float(a @ b) / float(a.norm() * b.norm()) for a, b in zip(*columns)]


def test_the_value_is_the_mean_squared_error():
    columns = made(2)
    expected = sum((cosine - label) ** 2 for cosine, label in zip(cosines(columns), LABELS)) / 6
    assert value_of(CosineSimilarityLoss(nn.Identity()), columns, LABELS).item() == pytest.approx(expected)


def test_error_and_transformation_may_be_others():
    columns = made(2)
    expected = sum(
        abs(1 / (1 + math.exp(-cosine)) - label) for cosine, label in zip(cosines(columns), LABELS)
    )
    loss = CosineSimilarityLoss(nn.Identity(), nn.L1Loss(reduction="sum"), torch.sigmoid)
    assert value_of(loss, columns, LABELS).item() == pytest.approx(expected)
    assert loss.get_config_dict()["loss_fct"] == "torch.nn.modules.loss.L1Loss"


def test_gradients_are_those_of_small_differences():
    assert gradients_are_those_of_small_differences(CosineSimilarityLoss(nn.Identity()), made(2), LABELS)


def test_labels_may_be_whole_numbers():
    columns, labels = made(2), torch.tensor([1, 0, 1, 1, 0, 0])
    loss = CosineSimilarityLoss(nn.Identity())
    loss.check(2, labels)
    torch.testing.assert_close(value_of(loss, columns, labels), value_of(loss, columns, labels.double()))


def test_transformations_with_parameters_are_trained_with_the_loss():
    loss = CosineSimilarityLoss(nn.Identity(), cos_score_transformation=nn.PReLU())
    assert dict(loss.named_parameters()).keys() == {"cos_score_transformation.weight"}
