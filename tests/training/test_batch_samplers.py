"""The orders called recorded were made with release 6.2.0 of the reference, for the same rows and seed."""

from __future__ import annotations

import pickle
from itertools import islice

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler

from sentence_transformers.training.batch_samplers import (
    BATCH_SAMPLERS,
    BatchSamplers,
    DefaultBatchSampler,
    GroupByLabelBatchSampler,
    LengthGroupedBatchSampler,
    NoDuplicatesBatchSampler,
)

EVERY_SAMPLER = [*BATCH_SAMPLERS.values(), LengthGroupedBatchSampler]
LABELS = ["label", "score"]


@pytest.fixture
def dataset():
    """Twenty rows; the second column repeats after seven, the label after three."""
    return Dataset.from_dict(
        {
            "a": [f"a{row}" for row in range(20)],
            "b": [f"b{row % 7}" for row in range(20)],
            "label": [row % 3 for row in range(20)],
        }
    )


def rows_of(batches):
    return sorted(row for batch in batches for row in batch)


@pytest.mark.parametrize("make", EVERY_SAMPLER)
class TestEverySampler:
    def test_the_same_seed_and_epoch_give_the_same_batches(self, make, dataset):
        one = make(dataset, 6, False, LABELS, seed=3)
        other = make(dataset, 6, False, LABELS, torch.Generator().manual_seed(99), seed=3)
        assert list(one) == list(one) == list(other)

    def test_another_epoch_or_seed_gives_other_batches(self, make, dataset):
        sampler = make(dataset, 6, False, LABELS, seed=3)
        first = list(sampler)
        sampler.set_epoch(1)
        second = list(sampler)
        sampler.set_epoch(0)
        assert first != second
        assert first == list(sampler)
        assert first != list(make(dataset, 6, False, LABELS, seed=4))

    def test_without_a_seed_the_generator_says_the_order(self, make, dataset):
        def drawn():
            generator = torch.Generator().manual_seed(5)
            sampler = make(dataset, 6, False, LABELS, generator, seed=None)
            return [list(sampler), list(sampler)]

        assert drawn() == drawn()
        assert drawn()[0] != drawn()[1]

    def test_the_rest_of_an_epoch_is_the_same_after_a_restart(self, make, dataset):
        sampler = make(dataset, 4, False, LABELS, seed=3)
        sampler.set_epoch(2)
        restarted = pickle.loads(pickle.dumps(make(dataset, 4, False, LABELS, seed=3)))
        restarted.set_epoch(2)
        assert list(sampler)[2:] == list(islice(restarted, 2, None))

    def test_a_pickled_sampler_goes_on_alike(self, make, dataset):
        sampler = make(dataset, 6, False, LABELS, torch.Generator(), seed=3)
        sampler.set_epoch(4)
        expected = list(sampler)
        assert list(pickle.loads(pickle.dumps(sampler))) == expected

    def test_only_full_batches_are_left_with_drop_last(self, make, dataset):
        batches = list(make(dataset, 6, True, LABELS))
        assert [len(batch) for batch in batches] == [6, 6, 6]

    def test_a_data_loader_takes_it(self, make, dataset):
        loader = DataLoader(dataset, batch_sampler=make(dataset, 6, False, LABELS))
        assert [len(batch["a"]) for batch in loader] == [len(batch) for batch in loader.batch_sampler]

    def test_rows_may_be_dictionaries_in_a_list(self, make, dataset):
        assert list(make(dataset.to_list(), 6, False, LABELS)) == list(make(dataset, 6, False, LABELS))

    def test_two_processes_share_the_batches(self, make, dataset):
        from accelerate.data_loader import BatchSamplerShard

        batches = list(make(dataset, 6, True, LABELS))[:2]
        shards = [
            next(
                iter(BatchSamplerShard(make(dataset, 6, True, LABELS), num_processes=2, process_index=index))
            )
            for index in range(2)
        ]
        assert shards == batches

    def test_accelerate_hands_the_epoch_on(self, make, dataset):
        from accelerate import Accelerator

        sampler = make(dataset, 6, False, LABELS)
        loader = DataLoader(dataset.select_columns(["label"]), batch_sampler=sampler)
        prepared = Accelerator(cpu=True).prepare(loader)
        prepared.set_epoch(3)
        assert sampler.epoch == 3


