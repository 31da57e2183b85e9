"""Margins to the hardest negative, against a loop over all of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from loss_columns import ROWS, gradients_are_those_of_small_differences, made, value_of
from sentence_transformers.losses import MegaBatchMarginLoss


def cosine(a, b) -> float:
    return float(a @ b) / float(a.norm() * b.norm())


def by_definition(columns, rows) -> float:
    anchors, positives = columns
    total = 0.0
    for row in rows:
        to_positive = cosine(anchors[row], positives[row])
        hardest = max(cosine(anchors[row], positives[other]) for other in range(ROWS) if other != row)
        total += max(0, 0.8 - to_positive) + max(0, hardest - 0.3)
    return total / len(rows)


def test_the_value_is_its_definition():
    value = value_of(MegaBatchMarginLoss(nn.Identity()), made(2))
    assert value.item() == pytest.approx(by_definition(made(2), range(ROWS)), rel=1e-9)


def test_some_rows_have_all_others_as_negatives():
    value = value_of(MegaBatchMarginLoss(nn.Identity()), made(2), rows=slice(2, 5))
    assert value.item() == pytest.approx(by_definition(made(2), range(2, 5)), rel=1e-9)


def test_a_single_row_has_no_negative():
    columns = [column[:1].requires_grad_() for column in made(2)]
    value = value_of(MegaBatchMarginLoss(nn.Identity()), columns)
    value.backward()
    assert value.item() == pytest.approx(0.8 - cosine(*(column[0] for column in made(2))), rel=1e-9)
    assert all(column.grad.isfinite().all() for column in columns)


def test_gradients_are_those_of_small_differences():
    loss = MegaBatchMarginLoss(nn.Identity(), positive_margin=0.9, negative_margin=-0.5)
    assert gradients_are_those_of_small_differences(loss, made(2))


def test_it_caches_gradients_unless_told_otherwise():
    assert MegaBatchMarginLoss(nn.Identity()).mini_batch_size == 50
    assert MegaBatchMarginLoss(nn.Identity(), mini_batch_size=7, mini_batch_num_tokens=99).is_cached
    plain = MegaBatchMarginLoss(nn.Identity(), use_mini_batched_version=False)
    assert not plain.is_cached
    torch.testing.assert_close(
        value_of(plain, made(2)), value_of(MegaBatchMarginLoss(nn.Identity()), made(2))
    )
