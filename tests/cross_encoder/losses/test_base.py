"""What every loss over the scores of pairs promises, whatever it measures."""

from __future__ import annotations

import inspect
import pickle
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from pair_model import PairModel
from score_loss_cases import COLUMNS, LABELS
from sentence_transformers.cross_encoder import losses


@dataclass(frozen=True, kw_only=True)
class Row:
    """How to build a loss, and what it is given; keys of `COLUMNS` and `LABELS`."""

    columns: str = "lists"
    labels: str | None = "grades"
    num_labels: int = 1
    arguments: tuple[tuple[str, Any], ...] = ()


EVERY_LOSS: dict[str, Row] = {
    "BinaryCrossEntropyLoss": Row(columns="pairs", labels="score"),
    "CrossEntropyLoss": Row(columns="pairs", labels="class", num_labels=3),
    "MSELoss": Row(columns="pairs", labels="score"),
    "MarginMSELoss": Row(columns="two negatives", labels="three scores"),
    "MultipleNegativesRankingLoss": Row(columns="triplets", labels=None),
    "CachedMultipleNegativesRankingLoss": Row(
        columns="triplets", labels=None, arguments=(("mini_batch_size", 4),)
    ),
    "ListNetLoss": Row(),
    "ListMLELoss": Row(),
    "PListMLELoss": Row(arguments=(("respect_input_order", False),)),
    "LambdaLoss": Row(arguments=(("k", 3),)),
    "RankNetLoss": Row(),
    "ADRMSELoss": Row(arguments=(("mini_batch_size", 5),)),
}

every_loss = pytest.mark.parametrize("name", EVERY_LOSS)
listwise = pytest.mark.parametrize(
    "name", [name for name, row in EVERY_LOSS.items() if row.columns == "lists"]
)


def built(name: str, model: Any = None, **arguments: Any) -> Any:
    row = EVERY_LOSS[name]
    model = PairModel(row.num_labels) if model is None else model
    return getattr(losses, name)(model, **{**dict(row.arguments), **arguments})


def data(name: str) -> tuple[list[Any], Any]:
    return COLUMNS[EVERY_LOSS[name].columns], LABELS[EVERY_LOSS[name].labels]


def gradients(loss: Any, name: str) -> tuple[float, dict[str, torch.Tensor]]:
    loss.model.zero_grad()
    # Which negatives are drawn, and what is dropped.
    torch.manual_seed(5)
    value = loss(*data(name))
    value.backward()
    return value.item(), {key: parameter.grad.clone() for key, parameter in loss.model.named_parameters()}


@every_loss
def test_a_loss_is_a_scalar_with_gradients_for_the_whole_model(name):
    value, found = gradients(built(name), name)
    assert torch.tensor(value).isfinite()
    # The bias is the same for all documents, so those that only compare them leave it alone.
    assert all(gradient.abs().sum() > 0 for key, gradient in found.items() if key != "head.bias")


@every_loss
@pytest.mark.parametrize("size", [1, 4, 100])
def test_caching_leaves_value_and_gradient_unchanged(name, size):
    loss = built(name, PairModel(EVERY_LOSS[name].num_labels))
    loss.mini_batch_size = None
    value, expected = gradients(loss, name)
    loss.mini_batch_size = size
    calls = len(loss.model.calls)
    cached, found = gradients(loss, name)
    assert cached == pytest.approx(value, rel=1e-9)
    torch.testing.assert_close(found, expected)
    assert max(loss.model.calls[calls:]) <= size


@every_loss
def test_what_is_dropped_while_training_is_the_same_when_pairs_are_scored_again(name):
    """The gradient is that of the value, also along a direction, with the same random numbers."""
    model = PairModel(EVERY_LOSS[name].num_labels, dropout=0.4).train()
    loss = built(name, model)
    loss.mini_batch_size = 4
    _, found = gradients(loss, name)
    weight, step = model.head.weight, 1e-6
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight += sign * step
        torch.manual_seed(5)
        values.append(loss(*data(name)).item())
        with torch.no_grad():
            weight -= sign * step
    slope = (values[0] - values[1]) / (2 * step)
    assert found["head.weight"].sum().item() == pytest.approx(slope, rel=1e-4, abs=1e-6)


@every_loss
def test_without_gradients_the_value_is_the_same(name):
    loss = built(name)
    value, _ = gradients(loss, name)
    with torch.no_grad():
        torch.manual_seed(5)
        assert loss(*data(name)).item() == pytest.approx(value, rel=1e-9)
    assert loss.latest_parts["loss"].item() == pytest.approx(value, rel=1e-9)


@every_loss
def test_a_prompt_reaches_the_model(name):
    class Noting(PairModel):
        def preprocess(self, pairs, **options):
            self.given = options
            return super().preprocess(pairs, **options)

    loss = built(name, Noting(EVERY_LOSS[name].num_labels))
    loss(*data(name), prompt="find: ", task="query")
    assert loss.model.given == {"prompt": "find: ", "task": "query"}
    loss(*data(name))
    assert loss.model.given == {}


