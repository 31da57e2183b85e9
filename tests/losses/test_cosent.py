"""Losses of order against their written-out definitions."""

from __future__ import annotations

import cmath
import math

import pytest
import torch
from torch import nn

from loss_columns import WIDTH, gradients_are_those_of_small_differences, made, value_of
from sentence_transformers.losses import AnglELoss, CoSENTLoss
from sentence_transformers.tensors.embeddings import Embeddings
from sentence_transformers.tensors.late_interaction import maxsim_pairwise

LABELS = [0.1, 0.9, 0.4, 0.4, 0.7, 0.0]


def cosine(a, b) -> float:
    return float(a @ b) / float(a.norm() * b.norm())


def angle(a, b) -> float:
    """Of vectors read as complex numbers: first half real, second half imaginary."""
    half = WIDTH // 2
    first, second = ([complex(row[i], row[i + half]) for i in range(half)] for row in (a, b))
    # z = x / y of the whole vectors: the products with the conjugate, divided by |y|² and by |x| / |y|.
    quotients = [x * y.conjugate() for x, y in zip(first, second)]
    length = math.prod(sum(abs(z) ** 2 for z in vector) ** 0.5 for vector in (first, second))
    assert all(cmath.isfinite(z) for z in quotients)
    return abs(sum(z.real + z.imag for z in quotients)) / length


@pytest.mark.parametrize(("kind", "similarity"), [(CoSENTLoss, cosine), (AnglELoss, angle)])
def test_the_value_is_that_of_all_pairs_of_pairs(kind, similarity):
    first, second = made(2)
    scores = [3.0 * similarity(a, b) for a, b in zip(first, second)]
    total = sum(math.exp(scores[i] - scores[j]) for i in range(6) for j in range(6) if LABELS[i] < LABELS[j])
    value = value_of(kind(nn.Identity(), scale=3.0), [first, second], LABELS)
    assert value.item() == pytest.approx(math.log(1 + total), rel=1e-9)


@pytest.mark.parametrize("kind", [CoSENTLoss, AnglELoss])
def test_gradients_are_those_of_small_differences(kind):
    assert gradients_are_those_of_small_differences(kind(nn.Identity(), scale=3.0), made(2), LABELS)


@pytest.mark.parametrize("kind", [CoSENTLoss, AnglELoss])
def test_labels_that_are_all_equal_ask_for_nothing(kind):
    columns = [column.requires_grad_() for column in made(2)]
    value = value_of(kind(nn.Identity()), columns, [0.5] * 6)
    value.backward()
    assert value.item() == 0
    assert all(not column.grad.any() for column in columns)


def test_only_the_order_of_labels_counts():
    loss, columns = CoSENTLoss(nn.Identity()), made(2)
    squares = [label**2 for label in LABELS]
    integers = [sorted(set(LABELS)).index(label) for label in LABELS]
    expected = value_of(loss, columns, LABELS)
    for labels in (squares, integers, torch.tensor(LABELS)[:, None]):
        torch.testing.assert_close(value_of(loss, columns, labels), expected)


def test_large_scales_do_not_overflow():
    value = value_of(CoSENTLoss(nn.Identity(), scale=1e5), made(2), LABELS)
    assert value.isfinite()


def test_an_odd_width_has_no_angle():
    with pytest.raises(ValueError, match="width 3"):
        value_of(AnglELoss(nn.Identity()), [column[:, :3] for column in made(2)], LABELS)


def test_token_embeddings_are_scored_by_maxsim():
    generator = torch.Generator().manual_seed(0)
    columns = [
        Embeddings(torch.randn(6, 3, 4, generator=generator), torch.ones(6, 3, dtype=torch.bool))
        for _ in range(2)
    ]
    scores = [
        sum(max(float(x @ y) for y in b) for x in a) for a, b in zip(columns[0].values, columns[1].values)
    ]
    total = sum(math.exp(scores[i] - scores[j]) for i in range(6) for j in range(6) if LABELS[i] < LABELS[j])
    (part,) = CoSENTLoss(nn.Identity(), 1.0, maxsim_pairwise).parts(columns, torch.tensor(LABELS))
    assert part.value.item() == pytest.approx(math.log(1 + total), rel=1e-5)
