"""The orders called recorded were made with release 6.2.0 of the reference, for the same lengths and seed."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, ConcatDataset

from sentence_transformers.training.batch_samplers import DefaultBatchSampler, NoDuplicatesBatchSampler
from sentence_transformers.training.dataset_samplers import (
    DATASET_SAMPLERS,
    MultiDatasetBatchSamplers,
    MultiDatasetDefaultBatchSampler,
    ProportionalBatchSampler,
    RoundRobinBatchSampler,
)

LENGTHS = (5, 9, 14)


def sampler_of(kind, lengths=LENGTHS, *, batch_size=2, drop_last=False, in_order=False, **options):
    datasets = [[{"a": f"{number}-{row}"} for row in range(length)] for number, length in enumerate(lengths)]
    orders = [range(length) for length in lengths] if in_order else datasets
    samplers = [DefaultBatchSampler(order, batch_size, drop_last) for order in orders]
    return kind(ConcatDataset(datasets), samplers, **options)


def dataset_of_row(row, lengths):
    return next(number for number in range(len(lengths)) if row < sum(lengths[: number + 1]))


class Claiming(BatchSampler):
    """Batches of two rows in order, whatever the length says."""

    def __init__(self, rows, length):
        super().__init__(range(rows), 2, False)
        self.length = length

    def __len__(self):
        return self.length


@given(
    lengths=st.lists(st.integers(1, 25), min_size=1, max_size=4),
    batch_size=st.integers(1, 5),
    drop_last=st.booleans(),
    epoch=st.integers(0, 2),
    kind=st.sampled_from([RoundRobinBatchSampler, ProportionalBatchSampler]),
)
def test_a_batch_is_of_one_data_set_and_no_row_comes_twice(lengths, batch_size, drop_last, epoch, kind):
    sampler = sampler_of(kind, lengths, batch_size=batch_size, drop_last=drop_last)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    rows = [row for batch in batches for row in batch]
    assert len(rows) == len(set(rows))
    assert all(len({dataset_of_row(row, lengths) for row in batch}) == 1 for batch in batches)
    assert len(batches) == len(sampler)


@given(lengths=st.lists(st.integers(1, 25), min_size=1, max_size=4), seed=st.integers(0, 4))
def test_proportional_gives_every_row_of_every_data_set(lengths, seed):
    sampler = sampler_of(ProportionalBatchSampler, lengths, seed=seed)
    assert sorted(row for batch in sampler for row in batch) == list(range(sum(lengths)))


def test_proportional_spreads_data_sets_over_the_epoch_by_their_size():
    lengths = (200, 600)
    first_half = list(sampler_of(ProportionalBatchSampler, lengths))[:200]
    share = sum(dataset_of_row(batch[0], lengths) == 0 for batch in first_half) / len(first_half)
    assert share == pytest.approx(0.25, abs=0.06)


@given(lengths=st.lists(st.integers(1, 25), min_size=1, max_size=4))
def test_round_robin_takes_turns_and_stops_with_a_whole_round(lengths):
    batches = list(sampler_of(RoundRobinBatchSampler, lengths))
    turns = [dataset_of_row(batch[0], lengths) for batch in batches]
    rounds = min(-(-length // 2) for length in lengths)
    assert turns == list(range(len(lengths))) * rounds


def test_the_order_of_data_sets_is_the_recorded_one():
    proportional = sampler_of(ProportionalBatchSampler, in_order=True, seed=3)
    turns = [dataset_of_row(batch[0], LENGTHS) for batch in proportional]
    assert turns == [0, 2, 1, 1, 2, 1, 2, 1, 2, 1, 2, 2, 0, 0, 2]
    proportional.set_epoch(1)
    turns = [dataset_of_row(batch[0], LENGTHS) for batch in proportional]
    assert turns == [2, 1, 2, 2, 1, 2, 2, 0, 0, 2, 1, 1, 1, 2, 0]
    round_robin = sampler_of(RoundRobinBatchSampler, in_order=True, seed=3)
    assert list(round_robin) == [
        [0, 1],
        [5, 6],
        [14, 15],
        [2, 3],
        [7, 8],
        [16, 17],
        [4],
        [9, 10],
        [18, 19],
    ]


@pytest.mark.parametrize("kind", [RoundRobinBatchSampler, ProportionalBatchSampler])
def test_seed_and_epoch_say_the_order_also_inside_the_data_sets(kind):
    sampler = sampler_of(kind, seed=3)
    first = list(sampler)
    assert first == list(sampler) == list(pickle.loads(pickle.dumps(sampler)))
    sampler.set_epoch(1)
    assert [inner.epoch for inner in sampler.batch_samplers] == [1, 1, 1]
    assert list(sampler) != first


def test_batches_beyond_a_length_come_at_the_end_and_missing_ones_are_passed_over():
    dataset = ConcatDataset([range(4), range(8)])
    sampler = ProportionalBatchSampler(dataset, [Claiming(4, length=9), Claiming(8, length=1)])
    batches = list(sampler)
    assert sorted(row for batch in batches for row in batch) == list(range(12))
    assert len(batches) == 6


def test_set_aside_rows_of_a_data_set_all_come():
    rows = [{"a": "the same", "b": str(row)} for row in range(6)]
    dataset = ConcatDataset([rows, rows])
    sampler = ProportionalBatchSampler(dataset, [NoDuplicatesBatchSampler(rows, 3, False) for _ in range(2)])
    assert sorted(row for batch in sampler for row in batch) == list(range(12))


@pytest.mark.parametrize("kind", [RoundRobinBatchSampler, ProportionalBatchSampler])
def test_another_number_of_samplers_than_data_sets_is_refused(kind):
    with pytest.raises(ValueError, match="2 data sets and 1 batch samplers"):
        kind(ConcatDataset([range(4), range(8)]), [Claiming(4, length=2)])


def test_the_base_asks_for_an_order():
    sampler = sampler_of(MultiDatasetDefaultBatchSampler)
    with pytest.raises(NotImplementedError, match="which data set comes next"):
        list(sampler)
    with pytest.raises(NotImplementedError, match="how many batches"):
        len(sampler)


def test_a_subclass_with_its_own_order_needs_nothing_more():
    class OneAfterTheOther(MultiDatasetDefaultBatchSampler):
        def __iter__(self):
            for batches in self.batches_of_each():
                yield from batches

        def __len__(self):
            return sum(map(len, self.batch_samplers))

    rows = [row for batch in sampler_of(OneAfterTheOther, in_order=True) for row in batch]
    assert rows == list(range(sum(LENGTHS)))


@pytest.mark.parametrize("name", [member.value for member in MultiDatasetBatchSamplers])
def test_every_name_has_a_sampler(name):
    assert len(sampler_of(DATASET_SAMPLERS[MultiDatasetBatchSamplers(name)])) > 0


def test_an_unknown_name_is_told_which_there_are():
    with pytest.raises(ValueError, match=r"'in_turn' is not one of .*'round_robin', 'proportional'"):
        MultiDatasetBatchSamplers("in_turn")
