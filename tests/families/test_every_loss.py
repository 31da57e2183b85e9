"""What every loss promises, whatever it measures.

A loss joins by one row in `EVERY_LOSS`: how it is built, how many columns it takes, and its labels. Computed in
float64 with a tiny random model, so that equal means equal but for a few last digits.
"""

from __future__ import annotations

import copy
import inspect
import json
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from sentence_transformers import SentenceTransformer, losses
from sentence_transformers.losses import cached
from sentence_transformers.losses.base import EmbeddingLoss, added_up, total
from sentence_transformers.losses.features import cut
from tiny import WIDTH, sample_texts, tiny_checkpoint

ROWS = 6


# -- labels, of n rows -----------------------------------------------------------------------------------


def classes(rows: int) -> Tensor:
    """Three classes, two rows or more of each."""
    return torch.arange(rows) % 3


def zeros_and_ones(rows: int) -> Tensor:
    return torch.arange(rows) % 2


def scores(rows: int) -> Tensor:
    return torch.linspace(0, 1, rows, dtype=torch.float64)


def vectors(rows: int) -> Tensor:
    """A teacher's vectors, as wide as the model's."""
    return torch.linspace(-2, 2, rows * WIDTH, dtype=torch.float64).sin().reshape(rows, WIDTH)


def two_scores(rows: int) -> Tensor:
    """A teacher's scores of two candidates of each row."""
    return torch.linspace(-2, 2, rows * 2, dtype=torch.float64).reshape(rows, 2)


# -- the table -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Row:
    """How to build a loss, and what it is given."""

    loss: Callable[[Any], torch.nn.Module]
    """Makes the loss with a model."""

    columns: int = 2
    labels: Callable[[int], Tensor] | None = None
    """Labels of n rows; None where the loss takes none."""

    narrows: bool = True
    """Whether the loss may be inside MatryoshkaLoss."""

    works_without_labels: bool = False
    """Whether the loss takes labels, and does something useful without them."""

    pickles: bool = True
    """Whether the loss survives pickling; not if it is made with a lambda."""


