"""Batches from several streams of rows, never mixed within a batch."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from torch.utils.data import IterableDataset


class Interleaved(IterableDataset):
    """Whole batches of rows, each from one of several data sets.

    Args:
        datasets: By name; streams, or data sets with rows.
        batch_size: Rows of a batch.
        drop_last: Whether a last batch of fewer rows is left out.
        round_robin: Take from each in turn until one is used up; otherwise from one chosen at random among those
            that have rows left, until none has.
        seed: Of the random choice; the epoch is added.
    """

    def __init__(
        self, datasets: Mapping[str, Any], *, batch_size: int, drop_last: bool, round_robin: bool, seed: int
    ) -> None:
        self.datasets = dict(datasets)
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.round_robin = round_robin
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch it is; streams that can shuffle do so anew."""
        self.epoch = epoch
        for dataset in self.datasets.values():
            if hasattr(dataset, "set_epoch"):
                dataset.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        choose = random.Random(self.seed + self.epoch)
        streams = {name: self.batches(dataset) for name, dataset in self.datasets.items()}
        order: list[str] = []
        while streams:
            if not order:
                order = list(streams) if self.round_robin else [choose.choice(list(streams))]
            name = order.pop(0)
            batch = next(streams[name], None)
            if batch is not None:
                yield batch
            elif self.round_robin:
                return
            else:
                del streams[name]

    def batches(self, dataset: Any) -> Iterator[list[dict[str, Any]]]:
        """The rows of one data set, so many at a time."""
        rows = iter(dataset)
        while batch := list(islice(rows, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch
