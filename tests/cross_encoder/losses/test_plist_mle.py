"""The order that ListMLE and its weighted form take for the true one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pair_model import PairModel
from score_loss_cases import COLUMNS, LABELS
from sentence_transformers.cross_encoder.losses import ListMLELoss, PListMLELambdaWeight, PListMLELoss


def by_label() -> tuple[list[Any], list[Any]]:
    orders = [labels.argsort(descending=True, stable=True).tolist() for labels in LABELS["grades"]]
    documents = [[own[place] for place in order] for own, order in zip(COLUMNS["lists"][1], orders)]
    return [COLUMNS["lists"][0], documents], [torch.zeros(len(order)) for order in orders]


@pytest.mark.parametrize("kind", [ListMLELoss, PListMLELoss])
def test_documents_are_ordered_by_label_only_if_that_is_asked_for(kind):
    model = PairModel()
    sorted_value = kind(model, respect_input_order=False)(COLUMNS["lists"], LABELS["grades"])
    torch.testing.assert_close(sorted_value, kind(model)(*by_label()))
    assert sorted_value != kind(model)(COLUMNS["lists"], LABELS["grades"])


def test_without_weights_both_are_the_same():
    model = PairModel()
    plain = ListMLELoss(model)(COLUMNS["lists"], LABELS["grades"])
    torch.testing.assert_close(PListMLELoss(model, None)(COLUMNS["lists"], LABELS["grades"]), plain)


def test_weights_may_be_a_function_of_the_mask():
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]]).bool()
    weight = PListMLELambdaWeight(lambda mask: 1 / mask.cumsum(1))
    torch.testing.assert_close(weight(mask), torch.tensor([[1, 1 / 2, 1 / 3], [1, 1 / 2, 1 / 2]]))
    assert PListMLELambdaWeight()(mask).tolist() == [[3, 1, 0], [1, 0, 0]]
