"""MarginMSELoss of pairs against its written-out definition, with labels of every form."""

from __future__ import annotations

import pytest
import torch

from pair_model import PairModel
from score_loss_cases import COLUMNS
from sentence_transformers.cross_encoder.losses import MarginMSELoss

COLUMNS_OF_TWO = COLUMNS["two negatives"]
MARGINS = torch.linspace(-1, 2, 12, dtype=torch.float64).reshape(6, 2)


def definition(model: PairModel) -> float:
    scores = [model.scores(list(zip(COLUMNS_OF_TWO[0], column))) for column in COLUMNS_OF_TWO[1:]]
    margins = [
        (scores[0][row] - scores[1 + column][row]).item() - MARGINS[row, column].item()
        for row in range(6)
        for column in range(2)
    ]
    return sum(margin**2 for margin in margins) / 12


def test_labels_may_be_margins_or_scores_in_a_tensor_or_a_list():
    model = PairModel()
    loss, expected = MarginMSELoss(model), definition(model)
    scores = torch.cat([torch.full((6, 1), 3.0), 3.0 - MARGINS], dim=1)
    for labels in (MARGINS, list(MARGINS), scores, list(scores), scores.tolist()):
        assert loss(COLUMNS_OF_TWO, labels).item() == pytest.approx(expected, rel=1e-6)


def test_one_negative_takes_one_number_for_each_row():
    loss = MarginMSELoss(PairModel())
    columns = COLUMNS_OF_TWO[:3]
    flat = loss(columns, MARGINS[:, 0])
    torch.testing.assert_close(flat, loss(columns, MARGINS[:, :1]))


def test_labels_of_another_shape_are_refused():
    with pytest.raises(
        ValueError, match="2 numbers, or its scores of the positive and the negatives, 3 numbers"
    ):
        MarginMSELoss(PairModel())(COLUMNS_OF_TWO, torch.zeros(6, 4))
