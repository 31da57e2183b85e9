"""Give every process of a distributed run the same number of batches."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

from torch.utils.data import BatchSampler


class WholeGroups(BatchSampler):
    """The batches of another sampler, filled up to a multiple of the number of processes.

    Batches go to the processes in turn. If the last round were not full, some process would wait for others
    for ever; it is filled with the first batches of the epoch.

    Args:
        batches: The other sampler.
        processes: How many processes there are.
    """

    def __init__(self, batches: Any, processes: int) -> None:
        self.batches = batches
        self.processes = processes
        self.sampler = batches
        # Accelerate takes a batch of another size than this for an incomplete one; here sizes may differ.
        self.batch_size = None  # type: ignore[assignment]
        self.drop_last = False

    def __iter__(self) -> Iterator[list[int]]:
        first: list[list[int]] = []
        count = 0
        for batch in self.batches:
            if count < self.processes:
                first.append(batch)
            count += 1
            yield batch
        yield from islice(cycle(first), -count % self.processes)

    def __len__(self) -> int:
        return -(-len(self.batches) // self.processes) * self.processes

    def set_epoch(self, epoch: int) -> None:
        """Tell the other sampler which epoch it is."""
        if hasattr(self.batches, "set_epoch"):
            self.batches.set_epoch(epoch)
