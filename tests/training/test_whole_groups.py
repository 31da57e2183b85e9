"""Every process of a distributed run gets as many batches."""

from __future__ import annotations

import pytest

from sentence_transformers.training.batch_samplers import DefaultBatchSampler
from sentence_transformers.training.whole_groups import WholeGroups, shared_among


@pytest.mark.parametrize(("rows", "processes"), [(8, 2), (9, 2), (10, 3), (1, 4), (3, 1), (20, 8)])
def test_batches_are_filled_up_with_the_first_ones(rows, processes):
    batches = DefaultBatchSampler(range(rows), 2, False)
    whole = list(WholeGroups(batches, processes))
    plain = list(batches)
    assert len(whole) % processes == 0
    assert len(whole) - len(plain) < processes
    assert whole[: len(plain)] == plain
    assert all(batch in plain for batch in whole)
    assert len(WholeGroups(batches, processes)) == len(whole)


def test_no_batch_stays_no_batch():
    assert list(WholeGroups(DefaultBatchSampler(range(0), 2, False), 2)) == []


def test_the_epoch_is_handed_on():
    batches = DefaultBatchSampler(range(4), 2, False)
    WholeGroups(batches, 2).set_epoch(3)
    assert batches.epoch == 3
    WholeGroups([[1]], 2).set_epoch(3)


class Counted:
    """Sampler of one data set: batches that say where they are from."""

    batch_size, drop_last = 2, False

    def __init__(self, name, count, rows=2):
        self.found = [[f"{name}{number}.{row}" for row in range(rows)] for number in range(count)]

    def __iter__(self):
        return iter(self.found)

    def __len__(self):
        return len(self.found)


def one_after_another(samplers):
    class Chained(list):
        pass

    return Chained(batch for sampler in samplers for batch in sampler)


@pytest.mark.parametrize("processes", [2, 3])
def test_in_a_step_all_processes_have_batches_of_the_same_data_set(processes):
    batches = list(shared_among(processes, [Counted("a", 5), Counted("b", 2)], one_after_another))
    assert len(batches) % processes == 0
    for first in range(0, len(batches), processes):
        step = batches[first : first + processes]
        assert len({batch[0][0] for batch in step}) == 1
        assert all(len(batch) == 2 for batch in step)


def test_batches_of_a_step_stay_the_ones_they_were():
    samplers = [Counted("a", 4), Counted("b", 2)]
    batches = shared_among(2, samplers, one_after_another)
    assert list(batches) == [*samplers[0], *samplers[1]]
    assert len(batches) == 6


def test_one_process_gets_what_there_is():
    sampler = Counted("a", 3)
    assert shared_among(1, [sampler], lambda samplers: samplers[0]) is sampler
    assert list(shared_among(2, [sampler], lambda samplers: samplers[0]))[:3] == list(sampler)
