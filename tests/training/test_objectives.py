"""Loaders are read pass after pass and in turn, and can be taken up where they were."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from sentence_transformers.datasets import NoDuplicatesDataLoader, SentenceLabelDataset, SentencesDataset
from sentence_transformers.inputs.example import InputExample
from sentence_transformers.tensors.randomness import global_state, set_global_state
from sentence_transformers.training.columns import DATASET_NAME
from sentence_transformers.training.objectives import (
    EndlessBatches,
    FirstExamples,
    ObjectiveBatches,
    batches_in_an_epoch,
    collating,
)


def examples(count: int) -> list[InputExample]:
    return [InputExample(texts=[str(number)], label=number) for number in range(count)]


def labels_of(batch: list[InputExample]):
    return [], [example.label for example in batch]


def next_labels(stream: EndlessBatches, count: int) -> list[list[int]]:
    return [next(stream)[1] for _ in range(count)]


def test_a_loader_that_runs_out_starts_again():
    stream = EndlessBatches([examples(2), examples(1)], labels_of)
    assert next_labels(stream, 5) == [[0, 1], [0], [0, 1], [0], [0, 1]]


def test_a_loader_without_batches_is_an_error():
    with pytest.raises(ValueError, match="data set empty"):
        next(EndlessBatches([], labels_of))


@pytest.mark.parametrize("columns", [{"input_ids": 1}, [{"input_ids": 1}], ({"input_ids": 1},)])
def test_features_of_an_only_column_may_come_without_a_list(columns):
    assert next(EndlessBatches([examples(1)], lambda batch: (columns, [0]))) == ([{"input_ids": 1}], [0])
    assert next(EndlessBatches([(columns, [0])], labels_of)) == ([{"input_ids": 1}], [0])


def shuffled() -> DataLoader:
    return DataLoader(examples(12), batch_size=4, shuffle=True, collate_fn=list)


def shuffled_by_its_own_generator() -> DataLoader:
    own = torch.Generator().manual_seed(4)
    return DataLoader(examples(12), batch_size=4, shuffle=True, collate_fn=list, generator=own)


def without_duplicates() -> NoDuplicatesDataLoader:
    return NoDuplicatesDataLoader(examples(12), batch_size=4)


def by_label() -> DataLoader:
    rows = [InputExample(texts=[str(number)], label=number // 4) for number in range(12)]
    return DataLoader(SentenceLabelDataset(rows), batch_size=4, collate_fn=list)


@pytest.mark.parametrize("make", [shuffled, shuffled_by_its_own_generator, without_duplicates, by_label])
@pytest.mark.parametrize("given", [0, 1, 3, 5])
def test_a_stream_goes_on_where_it_was(make, given):
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    stream = EndlessBatches(make(), labels_of)
    next_labels(stream, given)
    state, randomness = stream.state(), global_state()
    expected = next_labels(stream, 5)

    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    resumed = EndlessBatches(make(), labels_of)
    before = torch.get_rng_state()
    resumed.resume(state)
    assert torch.equal(torch.get_rng_state(), before)
    set_global_state(randomness)
    assert next_labels(resumed, 5) == expected


def test_loaders_take_turns_and_go_on_in_the_next_epoch():
    loaders = {
        "first": [examples(1)[:1], examples(2)[1:], examples(3)[2:]],
        "second": [examples(11)[10:], examples(12)[11:]],
    }
    batches = ObjectiveBatches(loaders, labels_of, rounds=2)
    assert len(batches) == 4
    epochs = [[(batch[DATASET_NAME], batch["label"][0]) for batch in batches] for _ in range(2)]
    assert epochs[0] == [("first", 0), ("second", 10), ("first", 1), ("second", 11)]
    assert epochs[1] == [("first", 2), ("second", 10), ("first", 0), ("second", 11)]


def test_a_resumed_epoch_gives_empty_batches_first_and_then_restores_the_random_state():
    loaders = {"first": [examples(1)[:1], examples(2)[1:]], "second": [examples(11)[10:], examples(12)[11:]]}
    whole = ObjectiveBatches(loaders, labels_of, rounds=2)
    running = iter(whole)
    for _ in range(3):
        next(running)
    restored: list[int] = []
    resumed = ObjectiveBatches(loaders, labels_of, rounds=2)
    resumed.resume(whole.state(), steps=7, restore=lambda: restored.append(1))
    epoch = iter(resumed)
    assert [next(epoch) for _ in range(3)] == [{}, {}, {}]
    assert restored == []
    assert next(epoch)["label"] == next(running)["label"] == [11]
    assert [batch["label"] for batch in resumed] == [[0], [10], [1], [11]]
    assert restored == [1]


@pytest.mark.parametrize(
    "make",
    [
        lambda rows: DataLoader(rows, batch_size=2),
        lambda rows: DataLoader(SentencesDataset(rows, model=None), batch_size=2),
        lambda rows: NoDuplicatesDataLoader(rows, batch_size=2),
    ],
)
def test_the_first_examples_of_a_loader_over_a_list_are_rows_by_column(make):
    rows = [InputExample(texts=["a", "b"], label=0.5), InputExample(texts=["c", "d"], label=0.25)]
    first = FirstExamples(make(rows))
    assert len(first) == 2
    assert first.column_names == ["sentence_0", "sentence_1", "label"]
    assert first.select_columns(["label"])[:1] == {"sentence_0": ["a"], "sentence_1": ["b"], "label": [0.5]}


def test_other_data_is_not_read_for_its_first_examples():
    class Counting(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, number: int) -> InputExample:
            raise AssertionError("read")

    first = FirstExamples(DataLoader(Counting(), batch_size=2))
    assert (len(first), first.column_names, first[:2]) == (0, [], {})


def test_a_list_of_other_rows_holds_no_examples():
    class Read(torch.utils.data.Dataset):
        examples = [{"question": "a", "answer": "b"}]

    first = FirstExamples(DataLoader(Read(), batch_size=2, sampler=[0]))
    assert (len(first), first.column_names) == (0, [])


def test_an_epoch_is_as_long_as_asked_for_or_as_the_shortest_loader():
    loaders = [[0] * 3, [0] * 2]
    assert batches_in_an_epoch(loaders, None) == batches_in_an_epoch(loaders, 0) == 2
    assert batches_in_an_epoch(loaders, 7) == 7


def test_a_collate_function_of_the_loaders_own_stays():
    usual, own, none = DataLoader(examples(2)), DataLoader(examples(2), collate_fn=list), without_duplicates()
    before = usual.collate_fn
    with collating([usual, own, none, [examples(1)]], labels_of):
        assert usual.collate_fn is none.collate_fn is labels_of
        assert own.collate_fn is list
    assert usual.collate_fn is before
    assert none.collate_fn is None