@pytest.mark.parametrize("make", [DefaultBatchSampler, NoDuplicatesBatchSampler, LengthGroupedBatchSampler])
def test_an_epoch_has_every_row_once(make, dataset):
    assert rows_of(make(dataset, 6, False, LABELS)) == list(range(20))


@pytest.mark.parametrize("make", [DefaultBatchSampler, GroupByLabelBatchSampler, LengthGroupedBatchSampler])
@pytest.mark.parametrize("drop_last", [True, False])
def test_the_length_is_the_number_of_batches(make, drop_last, dataset):
    sampler = make(dataset, 6, drop_last, LABELS)
    assert len(sampler) == len(list(sampler))


def test_the_default_order_is_the_recorded_one(dataset):
    order = [6, 12, 3, 7, 1, 5, 8, 9, 2, 17, 14, 11, 13, 19, 10, 4, 15, 0, 18, 16]
    assert list(DefaultBatchSampler(dataset, 6, False, seed=3)) == [
        order[:6],
        order[6:12],
        order[12:18],
        order[18:],
    ]


def test_rows_come_in_the_order_of_a_sampler():
    sequential = DefaultBatchSampler(SequentialSampler(range(5)), 2, False)
    assert list(sequential) == list(DefaultBatchSampler(sampler=range(5), batch_size=2, drop_last=False))
    assert list(sequential) == [[0, 1], [2, 3], [4]]
    random = DefaultBatchSampler(RandomSampler(range(5)), 2, True)
    assert [len(batch) for batch in random] == [2, 2]


def test_a_subclass_with_its_own_order_needs_nothing_more():
    class Backwards(DefaultBatchSampler):
        def __iter__(self):
            for row in reversed(range(len(self.dataset))):
                yield [row]

    assert list(Backwards([{"a": "x"}] * 3, batch_size=1, drop_last=False)) == [[2], [1], [0]]


@pytest.mark.parametrize("name", [member.value for member in BatchSamplers])
def test_every_name_has_a_sampler(name, dataset):
    choice = BatchSamplers(name)
    assert choice == name
    assert list(BATCH_SAMPLERS[choice](dataset, 6, False, LABELS))


def test_an_unknown_name_is_told_which_there_are():
    with pytest.raises(ValueError, match=r"'shuffled' is not one of BatchSamplers.*'no_duplicates'"):
        BatchSamplers("shuffled")


class TestNoDuplicates:
    @pytest.mark.parametrize("precompute", [True, False])
    def test_batches_are_the_recorded_ones(self, precompute, dataset):
        sampler = NoDuplicatesBatchSampler(dataset, 6, False, LABELS, seed=3, precompute_hashes=precompute)
        assert list(sampler) == [
            [6, 12, 3, 7, 1, 9],
            [5, 8, 2, 17, 14, 11],
            [13, 19, 10, 4, 15, 0],
            [18, 16],
        ]

    @given(
        columns=st.lists(st.tuples(st.text("abc", max_size=2), st.text("abc", max_size=2)), max_size=30),
        batch_size=st.integers(1, 6),
        epoch=st.integers(0, 2),
    )
    def test_no_text_is_in_two_rows_of_a_batch_in_whatever_columns(self, columns, batch_size, epoch):
        rows = [{"a": a, "b": b, "label": 1} for a, b in columns]
        sampler = NoDuplicatesBatchSampler(rows, batch_size, False, LABELS)
        sampler.set_epoch(epoch)
        batches = list(sampler)
        for batch in batches:
            texts = [text for row in batch for text in set(columns[row])]
            assert len(texts) == len(set(texts))
        assert rows_of(batches) == list(range(len(rows)))
        assert len(batches) >= len(sampler)

    def test_each_text_of_a_list_counts(self):
        rows = [{"a": "q", "b": ["x", "y"]}, {"a": "r", "b": ["z", "x"]}, {"a": "s", "b": ["q", "z"]}]
        # Any two of these rows share a text.
        assert [len(batch) for batch in NoDuplicatesBatchSampler(rows, 3, False)] == [1, 1, 1]

    def test_missing_values_do_not_count(self):
        rows = [{"a": str(row), "b": None} for row in range(4)]
        assert [len(batch) for batch in NoDuplicatesBatchSampler(rows, 4, False)] == [4]

    def test_a_row_may_hold_the_same_text_twice(self):
        rows = [{"a": str(row), "b": str(row)} for row in range(4)]
        assert [len(batch) for batch in NoDuplicatesBatchSampler(rows, 4, False)] == [4]

    def test_batches_that_could_not_be_filled_are_told(self, caplog):
        rows = [{"a": str(row), "b": "the same"} for row in range(4)]
        assert list(NoDuplicatesBatchSampler(rows, 2, True)) == []
        assert "Only 0 of 2 batches of 2 rows" in caplog.text


