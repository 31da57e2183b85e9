"""Losses of a model with fewer layers."""

from __future__ import annotations

import math
import random

import pytest
import torch
from torch.nn import functional as F

from sentence_transformers import SentenceTransformer, losses
from sentence_transformers.losses.base import EmbeddingLoss, LossPart
from sentence_transformers.models import Dense, Normalize, Pooling, Router, StaticEmbedding, Transformer
from tiny import WIDTH, sample_texts, tiny_checkpoint, tiny_tokenizer

LAYERS = 4
TEXTS = [text[: 20 + 15 * (number % 4)] for number, text in enumerate(sample_texts())]
COLUMNS = [TEXTS[:5], TEXTS[5:10]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tiny_checkpoint("bert", tmp_path_factory.mktemp("bert"), num_hidden_layers=LAYERS))


@pytest.fixture
def model(folder):
    torch.manual_seed(0)
    modules = [Transformer(folder), Pooling(WIDTH, "mean"), Dense(WIDTH, 16), Normalize()]
    return SentenceTransformer(modules=modules, device="cpu").eval()


class Sum(EmbeddingLoss):
    """The sum of all numbers, and what it was given."""

    def __init__(self, model):
        super().__init__(model)
        self.given = []

    def parts(self, embeddings, labels, *, rows=None, context=None):
        self.given.append([column.values.detach() for column in embeddings])
        yield LossPart("sum", sum(column.values.sum() for column in embeddings))


def features(model):
    return [model.preprocess(column) for column in COLUMNS]


@torch.no_grad()
def vectors_of_layers(model, texts) -> list[torch.Tensor]:
    """The embeddings of texts by the model cut off after each layer, (B, D)."""
    inputs = model.preprocess(texts)
    layers = model[0].auto_model(**inputs, output_hidden_states=True).hidden_states
    vectors = []
    for tokens in layers:
        mask = inputs["attention_mask"][..., None]
        vector = (tokens * mask).sum(dim=1) / mask.sum(dim=1)
        vectors.append(F.normalize(model[2]({"sentence_embedding": vector})["sentence_embedding"], dim=-1))
    return vectors


def divergence(layer: torch.Tensor, last: torch.Tensor, temperature: float) -> float:
    total = 0.0
    for row, target in zip(layer.tolist(), last.tolist()):
        found, wanted = ([math.exp(value / temperature) for value in values] for values in (row, target))
        total += sum(
            p / sum(wanted) * math.log(p / sum(wanted) / (q / sum(found))) for p, q in zip(wanted, found)
        )
    return total / len(layer)


@pytest.mark.parametrize(
    ("weighting", "weights"),
    [
        ("uniform", [1, 1, 1, 1]),
        ("linear", [1, 1 / 2, 1 / 3, 1 / 4]),
        ("log", [1 / (1 + math.log(1 + number)) for number in range(LAYERS)]),
        (lambda number: 3.0 * number, [0, 3, 6, 9]),
    ],
)
def test_the_value_is_that_of_the_definition(model, weighting, weights):
    loss = losses.AdaptiveLayerLoss(model, Sum(model), -1, 2.0, 3.0, 5.0, 0.5, weighting)
    columns = [vectors_of_layers(model, texts) for texts in COLUMNS]
    sums = [sum(float(column[number].sum()) for column in columns) for number in range(LAYERS + 1)]
    layers = [torch.cat([column[number] for column in columns]) for number in range(LAYERS + 1)]
    expected = 2 * sums[-1]
    expected += 3 * sum(weight * value for weight, value in zip(weights, sums)) / LAYERS
    expected += 5 * 0.5 * sum(divergence(layer, layers[-1], 0.5) for layer in layers[:-1])
    assert loss(features(model), None).item() == pytest.approx(expected, rel=1e-4)
    assert [loss.get_layer_weight(number) for number in range(LAYERS)] == pytest.approx(weights)


def test_the_inner_loss_sees_the_last_layer_and_those_chosen(model):
    inner = Sum(model)
    random.seed(0)
    losses.AdaptiveLayerLoss(model, inner, n_layers_per_step=2)(features(model), None)
    known = vectors_of_layers(model, COLUMNS[0])
    numbers = [
        next(number for number, vectors in enumerate(known) if torch.allclose(vectors, given[0], atol=1e-5))
        for given in inner.given
    ]
    assert numbers[0] == LAYERS
    assert len(set(numbers)) == 3


@pytest.mark.parametrize(("asked", "count"), [(1, 1), (3, 3), (4, 4), (9, 4), (-1, 4), (0, 4)])
def test_so_many_layers_as_asked_for_are_chosen(model, asked, count):
    loss = losses.AdaptiveLayerLoss(model, Sum(model), n_layers_per_step=asked)
    loss(features(model), None)
    assert sum(name.startswith("layer_") for name in loss.latest_parts) == count


def test_in_the_long_run_every_layer_is_chosen(model):
    random.seed(0)
    loss = losses.AdaptiveLayerLoss(model, Sum(model))
    seen = set()
    for _ in range(20):
        loss(features(model), None)
        seen |= loss.latest_parts.keys()
    assert {f"layer_{number}" for number in range(LAYERS)} <= seen