EVERY_LOSS: dict[str, Row] = {
    "MultipleNegativesRankingLoss, pairs": Row(loss=losses.MultipleNegativesRankingLoss),
    "MultipleNegativesRankingLoss, two negatives": Row(loss=losses.MultipleNegativesRankingLoss, columns=4),
    "MultipleNegativesRankingLoss, all directions": Row(
        loss=lambda model: losses.MultipleNegativesRankingLoss(
            model,
            directions=("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc"),
            hardness_mode="all_negatives",
            hardness_strength=3.0,
        ),
        columns=3,
    ),
    "MultipleNegativesSymmetricRankingLoss": Row(
        loss=losses.MultipleNegativesSymmetricRankingLoss, columns=3
    ),
    "CachedMultipleNegativesRankingLoss": Row(
        loss=lambda model: losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=4), columns=3
    ),
    "CachedMultipleNegativesSymmetricRankingLoss": Row(
        loss=lambda model: losses.CachedMultipleNegativesSymmetricRankingLoss(model, mini_batch_size=4)
    ),
    "ContrastiveLoss": Row(loss=losses.ContrastiveLoss, labels=zeros_and_ones),
    "ContrastiveLoss, Manhattan": Row(
        loss=lambda model: losses.ContrastiveLoss(model, losses.SiameseDistanceMetric.MANHATTAN, 20.0, False),
        labels=zeros_and_ones,
    ),
    "OnlineContrastiveLoss": Row(
        loss=lambda model: losses.OnlineContrastiveLoss(model, margin=1.2), labels=zeros_and_ones
    ),
    "CoSENTLoss": Row(loss=losses.CoSENTLoss, labels=scores),
    "AnglELoss": Row(loss=losses.AnglELoss, labels=scores),
    "CosineSimilarityLoss": Row(loss=losses.CosineSimilarityLoss, labels=scores),
    "TripletLoss": Row(loss=losses.TripletLoss, columns=3),
    "TripletLoss, cosine": Row(
        loss=lambda model: losses.TripletLoss(model, losses.TripletDistanceMetric.COSINE, 0.5), columns=3
    ),
    "BatchAllTripletLoss": Row(loss=losses.BatchAllTripletLoss, columns=1, labels=classes),
    "BatchHardTripletLoss": Row(loss=losses.BatchHardTripletLoss, columns=1, labels=classes),
    "BatchHardSoftMarginTripletLoss": Row(
        loss=losses.BatchHardSoftMarginTripletLoss, columns=1, labels=classes
    ),
    "BatchSemiHardTripletLoss": Row(
        loss=lambda model: losses.BatchSemiHardTripletLoss(
            model, losses.BatchHardTripletLossDistanceFunction.cosine_distance, margin=0.5
        ),
        columns=1,
        labels=classes,
    ),
    "SoftmaxLoss": Row(
        loss=lambda model: losses.SoftmaxLoss(model, WIDTH, 3),
        labels=classes,
        narrows=False,
        works_without_labels=True,
    ),
    "MegaBatchMarginLoss": Row(loss=lambda model: losses.MegaBatchMarginLoss(model, mini_batch_size=4)),
    "ContrastiveTensionLoss": Row(
        loss=losses.ContrastiveTensionLoss, labels=zeros_and_ones, works_without_labels=True
    ),
    "ContrastiveTensionLossInBatchNegatives": Row(
        loss=losses.ContrastiveTensionLossInBatchNegatives, columns=1
    ),
    "GISTEmbedLoss": Row(loss=lambda model: losses.GISTEmbedLoss(model, another(model), temperature=0.05)),
    "CachedGISTEmbedLoss": Row(
        loss=lambda model: losses.CachedGISTEmbedLoss(
            model,
            another(model),
            temperature=0.05,
            mini_batch_size=4,
            margin_strategy="relative",
            margin=0.02,
        ),
        columns=3,
    ),
    "EmbedDistillLoss": Row(loss=losses.EmbedDistillLoss, labels=vectors),
    "EmbedDistillLoss, projected": Row(
        loss=lambda model: losses.EmbedDistillLoss(model, "l2", projection_dim=2),
        columns=1,
        labels=two_scores,
        narrows=False,
    ),
    "MSELoss": Row(loss=losses.MSELoss, columns=3, labels=vectors),
    "MarginMSELoss": Row(loss=losses.MarginMSELoss, columns=4, labels=two_scores),
    "DistillKLDivLoss": Row(
        loss=lambda model: losses.DistillKLDivLoss(model, temperature=2.0), columns=3, labels=two_scores
    ),
    "GlobalOrthogonalRegularizationLoss": Row(loss=losses.GlobalOrthogonalRegularizationLoss),
    "DenoisingAutoEncoderLoss": Row(loss=losses.DenoisingAutoEncoderLoss, narrows=False),
    "DenoisingAutoEncoderLoss, own decoder": Row(
        loss=lambda model: losses.DenoisingAutoEncoderLoss(
            model, model.transformers_model.name_or_path, tie_encoder_decoder=False
        ),
        narrows=False,
    ),
    "AdaptiveLayerLoss": Row(
        loss=lambda model: losses.AdaptiveLayerLoss(
            model, losses.CosineSimilarityLoss(model), n_layers_per_step=-1, layer_weighting="log"
        ),
        labels=scores,
    ),
    "AdaptiveLayerLoss, guided": Row(
        loss=lambda model: losses.AdaptiveLayerLoss(
            model, losses.CachedGISTEmbedLoss(model, another(model), 0.05), n_layers_per_step=-1
        )
    ),
    "AdaptiveLayerLoss, shortened": Row(
        loss=lambda model: losses.MatryoshkaLoss(
            model,
            losses.AdaptiveLayerLoss(model, losses.MarginMSELoss(model), n_layers_per_step=-1),
            [WIDTH, 8],
        ),
        columns=4,
        labels=two_scores,
    ),
    "Matryoshka2dLoss": Row(
        loss=lambda model: losses.Matryoshka2dLoss(
            model,
            losses.MultipleNegativesRankingLoss(model),
            [WIDTH, 8],
            n_layers_per_step=-1,
            n_dims_per_step=-1,
        )
    ),
    "MatryoshkaLoss": Row(
        loss=lambda model: losses.MatryoshkaLoss(
            model, losses.MultipleNegativesRankingLoss(model), [WIDTH, 8], [1.0, 0.3]
        )
    ),
}