class TestGroupByLabel:
    @given(
        labels=st.lists(st.sampled_from(["x", "y", "z"]), min_size=8, max_size=60),
        batch_size=st.sampled_from([4, 6, 10]),
        drop_last=st.booleans(),
        epoch=st.integers(0, 2),
    )
    def test_every_label_of_a_batch_has_company(self, labels, batch_size, drop_last, epoch):
        if sum(labels.count(label) >= 2 for label in set(labels)) < 2:
            return
        rows = [{"text": str(row), "label": label} for row, label in enumerate(labels)]
        sampler = GroupByLabelBatchSampler(rows, batch_size, drop_last, LABELS)
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        for batch in batches:
            in_batch = [labels[row] for row in batch]
            assert len(set(in_batch)) >= 2
            assert all(in_batch.count(label) >= 2 for label in in_batch)

    def test_another_row_of_an_odd_label_is_left_out_each_time(self):
        rows = [{"text": str(row), "label": row // 5} for row in range(10)]
        sampler = GroupByLabelBatchSampler(rows, 4, False, LABELS)
        left_out = set()
        for epoch in range(20):
            sampler.set_epoch(epoch)
            left_out |= set(range(10)) - set(rows_of(sampler))
        assert left_out == set(range(10))

    @pytest.mark.parametrize("batch_size", [1, 2, 3, 5])
    def test_a_batch_size_that_holds_no_two_pairs_is_refused(self, batch_size, dataset):
        with pytest.raises(ValueError, match=f"batch_size={batch_size} "):
            GroupByLabelBatchSampler(dataset, batch_size, False, LABELS)

    @pytest.mark.parametrize("columns", [None, [], ["category"]])
    def test_a_missing_label_column_is_told(self, columns, dataset):
        with pytest.raises(ValueError, match=r"none of the label columns .* has the columns"):
            GroupByLabelBatchSampler(dataset, 4, False, columns)

    @pytest.mark.parametrize("labels", [[0] * 8, list(range(8)), [0] * 7 + [1]])
    def test_fewer_than_two_labels_with_two_rows_are_refused(self, labels):
        rows = [{"text": str(row), "label": label} for row, label in enumerate(labels)]
        with pytest.raises(ValueError, match="at least two labels with two rows"):
            GroupByLabelBatchSampler(rows, 4, False, LABELS)

    def test_a_list_is_no_label(self):
        with pytest.raises(ValueError, match="of type list"):
            GroupByLabelBatchSampler([{"label": [1, 2]}], 4, False, LABELS)


class TestLengthGrouped:
    def test_rows_of_like_length_stand_together(self):
        rows = [{"a": "x" * (row % 40), "b": ["y" * (row % 40), "zz"], "label": 1} for row in range(400)]
        sampler = LengthGroupedBatchSampler(rows, 10, False, LABELS, batches_per_bucket=40)
        assert all(len({row % 40 for row in batch}) == 1 for batch in sampler)

    def test_a_bucket_of_one_batch_leaves_the_order_to_chance(self, dataset):
        sampler = LengthGroupedBatchSampler(dataset, 6, False, LABELS, batches_per_bucket=1)
        assert rows_of(sampler) == list(range(20))
        with pytest.raises(ValueError, match="batches_per_bucket=0"):
            LengthGroupedBatchSampler(dataset, 6, False, batches_per_bucket=0)
