"""Cached gradients are the gradients, of any loss, model and batch.

What holds for every loss of this package stands in `families/test_every_loss.py`; here are odd losses and models.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sentence_transformers import SentenceTransformer, losses
from sentence_transformers.losses.base import EmbeddingLoss, LossPart, total
from sentence_transformers.losses.cached import values_and_gradients
from sentence_transformers.models import Normalize, Pooling, Router, StaticEmbedding, Transformer
from sentence_transformers.tensors.embeddings import Embeddings
from sentence_transformers.tensors.late_interaction import maxsim
from tiny import WIDTH, sample_texts, tiny_checkpoint, tiny_tokenizer

TEXTS = [text[: 10 + 17 * (number % 5)] for number, text in enumerate(sample_texts())]
FIRST, SECOND, THIRD = TEXTS[:7], TEXTS[7:14], TEXTS[14:21]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return {
        family: str(tiny_checkpoint(family, tmp_path_factory.mktemp(family))) for family in ("bert", "qwen3")
    }


@pytest.fixture
def model(checkpoints):
    return SentenceTransformer(checkpoints["bert"], device="cpu").double().eval()


def static_model(seed: int = 0) -> StaticEmbedding:
    torch.manual_seed(seed)
    return StaticEmbedding(tiny_tokenizer("bert"), embedding_dim=WIDTH)


def gradients(loss, columns, labels=None, weights=None):
    """Value and gradients of a loss; `weights` are those of its parts, by name."""
    loss.zero_grad()
    torch.manual_seed(0)
    result = loss([dict(column) for column in columns], labels)
    if weights is not None:
        result = {name: weights[name] * value for name, value in result.items()}
    value = total(result) if isinstance(result, dict) else result
    value.backward()
    return value.detach(), gradients_of(loss)


def gradients_of(loss):
    """Of every parameter by name, None where it has none."""
    return {
        name: None if parameter.grad is None else parameter.grad.clone()
        for name, parameter in loss.named_parameters()
    }


def assert_caching_changes_nothing(
    loss, columns, labels=None, weights=None, limits=({"mini_batch_size": 3},), tolerance=1e-7
):
    loss.mini_batch_size = loss.mini_batch_num_tokens = None
    value, expected = gradients(loss, columns, labels, weights)
    assert any(gradient is not None and gradient.abs().max() > 0 for gradient in expected.values())
    for limit in limits:
        for name, number in limit.items():
            setattr(loss, name, number)
        cached_value, found = gradients(loss, columns, labels, weights)
        torch.testing.assert_close(cached_value, value)
        assert [name for name in found if found[name] is None] == [
            name for name in expected if expected[name] is None
        ]
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance / 1000)


# -- models ----------------------------------------------------------------------------------------------


def test_texts_of_any_length_by_a_number_of_tokens(model):
    columns = [model.preprocess(texts) for texts in (FIRST, SECOND, THIRD)]
    loss = losses.CachedMultipleNegativesRankingLoss(model)
    limits = [{"mini_batch_num_tokens": tokens} for tokens in (1, 40, 100_000)]
    assert_caching_changes_nothing(loss, columns, limits=limits)


def test_a_model_that_computes_padding(model):
    model[0].unpad_inputs = False
    assert not model.computes_no_padding
    columns = [model.preprocess(texts) for texts in (FIRST, SECOND)]
    assert_caching_changes_nothing(losses.CachedMultipleNegativesRankingLoss(model), columns)


@pytest.mark.parametrize("unpads", [True, False])
def test_texts_padded_on_the_left(checkpoints, unpads):
    transformer = Transformer(checkpoints["qwen3"])
    transformer.unpad_inputs = None if unpads else False
    model = (
        SentenceTransformer(modules=[transformer, Pooling(WIDTH, "lasttoken")], device="cpu").double().eval()
    )
    columns = [model.preprocess(texts) for texts in (FIRST, SECOND)]
    assert columns[0]["attention_mask"][:, -1].all()
    assert not columns[0]["attention_mask"].all()
    # This architecture computes its norms in float32, whatever its weights are.
    loss = losses.CachedMultipleNegativesRankingLoss(model)
    assert_caching_changes_nothing(loss, columns, tolerance=1e-2)


def test_a_static_embedding_whose_ids_lie_flat():
    model = SentenceTransformer(modules=[static_model(), Normalize()], device="cpu").double()
    columns = [model.preprocess(texts) for texts in (FIRST, ["", *SECOND[1:]])]
    assert "offsets" in columns[0]
    loss = losses.CachedMultipleNegativesRankingLoss(model)
    assert_caching_changes_nothing(
        loss, columns, limits=[{"mini_batch_size": 2}, {"mini_batch_num_tokens": 9}]
    )


def test_a_router_whose_columns_go_different_ways(checkpoints):
    router = Router.for_query_document(
        query_modules=[static_model()],
        document_modules=[Transformer(checkpoints["bert"]), Pooling(WIDTH)],
    )
    model = SentenceTransformer(modules=[router], device="cpu").double().eval()
    columns = [
        model.preprocess(FIRST, task="query"),
        model.preprocess(SECOND, task="document"),
        model.preprocess(THIRD, task="document"),
    ]
    assert_caching_changes_nothing(losses.CachedMultipleNegativesRankingLoss(model), columns)


def test_columns_with_different_prompts_that_pooling_leaves_out(checkpoints):
    pooling = Pooling(WIDTH, "mean", include_prompt=False)
    model = SentenceTransformer(modules=[Transformer(checkpoints["bert"]), pooling], device="cpu")
    model = model.double().eval()
    columns = [
        model.preprocess(FIRST, prompt="query: what is "),
        model.preprocess(SECOND, prompt="document: "),
        model.preprocess(THIRD),
    ]
    assert columns[0]["prompt_length"] != columns[1]["prompt_length"]
    assert_caching_changes_nothing(losses.CachedMultipleNegativesRankingLoss(model), columns)


def test_texts_without_any_token_that_counts(model):
    columns = [model.preprocess(texts) for texts in (FIRST, SECOND)]
    columns[0]["attention_mask"][2] = 0
    columns[1]["attention_mask"][:3] = 0
    loss = losses.CachedMultipleNegativesRankingLoss(model)
    assert_caching_changes_nothing(loss, columns, limits=[{"mini_batch_size": 1}, {"mini_batch_size": 3}])


@pytest.mark.parametrize("unpads", [True, False])
def test_token_embeddings_of_texts_that_are_padded_differently(checkpoints, unpads):
    transformer = Transformer(checkpoints["bert"])
    transformer.unpad_inputs = None if unpads else False
    model = SentenceTransformer(modules=[transformer], device="cpu").double().eval()
    columns = [model.preprocess(texts) for texts in (FIRST, SECOND, THIRD)]
    loss = losses.CachedMultipleNegativesRankingLoss(model, scale=0.1, similarity_fct=maxsim)
    assert_caching_changes_nothing(
        loss, columns, limits=[{"mini_batch_size": 2}, {"mini_batch_num_tokens": 50}]
    )


class TwoTowers(losses.CachedMultipleNegativesRankingLoss):
    """Queries by one model, documents by another."""

    def __init__(self, model, other) -> None:
        super().__init__(model)
        self.other = other

    def encoder(self, column):
        return self.model if column == 0 else self.other


def test_columns_of_two_models(model):
    other = SentenceTransformer(modules=[static_model()], device="cpu").double()
    columns = [model.preprocess(FIRST), other.preprocess(SECOND), other.preprocess(THIRD)]
    assert_caching_changes_nothing(TwoTowers(model, other), columns)


# -- losses ----------------------------------------------------------------------------------------------


class Classifier(EmbeddingLoss):
    """A layer of its own, a part that does not reach the model, and one of the model's own weights."""

    labels = "class"

    def __init__(self, model, returns_parts: bool) -> None:
        super().__init__(model)
        self.layer = nn.Linear(2 * WIDTH, 3).double()
        self.unused = nn.Linear(1, 1)
        self.returns_parts = returns_parts

    def parts(self, embeddings, labels, *, rows=None, context=None):
        both = torch.cat([column.values for column in embeddings], dim=1)
        yield LossPart("entropy", nn.functional.cross_entropy(self.layer(both), labels))
        yield LossPart("weight", self.layer.weight.square().sum())
        words = self.model[0].auto_model.embeddings.word_embeddings.weight
        yield LossPart("tied", (embeddings[0].values @ words.T).logsumexp(dim=1).mean())
        yield LossPart("constant", torch.ones((), dtype=both.dtype))


