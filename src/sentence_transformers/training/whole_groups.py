"""Share batches among the processes of a distributed run.

Batches go to the processes in turn. Every process must get as many, or some would wait for the others for
ever; and in each step all must train on the same data set, since losses talk to the other processes each
in its own way. Which rows make a batch is not decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle, islice, pairwise
from typing import Any

from torch.utils.data import BatchSampler


class Rearranged(BatchSampler):
    """Other batches made of those of a sampler.

    Args:
        batches: The sampler.
        processes: How many processes there are.
    """

    def __init__(self, batches: Any, processes: int) -> None:
        self.batches = batches
        self.processes = processes
        self.sampler = batches
        # Accelerate takes a batch of another size than this for an incomplete one; here sizes may differ.
        self.batch_size: Any = None
        self.drop_last = False

    def set_epoch(self, epoch: int) -> None:
        """Tell the sampler which epoch it is."""
        if hasattr(self.batches, "set_epoch"):
            self.batches.set_epoch(epoch)


class WholeGroups(Rearranged):
    """The batches of a sampler, filled up to a multiple of the number of processes with the first of them."""

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


class Joined(Rearranged):
    """What the processes get in one step, as one batch.

    Args:
        batches: A sampler whose batches come in whole groups of as many as there are processes.
        processes: How many.
        batch_size: Rows of one of its batches.
        drop_last: Whether smaller ones are left out.
    """

    def __init__(self, batches: Any, processes: int, batch_size: int, drop_last: bool) -> None:
        super().__init__(batches, processes)
        self.batch_size = batch_size * processes
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[list[int]]:
        batches = iter(self.batches)
        while group := list(islice(batches, self.processes)):
            yield [row for batch in group for row in batch]

    def __len__(self) -> int:
        return len(self.batches) // self.processes


class Shared(Rearranged):
    """Each batch of a sampler cut into one for each process, of as many rows if these can be divided so."""

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.batches:
            cuts = [place * len(batch) // self.processes for place in range(self.processes + 1)]
            yield from (batch[first:last] for first, last in pairwise(cuts))

    def __len__(self) -> int:
        return len(self.batches) * self.processes


def shared_among(
    processes: int, samplers: list[Any], put_together: Callable[[list[Any]], BatchSampler]
) -> BatchSampler:
    """Batches of one or several data sets, for processes that take them in turn.

    Args:
        processes: How many there are.
        samplers: The batch sampler of each data set.
        put_together: Makes one sampler of them. Where there are several processes it is given samplers whose
            batches are those of all processes in a step, so that all get the same data set.
    """
    if processes == 1:
        return put_together(samplers)
    whole = [WholeGroups(sampler, processes) for sampler in samplers]
    if len(whole) == 1:
        return whole[0]
    steps = [
        Joined(group, processes, sampler.batch_size, sampler.drop_last)
        for group, sampler in zip(whole, samplers)
    ]
    return Shared(put_together(steps), processes)
