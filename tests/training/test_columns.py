"""Which column is what to a loss, and what is refused before training begins."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import nn

from sentence_transformers.losses import MultipleNegativesRankingLoss
from sentence_transformers.losses.base import EmbeddingLoss
from sentence_transformers.training.columns import (
    LABEL_COLUMNS,
    check_dataset,
    split_columns,
    stack_labels,
)


class Takes(EmbeddingLoss):
    """Any loss: only what it takes is asked here."""

    def __init__(self, columns, labels):
        super().__init__(None)
        self.min_columns = self.max_columns = columns
        self.labels = labels


def checked(columns, loss=None, **options):
    check_dataset(Dataset.from_dict(columns), loss, label_columns=LABEL_COLUMNS, **options)


@pytest.mark.parametrize("name", LABEL_COLUMNS)
def test_a_label_is_told_by_its_name_wherever_it_stands(name):
    assert split_columns(["a", name, "b"], LABEL_COLUMNS) == (["a", "b"], [name])


@pytest.mark.parametrize("name", ["Label", "target", "similarity"])
def test_other_names_are_texts(name):
    assert split_columns([name], LABEL_COLUMNS) == ([name], [])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 0], torch.tensor([1, 0])),
        ([True, False], torch.tensor([1, 0])),
        ([1, 0.5], torch.tensor([1.0, 0.5])),
        ([[1, 2], [3, 4]], torch.tensor([[1, 2], [3, 4]])),
        ([[1.0], [2.5]], torch.tensor([[1.0], [2.5]])),
        (np.array([1.5, 2.5]), torch.tensor([1.5, 2.5])),
        ([torch.tensor(1.5), torch.tensor(2.5)], torch.tensor([1.5, 2.5])),
        ([torch.tensor([1, 2])], torch.tensor([[1, 2]])),
        ([np.float32(0.5)], torch.tensor([0.5])),
    ],
)
def test_labels_become_one_tensor_of_whole_or_broken_numbers(values, expected):
    torch.testing.assert_close(stack_labels(values), expected)


@pytest.mark.parametrize("values", [["good", "bad"], [[1], [1, 2]], [None, None], [1, None], [{"a": 1}]])
def test_labels_that_are_no_numbers_are_refused(values):
    with pytest.raises(ValueError, match="'gold' do not form one tensor"):
        stack_labels(values, "gold")


def test_an_empty_data_set_is_refused():
    with pytest.raises(ValueError, match="'nli' is empty"):
        checked({"a": [], "b": []}, name="nli")


@pytest.mark.parametrize("name", ["dataset_name", "return_loss"])
def test_names_that_batches_need_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}.*rename_column"):
        checked({"a": ["x"], name: ["y"]})


def test_a_second_label_is_refused():
    with pytest.raises(ValueError, match=r"2 label columns, \['label', 'score'\]"):
        checked({"a": ["x"], "label": [1], "score": [0.5]})


def test_a_data_set_of_labels_alone_is_refused():
    with pytest.raises(ValueError, match="no column of inputs"):
        checked({"label": [1]})


@pytest.mark.parametrize("value", [1, 0.5, True, None])
def test_a_column_of_numbers_or_nothing_is_no_input(value):
    with pytest.raises(ValueError, match=r"'similarity'.*no text"):
        checked({"a": ["x", "y"], "similarity": [value, value]})


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": ["x"]}, "takes 2 text columns and was given 1"),
        ({"a": ["x"], "b": ["y"], "c": ["z"], "label": [1]}, "takes 2 text columns and was given 3"),
        ({"a": ["x"], "b": ["y"]}, "needs a label"),
        ({"a": ["x"], "b": ["y"], "label": ["good"]}, "'label' do not form one tensor"),
        ({"a": ["x"], "b": ["y"], "label": [0.5]}, "an int"),
        ({"a": ["x"], "b": ["y"], "label": [[1, 2]]}, "shape"),
    ],
)
def test_columns_and_labels_that_do_not_suit_the_loss_are_refused(columns, message):
    with pytest.raises(ValueError, match=message):
        checked(columns, Takes(2, "class"), name="nli")


def test_what_suits_the_loss_is_taken():
    checked({"a": ["x"], "b": ["y"], "label": [1]}, Takes(2, "class"))
    checked({"a": ["x"], "b": ["y"], "score": [0.5]}, Takes(2, "score"))
    checked({"a": ["x"], "b": ["y"], "labels": [[0.5, 1.0]]}, Takes(2, "target"))
    checked({"anchor": ["x"], "positive": ["y"]}, MultipleNegativesRankingLoss(None))


def test_a_wrapped_loss_is_asked_too():
    from sentence_transformers.losses.matryoshka import MatryoshkaLoss

    with pytest.raises(ValueError, match="was given 1"):
        checked({"a": ["x"]}, MatryoshkaLoss(None, MultipleNegativesRankingLoss(None), [2]))


def test_a_loss_of_another_program_is_asked_nothing():
    checked({"a": ["x"]}, nn.CrossEntropyLoss())
    checked({"a": ["x"]}, None)


def test_rows_that_change_when_they_are_read_count_as_they_are_then():
    data = Dataset.from_dict({"number": [1, 2]})
    data.set_transform(
        lambda rows: {"text": [str(number) for number in rows["number"]], "label": rows["number"]}
    )
    check_dataset(data, Takes(1, "class"), label_columns=LABEL_COLUMNS)
    with pytest.raises(ValueError, match=r"\['text', 'label'\].*was given 1"):
        check_dataset(data, Takes(2, "class"), label_columns=LABEL_COLUMNS)


def test_a_list_of_rows_is_looked_at_too():
    rows = [{"a": "x", "label": "good"}, {"a": "y", "label": "bad"}]
    with pytest.raises(ValueError, match="'label' do not form one tensor"):
        check_dataset(rows, None, label_columns=LABEL_COLUMNS)
    check_dataset(["x", "y"], Takes(1, "class"), label_columns=LABEL_COLUMNS)


def test_inputs_may_be_what_a_model_understands():
    checked({"a": [["x", "y"]], "b": [{"text": "x"}]})


def test_of_a_stream_only_the_names_are_known():
    stream = Dataset.from_dict({"a": ["x"], "label": ["good"]}).to_iterable_dataset()
    check_dataset(stream, Takes(1, "class"), label_columns=LABEL_COLUMNS)
    stream = Dataset.from_dict({"a": ["x"], "label": [1], "score": [1]}).to_iterable_dataset()
    with pytest.raises(ValueError, match="2 label columns"):
        check_dataset(stream, None, label_columns=LABEL_COLUMNS)


def test_a_stream_without_the_columns_a_loss_needs_is_refused():
    stream = Dataset.from_dict({"a": ["x"]}).to_iterable_dataset()
    with pytest.raises(ValueError, match="was given 1"):
        check_dataset(stream, Takes(2, "none"), label_columns=LABEL_COLUMNS)
    with pytest.raises(ValueError, match="needs a label"):
        check_dataset(stream, Takes(1, "class"), label_columns=LABEL_COLUMNS)


def test_a_stream_that_knows_nothing_of_itself_is_not_read():
    def rows():
        raise AssertionError
        yield

    check_dataset(rows(), Takes(2, "class"), label_columns=LABEL_COLUMNS)


@pytest.mark.parametrize(
    "names", [("positive", "anchor"), ("answer", "query", "negative"), ("negative", "x", "anchor")]
)
def test_names_in_another_order_than_they_say_are_warned_about(names, caplog):
    with caplog.at_level(logging.WARNING):
        checked({name: ["x"] for name in names})
    [record] = caplog.records
    assert f"{names[0]!r} is input 1, {names[1]!r} is input 2" in record.getMessage()


@pytest.mark.parametrize(
    "names",
    [("anchor", "positive", "negative"), ("query", "answer"), ("b", "a"), ("question", "x", "negative_1")],
)
def test_names_in_order_and_names_that_say_nothing_pass_in_silence(names, caplog):
    with caplog.at_level(logging.WARNING):
        checked({name: ["x"] for name in names})
    assert not caplog.records