def test_parameters_of_the_loss_and_weights_it_shares_with_the_model(model):
    columns = [model.preprocess(texts) for texts in (FIRST, SECOND)]
    labels = torch.arange(7) % 3
    assert_caching_changes_nothing(Classifier(model, returns_parts=False), columns, labels)


def test_parts_that_are_weighted_by_whoever_adds_them_up(model):
    columns = [model.preprocess(texts) for texts in (FIRST, SECOND)]
    labels = torch.arange(7) % 3
    weights = {"entropy": 0.5, "weight": 2.0, "tied": -1.0, "constant": 3.0}
    assert_caching_changes_nothing(Classifier(model, returns_parts=True), columns, labels, weights)


def test_parts_that_are_only_added_up_keep_one_gradient(model):
    loss = losses.MatryoshkaLoss(
        model, losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=2), [WIDTH, 16, 8]
    )
    columns = [Embeddings(torch.randn(4, WIDTH)) for _ in range(2)]
    values, kept = values_and_gradients(loss, columns, None, loss.context([]))
    assert sorted(values) == ["dim_16", "dim_32", "dim_8"]
    assert len(kept) == 1


def test_gradients_of_half_precision_are_added_up_in_single(model):
    loss = losses.CachedMultipleNegativesRankingLoss(model)
    columns = [Embeddings(torch.randn(4, WIDTH, dtype=torch.bfloat16)) for _ in range(2)]
    _, (kept,) = values_and_gradients(loss, columns, None, None)
    assert {column.values.dtype for column in kept.of_columns} == {torch.float32}


