"""Training rows that differ from pass to pass: damaged anew, paired anew, in another order.

A pass is made from the seed and its number alone, so a run that was killed goes on in the middle of one with the
very rows it would have had. What the rows are is up to each recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sentence_transformers.training.batch_samplers import DefaultBatchSampler

Columns = dict[str, list[Any]]


class Passes:
    """A data set whose rows of the second pass follow those of the first, and so on without end.

    Its length is that of one pass, and the trainer's batches have to come from `InOrder`, which counts on from
    pass to pass.

    Args:
        rows: Makes the columns of a pass of its number, 0 for the first, in the order in which they are to be
            seen; every pass has as many rows.
    """

    def __init__(self, rows: Callable[[int], Columns]) -> None:
        self.rows = rows
        self._at_hand = 0, rows(0)
        self.column_names = list(self._at_hand[1])
        self._length = len(self._at_hand[1][self.column_names[0]])

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, place: int | slice) -> dict[str, Any]:
        """A row, counted through all passes; with a slice, columns of the first pass."""
        if isinstance(place, slice):
            return {name: values[place] for name, values in self.rows(0).items()}
        number, row = divmod(place, self._length)
        if self._at_hand[0] != number:
            self._at_hand = number, self.rows(number)
        return {name: values[row] for name, values in self._at_hand[1].items()}


class InOrder(DefaultBatchSampler):
    """Batches of `Passes`, row after row; give the class as the training argument `batch_sampler`."""

    def __iter__(self) -> Iterator[list[int]]:
        start = self.epoch * len(self.dataset)
        for first in range(0, len(self.dataset), self.batch_size):
            batch = range(first, min(first + self.batch_size, len(self.dataset)))
            if len(batch) == self.batch_size or not self.drop_last:
                yield [start + row for row in batch]


def shuffled(columns: Mapping[str, Sequence[Any]], *, seed: int, number: int) -> Columns:
    """Columns with their rows in the random order of a pass."""
    count = len(next(iter(columns.values())))
    order = np.random.default_rng((seed, number)).permutation(count).tolist()
    return {name: [values[row] for row in order] for name, values in columns.items()}