def another(model: Any) -> Any:
    """A model that is not quite the same."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return other


# -- what is shared --------------------------------------------------------------------------------------


@cache
def texts_of_column(number: int) -> list[str]:
    return [
        text[: 20 + 15 * ((row + number) % 4)]
        for row, text in enumerate(sample_texts()[number * ROWS :][:ROWS])
    ]


@pytest.fixture(scope="session")
def prototype(tmp_path_factory: pytest.TempPathFactory) -> SentenceTransformer:
    folder = tiny_checkpoint("bert", tmp_path_factory.mktemp("every_loss"))
    return SentenceTransformer(str(folder), device="cpu").double().eval()


@pytest.fixture
def model(prototype: SentenceTransformer) -> SentenceTransformer:
    """A tiny model of float64, without dropout, that a test may change."""
    return copy.deepcopy(prototype)


@pytest.fixture(params=EVERY_LOSS.values(), ids=EVERY_LOSS)
def row(request: pytest.FixtureRequest) -> Row:
    return request.param


def batch(row: Row, model: Any) -> tuple[list[dict[str, Any]], Tensor | None]:
    """The columns and labels of a row of the table."""
    columns = [model.preprocess(texts_of_column(number)) for number in range(row.columns)]
    return columns, None if row.labels is None else row.labels(ROWS)


def built(row: Row, model: Any) -> torch.nn.Module:
    """The loss, always the same; in eval mode, like the model."""
    torch.manual_seed(0)
    return row.loss(model).double().eval()


def value_and_gradients(
    loss: torch.nn.Module, columns: list[dict[str, Any]], labels: Tensor | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss added up, and the gradient of every parameter that gets one."""
    loss.zero_grad()
    torch.manual_seed(1)
    value = summed(loss([dict(column) for column in columns], labels))
    value.backward()
    return value.detach(), gradients_of(loss)


def gradients_of(loss: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.grad.clone() for name, value in loss.named_parameters() if value.grad is not None}


def summed(value: Tensor | dict[str, Tensor]) -> Tensor:
    return total(value) if isinstance(value, dict) else value


def uncached(loss: torch.nn.Module) -> None:
    """Let a loss, and those inside it, embed whole batches."""
    cached_in(loss, None)


def cached_in(loss: torch.nn.Module, rows: int | None) -> None:
    """Let a loss, and those inside it, embed so many rows at once."""
    for part in loss.modules():
        if isinstance(part, EmbeddingLoss) and not isinstance(type(part).mini_batch_size, property):
            part.mini_batch_size, part.mini_batch_num_tokens = rows, None


def assert_same(ours: tuple[Tensor, dict], theirs: tuple[Tensor, dict], tolerance: float = 1e-9) -> None:
    (value, gradients), (other_value, other_gradients) = ours, theirs
    torch.testing.assert_close(value, other_value, rtol=tolerance, atol=tolerance)
    for name in {**gradients, **other_gradients}:
        # No gradient, and one of zero, are the same to an optimizer without weight decay.
        known = gradients.get(name, other_gradients.get(name)) * 0
        torch.testing.assert_close(
            gradients.get(name, known), other_gradients.get(name, known), rtol=tolerance, atol=tolerance
        )


# -- the promises ----------------------------------------------------------------------------------------


def test_the_value_is_a_finite_scalar_or_several_by_name(row, model):
    loss = built(row, model)
    result = loss(*batch(row, model))
    for value in result.values() if isinstance(result, dict) else [result]:
        assert value.shape == ()
        assert value.isfinite()
    assert set(loss.latest_parts)
    torch.testing.assert_close(total(loss.latest_parts), summed(result).detach())


def test_the_model_gets_a_gradient(row, model):
    _, gradients = value_and_gradients(built(row, model), *batch(row, model))
    assert any(gradient.abs().max() > 0 for gradient in gradients.values())
    assert all(gradient.isfinite().all() for gradient in gradients.values())


def test_the_columns_given_are_left_as_they_are(row, model):
    columns, labels = batch(row, model)
    before = copy.deepcopy(columns)
    built(row, model)(columns, labels)
    assert [column.keys() for column in columns] == [column.keys() for column in before]
    for column, other in zip(columns, before):
        for name, entry in column.items():
            assert torch.equal(entry, other[name]) if isinstance(entry, Tensor) else entry == other[name]


@pytest.mark.parametrize("rows_at_once", [1, 4])
def test_caching_changes_neither_value_nor_gradients(row, model, rows_at_once):
    loss = built(row, model)
    uncached(loss)
    expected = value_and_gradients(loss, *batch(row, model))
    cached_in(loss, rows_at_once)
    assert_same(value_and_gradients(loss, *batch(row, model)), expected)


