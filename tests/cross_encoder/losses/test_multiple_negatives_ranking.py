"""Which documents a query competes with, and the cross entropy over them."""

from __future__ import annotations

import math

import pytest
import torch

from pair_model import PairModel
from score_loss_cases import COLUMNS
from sentence_transformers.cross_encoder.losses import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)
from sentence_transformers.cross_encoder.losses.multiple_negatives_ranking import rows_drawn


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("count", [1, 3, 4, None, 50])
def test_documents_of_other_rows_are_drawn_at_most_once(columns, count):
    for _ in range(20):
        drawn = rows_drawn(5, columns, count)
        assert drawn.shape == (5, min(4 * columns, count or 50))
        for row, numbers in enumerate(drawn.tolist()):
            assert len(set(numbers)) == len(numbers)
            assert all(number % 5 != row and 0 <= number < 5 * columns for number in numbers)


def test_every_document_of_another_row_is_as_likely():
    torch.manual_seed(0)
    drawn = torch.cat([rows_drawn(4, 2, 2)[:1] for _ in range(3000)]).flatten()
    shares = torch.bincount(drawn, minlength=8) / 3000
    torch.testing.assert_close(shares, torch.tensor([0, 1, 1, 1, 0, 1, 1, 1]) / 3, atol=0.03, rtol=0)


@pytest.mark.parametrize("columns", ["pairs", "triplets"])
def test_with_all_negatives_the_value_is_its_definition(columns):
    model, texts = PairModel(), COLUMNS[columns]
    terms = []
    for row, query in enumerate(texts[0]):
        documents = [text for column in texts[1:] for text in column]
        scores = model.scores([(query, document) for document in documents])
        scaled = [10 / (1 + math.exp(-score)) for score in scores.tolist()]
        terms.append(math.log(sum(map(math.exp, scaled))) - scaled[row])
    loss = MultipleNegativesRankingLoss(model, num_negatives=None)
    assert loss(texts).item() == pytest.approx(sum(terms) / 6, rel=1e-9)


def test_own_hard_negatives_always_count():
    model, (queries, documents, negatives) = PairModel(), COLUMNS["triplets"]
    loss = MultipleNegativesRankingLoss(model, num_negatives=0, scale=2.0, activation_fn=None)
    positive = model.scores(list(zip(queries, documents)))
    negative = model.scores(list(zip(queries, negatives)))
    expected = torch.nn.functional.softplus(2 * (negative - positive)).mean()
    torch.testing.assert_close(loss([queries, documents, negatives]), expected)
    assert loss.documents([queries, documents, negatives])[2] == [documents[2], negatives[2]]


def test_draws_are_those_of_the_seed():
    loss = MultipleNegativesRankingLoss(PairModel(), num_negatives=2)
    values = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        values.append(loss(COLUMNS["triplets"]).item())
    assert values[0] == values[1] != values[2]


def test_a_single_row_has_nothing_to_learn():
    loss = MultipleNegativesRankingLoss(PairModel())
    value = loss([column[:1] for column in COLUMNS["pairs"]])
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-12)


def test_nothing_to_rank_below_the_document_is_refused():
    with pytest.raises(ValueError, match="num_negatives=0 and no column of hard negatives"):
        MultipleNegativesRankingLoss(PairModel(), num_negatives=0)(COLUMNS["pairs"])
    with pytest.raises(ValueError, match="num_negatives=-1"):
        MultipleNegativesRankingLoss(PairModel(), num_negatives=-1)
    with pytest.raises(ValueError, match="mini_batch_size=0"):
        CachedMultipleNegativesRankingLoss(PairModel(), mini_batch_size=0)


def test_the_cached_loss_tells_how_much_it_scores_at_once():
    assert CachedMultipleNegativesRankingLoss(PairModel(), mini_batch_size=8).get_config_dict() == {
        "scale": 10.0,
        "num_negatives": 4,
        "activation_fn": "torch.nn.modules.activation.Sigmoid",
        "mini_batch_size": 8,
    }
