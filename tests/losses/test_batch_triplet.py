"""Triplets found in a batch, against loops over all of them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from loss_columns import ROWS, gradients_are_those_of_small_differences, made, value_of
from sentence_transformers.losses import (
    BatchAllTripletLoss,
    BatchHardSoftMarginTripletLoss,
    BatchHardTripletLoss,
    BatchHardTripletLossDistanceFunction,
    BatchSemiHardTripletLoss,
)

COSINE = BatchHardTripletLossDistanceFunction.cosine_distance
EUCLIDEAN = BatchHardTripletLossDistanceFunction.euclidean_distance
LABELS = {
    "pairs": [0, 1, 2, 0, 1, 2],
    "uneven": [0, 0, 0, 1, 1, 2],
    "one apart": [0, 0, 0, 0, 0, 1],
    "one class": [3] * ROWS,
    "all different": [5, 4, 3, 2, 1, 0],
}
GROUPS = pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
METRICS = pytest.mark.parametrize("metric", [EUCLIDEAN, COSINE], ids=["euclidean", "cosine"])
KINDS = [BatchAllTripletLoss, BatchHardTripletLoss, BatchHardSoftMarginTripletLoss, BatchSemiHardTripletLoss]


def distances_between(rows, metric) -> list[list[float]]:
    if metric is COSINE:
        return [[1 - float(a @ b) / float(a.norm() * b.norm()) for b in rows] for a in rows]
    return [[float((a - b).norm()) for b in rows] for a in rows]


def positives_of(row: int, labels: list[int]) -> list[int]:
    return [other for other in range(ROWS) if other != row and labels[other] == labels[row]]


def negatives_of(row: int, labels: list[int]) -> list[int]:
    return [other for other in range(ROWS) if labels[other] != labels[row]]


def gaps(distances, labels) -> list[float]:
    """Farthest positive less nearest negative of each row."""
    return [
        max((distances[row][other] for other in positives_of(row, labels)), default=0.0)
        - min((distances[row][other] for other in negatives_of(row, labels)), default=max(distances[row]))
        for row in range(ROWS)
    ]


@GROUPS
@METRICS
@pytest.mark.parametrize("margin", [0.2, 5])
def test_batch_all_is_the_mean_over_triplets_above_zero(labels, metric, margin):
    (column,) = made(1)
    distances = distances_between(column, metric)
    triplets = [
        distances[row][positive] - distances[row][negative] + margin
        for row in range(ROWS)
        for positive in positives_of(row, labels)
        for negative in negatives_of(row, labels)
    ]
    above_zero = [value for value in triplets if value > 0]
    expected = sum(above_zero) / max(1, len(above_zero))
    value = value_of(BatchAllTripletLoss(nn.Identity(), metric, margin), [column], labels)
    assert value.item() == pytest.approx(expected, rel=1e-9)


@GROUPS
@METRICS
def test_batch_hard_is_the_mean_over_rows_of_the_hardest(labels, metric):
    (column,) = made(1)
    found = gaps(distances_between(column, metric), labels)
    value = value_of(BatchHardTripletLoss(nn.Identity(), metric, 0.2), [column], labels)
    assert value.item() == pytest.approx(sum(max(0, gap + 0.2) for gap in found) / ROWS, rel=1e-9)
    soft = value_of(BatchHardSoftMarginTripletLoss(nn.Identity(), metric), [column], labels)
    assert soft.item() == pytest.approx(sum(math.log(1 + math.exp(gap)) for gap in found) / ROWS, rel=1e-9)


@GROUPS
@METRICS
def test_batch_semi_hard_takes_the_nearest_negative_beyond_the_positive(labels, metric):
    (column,) = made(1)
    distances = distances_between(column, metric)
    losses = []
    for row in range(ROWS):
        for positive in positives_of(row, labels):
            to_positive = distances[row][positive]
            to_negatives = [distances[row][other] for other in negatives_of(row, labels)]
            farther = [distance for distance in to_negatives if distance > to_positive]
            to_negative = min(farther) if farther else max(to_negatives, default=0.0)
            losses.append(max(0, to_positive - to_negative + 0.2))
    value = value_of(BatchSemiHardTripletLoss(nn.Identity(), metric, 0.2), [column], labels)
    assert value.item() == pytest.approx(sum(losses) / max(1, len(losses)), rel=1e-9)


@GROUPS
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_small_differences(kind, labels):
    assert gradients_are_those_of_small_differences(kind(nn.Identity()), made(1), labels)


@METRICS
@GROUPS
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equal_texts_have_finite_gradients(kind, labels, metric, dtype):
    rows = made(1)[0].to(dtype)
    leaf = rows[[0, 0, 1, 1, 0, 1]].requires_grad_()
    value = value_of(kind(nn.Identity(), metric), [leaf], labels)
    value.backward()
    assert value.isfinite()
    assert leaf.grad.isfinite().all()
    assert leaf.grad.abs().max() < 10


def test_close_texts_pull_in_the_direction_between_them():
    # By way of products of float32, distances as small as this are noise.
    near = torch.tensor([[1.0, 2.0], [1.0, 2.0 + 1e-5], [9.0, 9.0]], requires_grad=True)
    EUCLIDEAN(near)[0, 1].backward()
    torch.testing.assert_close(near.grad, torch.tensor([[0.0, -1.0], [0.0, 1.0], [0.0, 0.0]]))


def test_distances_are_those_of_every_row_to_every_row():
    (column,) = made(1)
    for metric in (EUCLIDEAN, COSINE):
        expected = torch.tensor(distances_between(column, metric), dtype=torch.float64)
        torch.testing.assert_close(metric(column), expected)
    torch.testing.assert_close(EUCLIDEAN(column, squared=True), EUCLIDEAN(column).square())
    assert BatchHardTripletLossDistanceFunction.eucledian_distance is EUCLIDEAN


@pytest.mark.parametrize("kind", KINDS)
def test_labels_may_be_numbers_of_any_type_and_shape(kind):
    loss, columns = kind(nn.Identity()), made(1)
    expected = value_of(loss, columns, LABELS["uneven"])
    for labels in (torch.tensor(LABELS["uneven"]).float() / 2, torch.tensor(LABELS["uneven"])[:, None]):
        loss.check(1, labels)
        torch.testing.assert_close(value_of(loss, columns, labels), expected)


def test_settings_name_the_distance():
    assert BatchAllTripletLoss(nn.Identity()).get_config_dict() == {
        "distance_metric": "euclidean_distance",
        "margin": 5,
    }
    soft = BatchHardSoftMarginTripletLoss(nn.Identity(), COSINE)
    assert soft.get_config_dict() == {"distance_metric": "cosine_distance"}
