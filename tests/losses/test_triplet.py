"""The triplet loss against its written-out definition."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from loss_columns import gradients_are_those_of_small_differences, made, value_of
from sentence_transformers.losses import TripletDistanceMetric, TripletLoss


def cosine_distance(a, b) -> float:
    return 1 - float(a @ b) / float(a.norm() * b.norm())


METRICS = pytest.mark.parametrize(
    ("metric", "by_hand"),
    [
        (TripletDistanceMetric.EUCLIDEAN, lambda a, b: float((a - b).square().sum()) ** 0.5),
        (TripletDistanceMetric.MANHATTAN, lambda a, b: float((a - b).abs().sum())),
        (TripletDistanceMetric.COSINE, cosine_distance),
    ],
    ids=["euclidean", "manhattan", "cosine"],
)


@METRICS
def test_the_value_is_its_definition(metric, by_hand):
    columns = made(3)
    expected = sum(max(0, by_hand(a, p) - by_hand(a, n) + 0.3) for a, p, n in zip(*columns)) / 6
    value = value_of(TripletLoss(nn.Identity(), metric, triplet_margin=0.3), columns)
    assert value.item() == pytest.approx(expected, rel=1e-9)


@METRICS
def test_gradients_are_those_of_small_differences(metric, by_hand):
    assert gradients_are_those_of_small_differences(TripletLoss(nn.Identity(), metric, 0.3), made(3))


@METRICS
def test_equal_texts_have_finite_gradients(metric, by_hand):
    anchors, negatives = (column.requires_grad_() for column in made(2))
    value_of(TripletLoss(nn.Identity(), metric), [anchors, anchors, negatives]).backward()
    assert anchors.grad.isfinite().all()


def test_without_a_metric_it_is_the_euclidean_one():
    loss = TripletLoss(nn.Identity())
    assert loss.get_config_dict() == {
        "distance_metric": "TripletDistanceMetric.EUCLIDEAN",
        "triplet_margin": 5,
    }


def test_labels_are_not_looked_at():
    loss = TripletLoss(nn.Identity())
    loss.check(3, torch.zeros(6, 7))
    torch.testing.assert_close(value_of(loss, made(3), torch.zeros(6, 7)), value_of(loss, made(3)))