def test_matryoshka_with_widths_chosen_at_random_keeps_to_its_choice(model):
    plain = losses.MultipleNegativesRankingLoss(model)
    wrapper = losses.MatryoshkaLoss(model, plain, [WIDTH, 16, 8], n_dims_per_step=1)
    columns = [model.preprocess(texts) for texts in (FIRST, SECOND)]
    plain.mini_batch_size = 3
    value, found = gradients(wrapper, columns)
    (name,) = wrapper.latest_parts
    plain.mini_batch_size = None
    only = losses.MatryoshkaLoss(model, plain, [int(name.removeprefix("dim_"))])
    expected_value, expected = gradients(only, columns)
    torch.testing.assert_close((value, found), (expected_value, expected), rtol=1e-7, atol=1e-10)


# -- the backward pass -----------------------------------------------------------------------------------


def test_steps_add_up_as_they_do_without_caching(model):
    batches = [
        [model.preprocess(TEXTS[i : i + 5]), model.preprocess(TEXTS[i + 5 : i + 10])] for i in (0, 10, 20)
    ]
    found = []
    for size in (None, 2):
        loss = losses.MultipleNegativesRankingLoss(model)
        loss.mini_batch_size = size
        loss.zero_grad()
        for columns in batches:
            (loss(columns) / len(batches)).backward()
        found.append(gradients_of(loss))
    torch.testing.assert_close(found[1], found[0], rtol=1e-7, atol=1e-10)


def test_the_backward_pass_leaves_random_numbers_as_they_were(model):
    loss = losses.CachedMultipleNegativesRankingLoss(model.train(), mini_batch_size=2)
    value = loss([model.preprocess(texts) for texts in (FIRST, SECOND)])
    state = torch.get_rng_state()
    value.backward()
    assert torch.equal(torch.get_rng_state(), state)


def test_a_second_backward_pass_gives_the_same_again(model):
    loss = losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=3)
    value = loss([model.preprocess(texts) for texts in (FIRST, SECOND)])
    value.backward(retain_graph=True)
    once = gradients_of(loss)
    value.backward()
    for name, gradient in gradients_of(loss).items():
        torch.testing.assert_close(gradient, None if gradient is None else 2 * once[name])


def test_no_more_rows_than_asked_for_have_a_graph_at_once(model):
    alive: set[int] = set()
    most = 0

    def watch(module, arguments, output):
        nonlocal most
        rows = output["sentence_embedding"]
        if rows.requires_grad:
            key = len(rows), id(rows)
            alive.add(key)
            most = max(most, sum(count for count, _ in alive))
            rows.register_hook(lambda gradient: alive.discard(key))

    model.register_forward_hook(watch)
    loss = losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=3)
    loss([model.preprocess(texts) for texts in (FIRST, SECOND, THIRD)]).backward()
    assert most == 3


def test_without_gradients_rows_are_embedded_once_and_scores_computed_in_stretches(model, monkeypatch):
    loss = losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=3)
    columns = [model.preprocess(texts) for texts in (FIRST, SECOND)]
    with torch.no_grad():
        expected = loss(columns)
        monkeypatch.setattr("sentence_transformers.losses.cached.SCORES_AT_ONCE", 30)
        torch.testing.assert_close(loss(columns), expected)
    assert not expected.requires_grad


def test_progress_is_shown_if_asked_for(model, capsys):
    columns = [model.preprocess(texts) for texts in (FIRST, SECOND)]
    losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=3)(columns).backward()
    assert capsys.readouterr().err == ""
    loss = losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=3, show_progress_bar=True)
    loss(columns).backward()
    shown = capsys.readouterr().err
    assert "Embed mini-batches" in shown
    assert "Backward mini-batches" in shown


def test_any_loss_is_cached_once_it_has_a_mini_batch_size(model):
    loss = copy.deepcopy(losses.MultipleNegativesRankingLoss(model))
    assert not loss.is_cached
    loss.mini_batch_size = 4
    assert loss.is_cached
    assert losses.CachedMultipleNegativesRankingLoss(model).is_cached