def test_the_last_layer_is_a_teacher_and_learns_nothing_from_the_divergence(model):
    loss = losses.AdaptiveLayerLoss(model, Sum(model), -1, last_layer_weight=0, prior_layers_weight=0)
    loss(features(model), None).backward()
    layers = model[0].auto_model.encoder.layer
    assert layers[LAYERS - 1].output.dense.weight.grad is None or (
        layers[LAYERS - 1].output.dense.weight.grad.abs().max() == 0
    )
    assert layers[LAYERS - 2].output.dense.weight.grad.abs().max() > 0


@pytest.mark.parametrize("arguments", [{"kl_div_weight": 0}, {"kl_temperature": 0}])
def test_the_divergence_can_be_left_out(model, arguments):
    loss = losses.AdaptiveLayerLoss(model, Sum(model), **arguments)
    loss(features(model), None)
    assert "divergence" not in loss.latest_parts


def test_rows_without_padding_give_the_same_as_padded_ones(model):
    loss = losses.AdaptiveLayerLoss(model, losses.MultipleNegativesRankingLoss(model), -1)
    values, gradients = [], []
    for unpad in (None, False):
        model[0].unpad_inputs = unpad
        assert model.computes_no_padding == (unpad is None)
        model.zero_grad()
        value = loss(features(model), None)
        value.backward()
        values.append(value.item())
        gradients.append(model[0].auto_model.embeddings.word_embeddings.weight.grad.clone())
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("asked", [1, 2, -1])
def test_cached_gradients_are_those_of_the_same_layers(model, asked):
    results = []
    for inner in (
        losses.MultipleNegativesRankingLoss(model),
        losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=2),
    ):
        loss = losses.Matryoshka2dLoss(model, inner, [16, 8], n_layers_per_step=asked, n_dims_per_step=1)
        random.seed(3)
        model.zero_grad()
        value = loss(features(model), None)
        value.backward()
        results.append((value.item(), model[0].auto_model.embeddings.word_embeddings.weight.grad.clone()))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=1e-5)


def test_a_router_s_routes_have_layers_too(folder):
    router = Router.for_query_document(
        query_modules=[Transformer(folder), Pooling(WIDTH, "mean")],
        document_modules=[Transformer(folder), Pooling(WIDTH, "mean")],
    )
    routed = SentenceTransformer(modules=[router, Normalize()], device="cpu").eval()
    columns = [routed.preprocess(texts, task=task) for texts, task in zip(COLUMNS, ("query", "document"))]
    inner = Sum(routed)
    losses.AdaptiveLayerLoss(routed, inner, -1)(columns, None)
    plain = SentenceTransformer(
        modules=[Transformer(folder), Pooling(WIDTH, "mean"), Normalize()], device="cpu"
    ).eval()
    expected = Sum(plain)
    losses.AdaptiveLayerLoss(plain, expected, -1)(features(plain), None)
    for given, known in zip(inner.given, expected.given, strict=True):
        torch.testing.assert_close(given, known)


def test_models_without_layers_and_of_different_depth_are_refused(folder, tmp_path):
    static = SentenceTransformer(
        modules=[StaticEmbedding(tiny_tokenizer("bert"), embedding_dim=WIDTH)], device="cpu"
    )
    with pytest.raises(ValueError, match="StaticEmbedding, gives none"):
        losses.AdaptiveLayerLoss(static, Sum(static))(features(static), None)
    shallow = str(tiny_checkpoint("bert", tmp_path))
    router = Router.for_query_document(
        query_modules=[Transformer(folder), Pooling(WIDTH, "mean")],
        document_modules=[Transformer(shallow), Pooling(WIDTH, "mean")],
    )
    routed = SentenceTransformer(modules=[router], device="cpu")
    columns = [routed.preprocess(texts, task=task) for texts, task in zip(COLUMNS, ("query", "document"))]
    with pytest.raises(ValueError, match="different numbers of layers"):
        losses.AdaptiveLayerLoss(routed, Sum(routed), -1)(columns, None)


def test_settings_that_make_no_sense_are_refused(model):
    with pytest.raises(ValueError, match="layer_weighting='square'"):
        losses.AdaptiveLayerLoss(model, Sum(model), layer_weighting="square")
    inner = losses.MatryoshkaLoss(model, losses.AdaptiveLayerLoss(model, Sum(model)), [16])
    with pytest.raises(ValueError, match="only once"):
        losses.AdaptiveLayerLoss(model, inner)


def test_settings_of_both_wrappers_are_told(model):
    loss = losses.Matryoshka2dLoss(model, Sum(model), [16, 8], layer_weighting=math.sqrt)
    assert loss.get_config_dict() == {
        "loss": "Sum",
        "n_layers_per_step": 1,
        "last_layer_weight": 1.0,
        "prior_layers_weight": 1.0,
        "kl_div_weight": 1.0,
        "kl_temperature": 0.3,
        "layer_weighting": "sqrt",
        "matryoshka_dims": (16, 8),
        "matryoshka_weights": (1, 1),
        "n_dims_per_step": 1,
    }