def test_a_mean_over_rows_can_be_taken_a_stretch_of_rows_at_a_time(row, model, monkeypatch):
    loss = built(row, model)
    if not loss.splits_rows:
        pytest.skip("is no mean over rows")
    cached_in(loss, 4)
    expected = value_and_gradients(loss, *batch(row, model))
    monkeypatch.setattr(cached, "SCORES_AT_ONCE", 2 * ROWS * row.columns)  # two rows at a time
    assert_same(value_and_gradients(loss, *batch(row, model)), expected)


def test_dropout_falls_on_the_same_places_when_rows_are_embedded_again(row, model):
    loss = built(row, model).train()
    cached_in(loss, 4)
    columns, labels = batch(row, model)
    found = value_and_gradients(loss, columns, labels)
    loss.zero_grad()
    torch.manual_seed(1)
    value = in_pieces_with_a_graph(loss, columns, labels)
    value.backward()
    assert_same(found, (value.detach(), gradients_of(loss)))


def in_pieces_with_a_graph(loss: Any, columns: list[dict[str, Any]], labels: Tensor | None) -> Tensor:
    """What a cached loss computes, without the caching: piece by piece, all in one graph."""
    context = loss.context(columns)
    embedded = loss.embedded_columns(columns)
    models = [loss.encoder(number) for number in range(len(embedded))]
    pieces = list(cut(models, embedded, max_rows=loss.mini_batch_size))
    results = [loss.run(piece.model, piece.features, context) for piece in pieces]
    embeddings = cached.put_together(pieces, results, len(embedded))
    return total(added_up(loss.parts(embeddings, labels, context=context)))


def test_matryoshka_adds_up_the_loss_of_shortened_embeddings(row, model):
    if not row.narrows:
        pytest.skip("is not defined on shortened embeddings")
    loss = built(row, model)
    widest = losses.MatryoshkaLoss(model, loss, [WIDTH])
    columns, labels = batch(row, model)
    context = loss.context(columns)
    units = [
        column.with_tensors([tensor / tensor.norm(dim=-1, keepdim=True) for tensor in column.tensors])
        for column in loss.embed(columns, context)
    ]
    torch.testing.assert_close(
        value_and_gradients(widest, columns, labels)[0],
        total(added_up(loss.parts(units, labels, context=context))).detach(),
    )
    both = losses.MatryoshkaLoss(model, loss, [WIDTH, 8], [2.0, 0.5])
    narrow = losses.MatryoshkaLoss(model, loss, [8])
    values = [value_and_gradients(each, columns, labels)[0] for each in (widest, narrow, both)]
    torch.testing.assert_close(2 * values[0] + 0.5 * values[1], values[2])


def test_matryoshka_around_a_cached_loss_is_matryoshka_around_the_plain_one(row, model):
    if not row.narrows:
        pytest.skip("is not defined on shortened embeddings")
    loss = built(row, model)
    wrapper = losses.MatryoshkaLoss(model, loss, [WIDTH, 8], [2.0, 0.5])
    uncached(loss)
    expected = value_and_gradients(wrapper, *batch(row, model))
    cached_in(loss, 4)
    assert_same(value_and_gradients(wrapper, *batch(row, model)), expected)


def test_in_mixed_precision_caching_changes_little(row, model):
    loss = built(row, model.float()).float()
    columns, labels = batch(row, model)
    found = []
    for rows_at_once in (None, 4):
        cached_in(loss, rows_at_once)
        loss.zero_grad()
        torch.manual_seed(1)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = summed(loss([dict(column) for column in columns], labels))
            # Inside, where weights that were cast stay cast; users should not, but do.
            value.backward()
        found.append((value.detach(), gradients_of(loss)))
    (value, gradients), (cached_value, cached_gradients) = found
    torch.testing.assert_close(value, cached_value, rtol=0.05, atol=0.02)
    norms = [
        torch.stack([each[name].norm() for name in sorted(gradients)]).norm()
        for each in (gradients, cached_gradients)
    ]
    difference = torch.stack([(gradients[name] - cached_gradients[name]).norm() for name in gradients]).norm()
    assert difference <= 0.1 * max(norms) + 1e-3


