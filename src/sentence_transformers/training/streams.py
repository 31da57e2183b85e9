"""Batches from streams of rows: never mixed within a batch, and as many for every process.

What rows become is the collator's work; nothing here looks into them.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any

from torch.utils.data import IterableDataset

Rows = list[dict[str, Any]]


class Interleaved(IterableDataset):
    """Whole batches of rows, each from one of several data sets.

    In a distributed run the processes read the same rows, and each keeps its own part of them: in a step all
    have batches of the same data set, of as many rows.

    Args:
        datasets: By name; streams, or data sets with rows.
        batch_size: Rows of a batch, in each process.
        drop_last: Whether a last batch of fewer rows is left out.
        round_robin: Take from each in turn, as many rounds as the one with the fewest batches has; otherwise from
            one chosen at random among those that have rows left, until none has.
        seed: Of the random choice; the epoch is added.
        process: Number of this process.
        processes: How many there are.
    """

    def __init__(
        self,
        datasets: Mapping[Any, Any],
        *,
        batch_size: int,
        drop_last: bool,
        round_robin: bool,
        seed: int,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.datasets = dict(datasets)
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.round_robin = round_robin
        self.seed = seed
        self.process = process
        self.processes = processes
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch it is; streams that can shuffle do so anew."""
        self.epoch = epoch
        for dataset in self.datasets.values():
            if hasattr(dataset, "set_epoch"):
                dataset.set_epoch(epoch)

    def __iter__(self) -> Iterator[Rows]:
        streams = [self.batches(dataset) for dataset in self.datasets.values()]
        if self.round_robin:
            # Nothing of a round that one of them does not complete.
            return chain.from_iterable(zip(*streams))
        return drawn(streams, random.Random(self.seed + self.epoch))

    def batches(self, dataset: Iterable[dict[str, Any]]) -> Iterator[Rows]:
        """The rows of one data set that are this process's, so many at a time."""
        rows = iter(dataset)
        size = self.batch_size * self.processes
        while batch := list(islice(rows, size)):
            if len(batch) < size and (self.drop_last or len(batch) < self.processes):
                return
            first, last = (place * len(batch) // self.processes for place in (self.process, self.process + 1))
            yield batch[first:last]


def drawn(streams: list[Iterator[Rows]], chance: random.Random) -> Iterator[Rows]:
    """Batches of several streams, each time of one chosen at random, until all are used up."""
    while streams:
        stream = chance.choice(streams)
        batch = next(stream, None)
        if batch is None:
            streams.remove(stream)
        else:
            yield batch
