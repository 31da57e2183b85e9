"""From which of several data sets the next batch comes.

Every data set has a batch sampler of its own; here their batches are put into one sequence, with row
numbers counted through all data sets. A batch never mixes data sets. Which rows a batch holds is up to
those samplers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

import torch
from torch import Generator
from torch.utils.data import BatchSampler, ConcatDataset

from sentence_transformers.training.batch_samplers import Choice, SetEpochMixin, generator_of_pass


class MultiDatasetBatchSamplers(Choice):
    """Ways through several data sets that have a name, for the argument `multi_dataset_batch_sampler`."""

    ROUND_ROBIN = "round_robin"
    """One batch of each in turn, until one has no more: `RoundRobinBatchSampler`."""

    PROPORTIONAL = "proportional"
    """All batches of all, in random order: `ProportionalBatchSampler`."""


class MultiDatasetDefaultBatchSampler(SetEpochMixin, BatchSampler):
    """Base of the samplers of several data sets.

    To write one of your own, derive from this class, write `__iter__` and `__len__`, and pass the class as
    the training argument `multi_dataset_batch_sampler`. `self.batches_of_each()` starts a pass.

    Args:
        dataset: The data sets, one after the other.
        batch_samplers: The batch sampler of each of them, in the same order.
        generator: Source of chance where `seed` is None; the order then differs in every pass.
        seed: With the epoch, says the order. None for `generator`, or without it torch's own.
    """

    def __init__(
        self,
        dataset: ConcatDataset,
        batch_samplers: list[BatchSampler],
        generator: Generator | None = None,
        seed: int | None = 0,
    ) -> None:
        if len(batch_samplers) != len(dataset.datasets):
            raise ValueError(
                f"There are {len(dataset.datasets)} data sets and {len(batch_samplers)} batch samplers: pass "
                "one for each data set."
            )
        super().__init__(dataset, batch_samplers[0].batch_size, batch_samplers[0].drop_last)
        self.dataset = dataset
        self.batch_samplers = batch_samplers
        self.generator = generator
        self.seed = seed

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        for sampler in self.batch_samplers:
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        raise NotImplementedError(f"{type(self).__name__} does not say which data set comes next.")

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} does not say how many batches it has.")

    def random_generator(self) -> Generator | None:
        """Source of chance for one pass; None stands for torch's own."""
        return generator_of_pass(self.seed, self.epoch, self.generator)

    def batches_of_each(self) -> list[Iterator[list[int]]]:
        """The batches of each data set, with row numbers counted through all of them."""
        starts = accumulate((len(dataset) for dataset in self.dataset.datasets), initial=0)
        return [shifted(sampler, start) for sampler, start in zip(self.batch_samplers, starts)]


def shifted(batches: Iterable[list[int]], start: int) -> Iterator[list[int]]:
    """Batches of a data set whose first row has this number among the rows of all data sets."""
    for batch in batches:
        yield [start + row for row in batch]


class RoundRobinBatchSampler(MultiDatasetDefaultBatchSampler):
    """One batch of each data set in turn, as many rounds as the one with the fewest batches has.

    Every data set counts the same; of larger ones a part is left out of each epoch. The arguments are
    those of `MultiDatasetDefaultBatchSampler`.
    """

    def __iter__(self) -> Iterator[list[int]]:
        for batches in zip(*self.batches_of_each()):
            yield from batches

    def __len__(self) -> int:
        return min(map(len, self.batch_samplers)) * len(self.batch_samplers)


class ProportionalBatchSampler(MultiDatasetDefaultBatchSampler):
    """All batches of all data sets, in random order, so that larger ones come more often.

    The order is drawn from the lengths of the batch samplers. One that has more batches than its length
    says gives the others at the end; one that has fewer leaves its turns to those that follow. The
    arguments are those of `MultiDatasetDefaultBatchSampler`.
    """

    def __iter__(self) -> Iterator[list[int]]:
        lengths = torch.tensor([len(sampler) for sampler in self.batch_samplers])
        turns = torch.arange(len(lengths)).repeat_interleave(lengths)
        order = turns[torch.randperm(len(turns), generator=self.random_generator())].tolist()
        batches_of_each = self.batches_of_each()
        for number in order:
            batch = next(batches_of_each[number], None)
            if batch is not None:
                yield batch
        for batches in batches_of_each:
            yield from batches

    def __len__(self) -> int:
        return sum(map(len, self.batch_samplers))


DATASET_SAMPLERS: Mapping[MultiDatasetBatchSamplers, type[MultiDatasetDefaultBatchSampler]] = {
    MultiDatasetBatchSamplers.ROUND_ROBIN: RoundRobinBatchSampler,
    MultiDatasetBatchSamplers.PROPORTIONAL: ProportionalBatchSampler,
}
"""The class of each name."""