def test_a_wrong_number_of_columns_is_refused(row, model):
    loss = built(row, model)
    columns, labels = batch(row, model)
    for count in [loss_in(loss).min_columns - 1, (loss_in(loss).max_columns or 0) + 1]:
        if count == 1 and loss_in(loss).max_columns is None:
            continue
        with pytest.raises(ValueError, match="column"):
            loss((columns * 5)[:count], labels)


def loss_in(loss: Any) -> Any:
    """The loss inside all wrappers."""
    inner = getattr(loss, "loss", None)
    return loss_in(inner) if isinstance(inner, EmbeddingLoss) else loss


def test_a_missing_label_is_refused(row, model):
    if row.labels is None or row.works_without_labels:
        pytest.skip("needs no label")
    with pytest.raises(ValueError, match="label"):
        built(row, model)(batch(row, model)[0], None)


def test_settings_can_be_written_as_json(row, model):
    settings = built(row, model).get_config_dict()
    assert all(isinstance(name, str) for name in settings)
    json.dumps(settings)


def test_the_citation_is_one_bibtex_entry(row, model):
    citation = getattr(built(row, model), "citation", None)
    if citation is None:
        pytest.skip("has none")
    assert re.fullmatch(r"@\w+\{[^\s,]+,\n(?:.*\n)*\}", citation.strip())
    fields = dict(re.findall(r"^\s*(\w+)\s*=\s*\{(.*)\},?$", citation, flags=re.MULTILINE))
    assert {"title", "author", "year"} <= fields.keys()
    assert citation.count("{") == citation.count("}")


def test_a_copy_computes_the_same(row, model):
    loss = built(row, model)
    expected = value_and_gradients(loss, *batch(row, model))
    assert_same(value_and_gradients(copy.deepcopy(loss), *batch(row, model)), expected)
    if row.pickles:
        assert_same(value_and_gradients(pickle.loads(pickle.dumps(loss)), *batch(row, model)), expected)


def test_a_frozen_model_gives_the_same_value_and_gets_no_gradient(row, model):
    loss = built(row, model)
    expected, _ = value_and_gradients(loss, *batch(row, model))
    loss.zero_grad()
    inside, own = list(loss_in(loss).model.parameters()), own_parameters(loss)
    for parameter in inside:
        parameter.requires_grad_(False)
    torch.manual_seed(1)
    value = summed(loss(*batch(row, model)))
    torch.testing.assert_close(value.detach(), expected)
    if own:
        value.backward()
        assert all(parameter.grad is not None for parameter in own.values())
    assert all(parameter.grad is None for parameter in inside)


def test_the_loss_s_own_parameters_get_gradients(row, model):
    loss = built(row, model)
    own = own_parameters(loss)
    if not own:
        pytest.skip("has none")
    _, gradients = value_and_gradients(loss, *batch(row, model))
    assert own.keys() <= gradients.keys()


def own_parameters(loss: Any) -> dict[str, Tensor]:
    """The trained parameters of a loss that are not its model's; a second model's pooler is never used."""
    inside = set(loss_in(loss).model.parameters())
    return {
        name: parameter
        for name, parameter in loss.named_parameters()
        if parameter.requires_grad and parameter not in inside and "pooler" not in name
    }


def test_without_gradients_the_value_is_the_same(row, model):
    loss = built(row, model)
    expected, _ = value_and_gradients(loss, *batch(row, model))
    torch.manual_seed(1)
    with torch.no_grad():
        value = summed(loss(*batch(row, model)))
    assert not value.requires_grad
    torch.testing.assert_close(value, expected)


def test_half_the_loss_has_half_the_gradients(row, model):
    loss = built(row, model)
    value, expected = value_and_gradients(loss, *batch(row, model))
    for rows_at_once in (None, 4):
        cached_in(loss, rows_at_once)
        loss.zero_grad()
        torch.manual_seed(1)
        (summed(loss(*batch(row, model))) / 2).backward()
        halves = {name: 2 * gradient for name, gradient in gradients_of(loss).items()}
        assert_same((value, halves), (value, expected))


def test_every_loss_is_in_the_table():
    named = {name.split(",")[0] for name in EVERY_LOSS}
    classes = {
        name
        for name in losses.__all__
        if hasattr(losses, name)
        and inspect.isclass(getattr(losses, name))
        and issubclass(getattr(losses, name), EmbeddingLoss)
    }
    assert classes <= named
