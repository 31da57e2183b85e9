"""Batches from several streams of rows, one data set to a batch."""

from __future__ import annotations

import pytest
from datasets import Dataset

from sentence_transformers.training.streams import Interleaved


def stream(name, count):
    return Dataset.from_dict({"text": [f"{name}{row}" for row in range(count)]}).to_iterable_dataset()


def interleaved(counts, *, batch_size=2, drop_last=False, round_robin=False, seed=1, **place):
    datasets = {name: stream(name, count) for name, count in counts.items()}
    return Interleaved(
        datasets, batch_size=batch_size, drop_last=drop_last, round_robin=round_robin, seed=seed, **place
    )


def texts(batches):
    return [[row["text"] for row in batch] for batch in batches]


@pytest.mark.parametrize("round_robin", [False, True])
def test_a_batch_is_of_one_data_set(round_robin):
    for batch in texts(interleaved({"a": 7, "b": 5}, round_robin=round_robin)):
        assert len({text[0] for text in batch}) == 1


def test_at_random_every_row_comes_once_and_each_data_set_in_its_order():
    batches = texts(interleaved({"a": 7, "b": 5, "c": 1}))
    for name, count in (("a", 7), ("b", 5), ("c", 1)):
        rows = [text for batch in batches for text in batch if text[0] == name]
        assert rows == [f"{name}{row}" for row in range(count)]


def test_in_turn_it_ends_with_the_shortest():
    assert texts(interleaved({"a": 9, "b": 3}, round_robin=True)) == [
        ["a0", "a1"],
        ["b0", "b1"],
        ["a2", "a3"],
        ["b2"],
    ]


def test_in_turn_no_round_is_left_half():
    """As with data sets that have rows: every data set gives as many batches."""
    assert texts(interleaved({"a": 4, "b": 2}, round_robin=True)) == [["a0", "a1"], ["b0", "b1"]]


def test_small_last_batches_can_be_left_out():
    assert texts(interleaved({"a": 5}, drop_last=True)) == [["a0", "a1"], ["a2", "a3"]]


def test_the_order_follows_from_the_seed_and_the_epoch():
    one, other = interleaved({"a": 20, "b": 20}), interleaved({"a": 20, "b": 20})
    first = texts(one)
    assert first == texts(one) == texts(other)
    one.set_epoch(1)
    assert texts(one) != first
    assert texts(interleaved({"a": 20, "b": 20}, seed=2)) != first


def test_the_epoch_is_handed_on_to_streams_that_shuffle():
    data = {"a": stream("a", 20).shuffle(seed=3, buffer_size=20)}
    batches = Interleaved(data, batch_size=20, drop_last=False, round_robin=False, seed=0)
    first = texts(batches)
    batches.set_epoch(1)
    assert sorted(texts(batches)[0]) == sorted(first[0])
    assert texts(batches) != first


def test_data_sets_with_rows_may_be_among_them():
    data = {"a": Dataset.from_dict({"text": ["a0"]}), "b": stream("b", 1)}
    batches = Interleaved(data, batch_size=2, drop_last=False, round_robin=True, seed=0)
    assert texts(batches) == [["a0"], ["b0"]]


@pytest.mark.parametrize("round_robin", [False, True])
def test_processes_share_the_rows_of_one_data_set_in_each_step(round_robin):
    def of_process(number, **options):
        return texts(
            interleaved({"a": 11, "b": 6}, round_robin=round_robin, process=number, processes=2, **options)
        )

    first, second = of_process(0), of_process(1)
    together = [one + other for one, other in zip(first, second, strict=True)]
    assert together == texts(interleaved({"a": 11, "b": 6}, round_robin=round_robin, batch_size=4))
    for number in range(2):
        assert all(len(batch) == 2 for batch in of_process(number, drop_last=True))


def test_a_row_too_few_for_all_processes_is_left_out():
    for number in range(2):
        assert texts(interleaved({"a": 5}, process=number, processes=2)) == [
            [f"a{2 * number}", f"a{2 * number + 1}"]
        ]
