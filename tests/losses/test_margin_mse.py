"""Margins between a positive and its negatives, student against teacher."""

from __future__ import annotations

import pytest
import torch

from sentence_transformers import losses
from sentence_transformers.tensors.embeddings import Embeddings
from sentence_transformers.tensors.late_interaction import maxsim_pairwise
from sentence_transformers.tensors.similarity import pairwise_cos_sim


def vectors(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def value_of(loss, columns, labels):
    (part,) = loss.parts([Embeddings(column) for column in columns], labels)
    return part.value


@pytest.mark.parametrize("negatives", [1, 2, 4])
def test_the_value_is_that_of_the_definition(negatives):
    columns, margins = vectors(2 + negatives, 5, 7), vectors(5, negatives, seed=1)
    squares = [
        (
            float(columns[0, row] @ columns[1, row] - columns[0, row] @ columns[2 + number, row])
            - float(margins[row, number])
        )
        ** 2
        for row in range(5)
        for number in range(negatives)
    ]
    value = value_of(losses.MarginMSELoss(None), columns, margins)
    assert value.item() == pytest.approx(sum(squares) / len(squares), rel=1e-9)


@pytest.mark.parametrize("negatives", [1, 3])
def test_a_teacher_s_scores_are_as_good_as_its_margins(negatives):
    columns, scores = vectors(2 + negatives, 5, 7), vectors(5, 1 + negatives, seed=1)
    loss = losses.MarginMSELoss(None)
    assert value_of(loss, columns, scores).equal(value_of(loss, columns, scores[:, :1] - scores[:, 1:]))


def test_with_one_negative_a_label_may_be_a_single_number():
    columns, margins = vectors(3, 5, 7), vectors(5, seed=1)
    loss = losses.MarginMSELoss(None)
    assert value_of(loss, columns, margins).equal(value_of(loss, columns, margins[:, None]))


def test_gradients_are_those_of_differences():
    loss, scores = losses.MarginMSELoss(None, pairwise_cos_sim), vectors(4, 3, seed=1)
    columns = vectors(4, 4, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda *given: value_of(loss, given, scores), columns.unbind())


def test_token_embeddings_are_compared_by_maxsim():
    tokens, masks = vectors(3, 4, 5, 6), torch.ones(3, 4, 5, dtype=torch.bool)
    masks[:, 1:, 3:] = False
    columns = [Embeddings(values, mask) for values, mask in zip(tokens, masks)]
    (part,) = losses.MarginMSELoss(None, maxsim_pairwise).parts(columns, torch.zeros(4))
    scores = [maxsim_pairwise(tokens[0], tokens[number], masks[0], masks[number]) for number in (1, 2)]
    assert part.value.item() == pytest.approx((scores[0] - scores[1]).square().mean().item(), rel=1e-5)


@pytest.mark.parametrize("shape", [(5, 4), (5,), (5, 1), (5, 2, 1)])
def test_labels_of_another_shape_are_refused(shape):
    with pytest.raises(
        ValueError, match="2 numbers, or its scores of the positive and the negatives, 3 numbers"
    ):
        value_of(losses.MarginMSELoss(None), vectors(4, 5, 7), vectors(*shape))


def test_two_columns_are_too_few():
    with pytest.raises(ValueError, match="3 or more text columns"):
        losses.MarginMSELoss(None).check(2, torch.zeros(5))