@every_loss
def test_a_loss_survives_pickling(name):
    loss = built(name)
    again = pickle.loads(pickle.dumps(loss))
    assert gradients(again, name)[0] == gradients(loss, name)[0]


@every_loss
def test_settings_are_plain_values_of_arguments(name):
    settings = built(name).get_config_dict()
    assert set(settings) <= set(inspect.signature(getattr(losses, name)).parameters)
    assert all(value is None or isinstance(value, (int, float, str)) for value in settings.values())
    assert settings["activation_fn"].startswith("torch.nn.modules.")


@every_loss
def test_a_model_with_another_number_of_scores_is_refused(name):
    outputs = 1 if EVERY_LOSS[name].num_labels > 1 else 2
    with pytest.raises(ValueError, match=rf"{name} takes .* the model gives {outputs}.*num_labels="):
        built(name, PairModel(outputs))


@every_loss
def test_too_few_columns_and_too_many_are_refused(name):
    columns, labels = data(name)
    loss = built(name)
    with pytest.raises(ValueError, match=f"{name} takes .* text columns and was given 1"):
        loss(columns[:1], labels)
    if loss.max_columns is not None:
        with pytest.raises(ValueError, match="was given 3"):
            loss([*columns, columns[0]], labels)


@every_loss
def test_columns_of_different_lengths_are_refused(name):
    columns, labels = data(name)
    with pytest.raises(ValueError, match="row i of each"):
        built(name)([columns[0][:-1], *columns[1:]], labels)


@every_loss
def test_an_empty_batch_is_refused(name):
    columns, labels = data(name)
    with pytest.raises(ValueError, match="no rows"):
        built(name)([[] for _ in columns], None if labels is None else labels[:0])


@pytest.mark.parametrize("name", [name for name, row in EVERY_LOSS.items() if row.labels is not None])
def test_missing_labels_and_too_few_are_refused(name):
    columns, labels = data(name)
    with pytest.raises(ValueError, match=f"{name} needs a label"):
        built(name)(columns)
    with pytest.raises(ValueError, match="5 labels for 6 rows"):
        built(name)(columns, labels[:5])


@listwise
def test_labels_may_be_lists_tensors_or_one_matrix(name):
    columns, labels = data(name)
    loss = built(name)
    expected = loss(columns, labels).item()
    assert loss(columns, [row.tolist() for row in labels]).item() == pytest.approx(expected, rel=1e-6)
    assert loss(columns, [row.long() for row in labels]).item() == pytest.approx(expected, rel=1e-6)
    square = [columns[0][:2], [columns[1][0], columns[1][5]]]
    grades = [labels[0], labels[5]]
    assert loss(square, torch.stack(grades)).item() == pytest.approx(loss(square, grades).item(), rel=1e-6)


@listwise
def test_one_label_for_a_query_is_refused(name):
    columns, _ = data(name)
    for labels in (torch.ones(6), [1.0] * 6, [torch.tensor(1.0)] * 6):
        with pytest.raises(ValueError, match="one number for a query"):
            built(name)(columns, labels)


@listwise
def test_documents_and_labels_must_match(name):
    columns, labels = data(name)
    with pytest.raises(ValueError, match="2 documents and 3 labels in row 0"):
        built(name)([columns[0], [columns[1][0][:2], *columns[1][1:]]], labels)
    with pytest.raises(ValueError, match="list of documents for each query, and was given one text in row 0"):
        built(name)(COLUMNS["pairs"], labels)


@listwise
@pytest.mark.parametrize("size", [None, 0, -1])
def test_no_mini_batch_size_scores_all_pairs_at_once(name, size):
    loss = built(name, mini_batch_size=size)
    loss(*data(name))
    assert loss.model.calls == [18]


@listwise
def test_a_query_without_documents_has_no_gradient(name):
    columns, labels = data(name)
    loss = built(name)
    value = loss([columns[0], [[], *columns[1][1:]]], [torch.tensor([]), *labels[1:]])
    value.backward()
    assert value.isfinite()
    assert loss.model.head.weight.grad.isfinite().all()


def test_the_losses_of_papers_cite_them():
    for name in ("MarginMSELoss", *(name for name, row in EVERY_LOSS.items() if row.columns == "lists")):
        citation = built(name).citation
        assert citation.startswith("\n@")
        assert "title={" in citation


def test_a_loss_that_defines_nothing_says_so():
    from sentence_transformers.cross_encoder.losses.base import ListwiseLoss, ScoreLoss

    with pytest.raises(NotImplementedError, match="does not define `value`"):
        ScoreLoss(PairModel())(COLUMNS["pairs"])
    with pytest.raises(NotImplementedError, match="does not define `of_lists`"):
        ListwiseLoss(PairModel())(*data("ListNetLoss"))
    with pytest.raises(NotImplementedError, match="does not define `forward`"):
        from sentence_transformers.cross_encoder.losses.lambda_loss import BaseWeightingScheme

        losses.LambdaLoss(PairModel(), BaseWeightingScheme())(*data("LambdaLoss"))
