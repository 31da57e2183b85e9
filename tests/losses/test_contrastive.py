"""Contrastive losses against their written-out definitions."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn

from loss_columns import gradients_are_those_of_small_differences, made, value_of
from sentence_transformers.losses import ContrastiveLoss, OnlineContrastiveLoss, SiameseDistanceMetric
from sentence_transformers.tensors.embeddings import Embeddings
from sentence_transformers.tensors.late_interaction import maxsim_pairwise

ALIKE = [1, 0, 1, 1, 0, 0]


def euclidean(a, b) -> float:
    return float(sum((x - y) ** 2 for x, y in zip(a, b))) ** 0.5


def manhattan(a, b) -> float:
    return float(sum(abs(x - y) for x, y in zip(a, b)))


def cosine_distance(a, b) -> float:
    lengths = (float(sum(x * x for x in a)) * float(sum(y * y for y in b))) ** 0.5
    return 1 - float(sum(x * y for x, y in zip(a, b))) / lengths


METRICS = [
    (SiameseDistanceMetric.EUCLIDEAN, euclidean, 3.0),
    (SiameseDistanceMetric.MANHATTAN, manhattan, 5.0),
    (SiameseDistanceMetric.COSINE_DISTANCE, cosine_distance, 1.2),
]
BY_NAME = pytest.mark.parametrize(
    ("metric", "by_hand", "margin"), METRICS, ids=["euclidean", "manhattan", "cosine"]
)


@BY_NAME
@pytest.mark.parametrize("averages", [True, False])
def test_contrastive_loss_is_its_definition(metric, by_hand, margin, averages):
    first, second = made(2)
    distances = [by_hand(a, b) for a, b in zip(first, second)]
    terms = [
        0.5 * distance**2 if alike else 0.5 * max(0, margin - distance) ** 2
        for distance, alike in zip(distances, ALIKE)
    ]
    loss = ContrastiveLoss(nn.Identity(), metric, margin, size_average=averages)
    expected = sum(terms) / len(terms) if averages else sum(terms)
    assert value_of(loss, [first, second], ALIKE).item() == pytest.approx(expected, rel=1e-9)


@BY_NAME
@pytest.mark.parametrize("labels", [ALIKE, [1, 0, 0, 0, 0, 0], [0, 1, 1, 1, 1, 1], [1, 2, 0, 3, 1, 0]])
def test_online_contrastive_loss_adds_up_the_hard_pairs(metric, by_hand, margin, labels):
    first, second = made(2)
    distances = [by_hand(a, b) for a, b in zip(first, second)]
    alike = [distance for distance, label in zip(distances, labels) if label == 1]
    different = [distance for distance, label in zip(distances, labels) if label == 0]
    expected = sum(distance**2 for distance in alike if distance > min(different))
    expected += sum(max(0, margin - distance) ** 2 for distance in different if distance < max(alike))
    loss = OnlineContrastiveLoss(nn.Identity(), metric, margin)
    assert value_of(loss, [first, second], labels).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kind", [0, 1])
def test_with_one_kind_of_pairs_those_beyond_their_mean_are_hard(kind):
    first, second = made(2)
    distances = [euclidean(a, b) for a, b in zip(first, second)]
    mean = sum(distances) / len(distances)
    expected = (
        sum(distance**2 for distance in distances if distance > mean)
        if kind
        else sum(max(0, 3 - distance) ** 2 for distance in distances if distance < mean)
    )
    loss = OnlineContrastiveLoss(nn.Identity(), SiameseDistanceMetric.EUCLIDEAN, 3.0)
    assert value_of(loss, [first, second], [kind] * 6).item() == pytest.approx(expected, rel=1e-9)


@BY_NAME
@pytest.mark.parametrize("kind", [ContrastiveLoss, OnlineContrastiveLoss])
def test_gradients_are_those_of_small_differences(kind, metric, by_hand, margin):
    loss = kind(nn.Identity(), metric, margin)
    assert gradients_are_those_of_small_differences(loss, made(2), ALIKE)


@pytest.mark.parametrize("kind", [ContrastiveLoss, OnlineContrastiveLoss])
@pytest.mark.parametrize("metric", [metric for metric, _, _ in METRICS])
def test_equal_texts_have_finite_gradients(kind, metric):
    (column,) = made(1)
    leaf = column.requires_grad_()
    value_of(kind(nn.Identity(), metric, 1.0), [leaf, leaf], ALIKE).backward()
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()


def test_labels_may_stand_in_a_column_and_be_of_any_type():
    loss, columns = ContrastiveLoss(nn.Identity()), made(2)
    expected = value_of(loss, columns, ALIKE)
    for labels in (torch.tensor(ALIKE)[:, None], torch.tensor(ALIKE).float(), torch.tensor(ALIKE).bool()):
        loss.check(2, labels)
        torch.testing.assert_close(value_of(loss, columns, labels), expected)


def test_several_labels_for_a_row_are_refused():
    with pytest.raises(ValueError, match=r"shape \(6, 2\)"):
        ContrastiveLoss(nn.Identity()).check(2, torch.zeros(6, 2))


def test_distances_may_be_those_of_token_embeddings():
    generator = torch.Generator().manual_seed(0)
    columns = [
        Embeddings(torch.randn(6, 3, 4, generator=generator), torch.ones(6, 3, dtype=torch.bool))
        for _ in range(2)
    ]
    loss = ContrastiveLoss(nn.Identity(), lambda a, b, c, d: -maxsim_pairwise(a, b, c, d), size_average=False)
    (part,) = loss.parts(columns, torch.ones(6))
    scores = [
        sum(max(float(x @ y) for y in b) for x in a) for a, b in zip(columns[0].values, columns[1].values)
    ]
    assert part.value.item() == pytest.approx(sum(0.5 * score**2 for score in scores), rel=1e-5)


def test_settings_name_the_distance():
    settings = OnlineContrastiveLoss(nn.Identity()).get_config_dict()
    assert settings == {"distance_metric": "SiameseDistanceMetric.COSINE_DISTANCE", "margin": 0.5}
    settings = ContrastiveLoss(nn.Identity(), lambda a, b: a - b).get_config_dict()
    assert settings == {"distance_metric": "<lambda>", "margin": 0.5, "size_average": True}


def test_distances_of_the_table_survive_pickling():
    loss = pickle.loads(pickle.dumps(ContrastiveLoss(nn.Identity(), SiameseDistanceMetric.MANHATTAN)))
    assert loss.distance_metric is SiameseDistanceMetric.MANHATTAN
