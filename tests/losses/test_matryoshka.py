"""Losses of shortened embeddings."""

from __future__ import annotations

import logging
import random

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sentence_transformers import SentenceTransformer, losses
from sentence_transformers.losses.base import LossPart
from sentence_transformers.losses.matryoshka import width_of
from sentence_transformers.models import Dense, Normalize, StaticEmbedding
from sentence_transformers.tensors.embeddings import Embeddings
from sentence_transformers.util import dot_score
from tiny import sample_texts, tiny_tokenizer

WIDTH = 12


@pytest.fixture
def model():
    torch.manual_seed(0)
    return SentenceTransformer(
        modules=[StaticEmbedding(tiny_tokenizer("bert"), embedding_dim=WIDTH)], device="cpu"
    )


@pytest.fixture
def columns(model):
    return [model.preprocess(sample_texts()[start : start + 6]) for start in (0, 6)]


def ranking(model):
    return losses.MultipleNegativesRankingLoss(model, 1.0, dot_score)


class Seen(nn.Module):
    """A loss of somebody else's that keeps what it is given."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.widths = []

    def forward(self, sentence_features, labels):
        vectors = [self.model(features)["sentence_embedding"] for features in sentence_features]
        self.widths.append(vectors[0].shape[1])
        return vectors[0].sum()


def test_the_value_is_the_weighted_sum_over_unit_vectors_of_each_width(model, columns):
    value = losses.MatryoshkaLoss(model, ranking(model), [4, WIDTH, 8], [0.5, 2, 1])(columns, None)
    expected = 0.0
    for width, weight in ((4, 0.5), (WIDTH, 2), (8, 1)):
        a, b = (F.normalize(model(dict(column))["sentence_embedding"][:, :width]) for column in columns)
        expected += weight * F.cross_entropy(a @ b.T, torch.arange(6)).item()
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_widths_and_their_weights_are_kept_widest_first(model):
    loss = losses.MatryoshkaLoss(model, ranking(model), [4, WIDTH, 8], [0.5, 2, 1])
    assert (loss.matryoshka_dims, loss.matryoshka_weights) == ((WIDTH, 8, 4), (2, 1, 0.5))
    assert loss.get_config_dict() == {
        "loss": "MultipleNegativesRankingLoss",
        "matryoshka_dims": (WIDTH, 8, 4),
        "matryoshka_weights": (2, 1, 0.5),
        "n_dims_per_step": -1,
    }
    assert losses.MatryoshkaLoss(model, ranking(model), [8, WIDTH]).matryoshka_weights == (1, 1)


def test_the_parts_are_named_after_the_widths(model, columns):
    loss = losses.MatryoshkaLoss(model, ranking(model), [WIDTH, 4])
    value = loss(columns, None)
    assert list(loss.latest_parts) == ["dim_12", "dim_4"]
    assert sum(loss.latest_parts.values()).item() == pytest.approx(value.item())


@pytest.mark.parametrize(("asked", "count"), [(1, 1), (2, 2), (3, 3), (5, 3), (-1, 3), (0, 3)])
def test_so_many_widths_as_asked_for_are_computed_in_a_step(model, columns, asked, count):
    inner = Seen(model)
    losses.MatryoshkaLoss(model, inner, [WIDTH, 8, 4], n_dims_per_step=asked)(columns, None)
    assert len(inner.widths) == len(set(inner.widths)) == count


def test_in_the_long_run_every_width_is_computed(model, columns):
    random.seed(0)
    inner = Seen(model)
    loss = losses.MatryoshkaLoss(model, inner, [WIDTH, 8, 4], n_dims_per_step=1)
    for _ in range(20):
        loss(columns, None)
    assert set(inner.widths) == {WIDTH, 8, 4}


def test_token_embeddings_are_shortened_token_by_token(model):
    seen = []

    class Kept(losses.MultipleNegativesRankingLoss):
        def parts(self, embeddings, labels, **kwargs):
            seen.extend(embeddings)
            yield LossPart("loss", torch.zeros(()))

    tokens, mask = torch.randn(2, 3, WIDTH), torch.tensor([[True, True, False]] * 2)
    loss = losses.MatryoshkaLoss(model, Kept(model), [8])
    list(loss.parts([Embeddings(tokens, mask)], None, context=([0], None)))
    assert seen[0].mask is mask
    torch.testing.assert_close(seen[0].values, F.normalize(tokens[..., :8], dim=-1))


def test_the_width_is_that_of_the_last_part_that_has_one(model):
    wider = SentenceTransformer(modules=[model[0], Dense(WIDTH, 20), Normalize()], device="cpu")
    assert width_of(wider) == 20
    assert losses.MatryoshkaLoss(wider, ranking(wider), [20, 16]).matryoshka_dims == (20, 16)
    wider.truncate_dim = 8  # shortens what `encode` gives, not what is trained
    assert losses.MatryoshkaLoss(wider, ranking(wider), [20]).matryoshka_dims == (20,)


def test_the_model_of_the_inner_loss_is_the_one_that_is_shortened(model, columns):
    torch.manual_seed(1)
    other = SentenceTransformer(modules=[StaticEmbedding(tiny_tokenizer("bert"), embedding_dim=WIDTH)])
    around_other = losses.MatryoshkaLoss(model, ranking(other), [4])(columns, None)
    assert around_other.equal(losses.MatryoshkaLoss(other, ranking(other), [4])(columns, None))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "empty"),
        (([WIDTH, 0],), "1 to 12"),
        (([-4],), "1 to 12"),
        (([WIDTH + 1],), "1 to 12"),
        (([8, 4], [1.0]), "2 matryoshka_dims and 1 matryoshka_weights"),
    ],
)
def test_widths_that_cannot_be_and_weights_too_few_are_refused(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        losses.MatryoshkaLoss(model, ranking(model), *arguments)


def test_leaving_out_the_full_width_is_told(model, caplog):
    with caplog.at_level(logging.WARNING):
        losses.MatryoshkaLoss(model, ranking(model), [WIDTH, 4])
        assert not caplog.text
        losses.MatryoshkaLoss(model, ranking(model), [8, 4])
    assert "does not have the model's own width, 12" in caplog.text
