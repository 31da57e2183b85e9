"""Which rows of one data set go into a batch together.

A sampler is asked for batches of row numbers, once in each epoch. Their order follows from the seed and
the epoch alone: the same pair gives the same batches, in every process and after a restart, and training
that is resumed in the middle of an epoch goes on with the batches it would have had. How rows are grouped
is worked out in `batch_plans.py`; batches of several data sets are in `dataset_samplers.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils.data import BatchSampler, Sampler

from sentence_transformers.arguments import accepts_older_names
from sentence_transformers.training import batch_plans
from sentence_transformers.training.column_blocks import column_blocks, column_names
from sentence_transformers.training.text_keys import TextKeys, is_input, text_keys, texts_in

logger = logging.getLogger(__name__)


class Choice(str, Enum):
    """A named choice that is also its text; an unknown text is told which there are."""

    @classmethod
    def _missing_(cls, value: object) -> None:
        known = ", ".join(repr(choice.value) for choice in cls)
        raise ValueError(f"{value!r} is not one of {cls.__name__}. Known: {known}.")


class BatchSamplers(Choice):
    """Samplers that have a name, for the training argument `batch_sampler`."""

    BATCH_SAMPLER = "batch_sampler"
    """Rows in random order: `DefaultBatchSampler`."""

    NO_DUPLICATES = "no_duplicates"
    """No text twice in a batch: `NoDuplicatesBatchSampler`. For losses with in-batch negatives."""

    NO_DUPLICATES_HASHED = "no_duplicates_hashed"
    """The same, with the data set read when the sampler is made, and not before the first batch."""

    GROUP_BY_LABEL = "group_by_label"
    """At least two rows of every label in a batch: `GroupByLabelBatchSampler`. For batch triplet losses."""


class SetEpochMixin:
    """Remembers the epoch, in `epoch`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next pass is, so that its order differs from the others'."""
        self.epoch = epoch


class DefaultBatchSampler(SetEpochMixin, BatchSampler):
    """Batches of rows in random order, and the base of the other samplers.

    To write one of your own, derive from this class, write `__iter__`, which yields lists of row numbers,
    and `__len__` where it differs, and pass the class as the training argument `batch_sampler`. Take the
    random numbers from `self.random_generator()`.

    Args:
        dataset: The data set. A `torch.utils.data.Sampler` or a `range` does too: the rows then come in
            the order that it says.
        batch_size: Rows in a batch.
        drop_last: Leave out the last batch if it is not full.
        valid_label_columns: Columns that hold labels, and no inputs.
        generator: Source of chance where `seed` is None; the order then differs in every pass.
        seed: With the epoch, says the order. None for `generator`, or without it torch's own.
    """

    @accepts_older_names(sampler="dataset")
    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        drop_last: bool,
        valid_label_columns: list[str] | None = None,
        generator: Generator | None = None,
        seed: int | None = 0,
    ) -> None:
        super().__init__(dataset, batch_size, drop_last)
        self.dataset = dataset
        self.valid_label_columns = valid_label_columns or []
        self.generator = generator
        self.seed = seed

    def __iter__(self) -> Iterator[list[int]]:
        if isinstance(self.dataset, (Sampler, range)):
            return super().__iter__()
        return batch_plans.cut(self.random_order(), batch_size=self.batch_size, drop_last=self.drop_last)

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        if isinstance(self.dataset, Sampler) and hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)

    def random_generator(self) -> Generator | None:
        """Source of chance for one pass over the data set; None stands for torch's own."""
        return generator_of_pass(self.seed, self.epoch, self.generator)

    def random_order(self) -> Tensor:
        """All row numbers in the order of this epoch, (N,)."""
        return torch.randperm(len(self.dataset), generator=self.random_generator())


def generator_of_pass(seed: int | None, epoch: int, generator: Generator | None) -> Generator | None:
    """A generator that starts from the seed and the epoch, or without a seed the one given."""
    return generator if seed is None else Generator().manual_seed(seed + epoch)


class NoDuplicatesBatchSampler(DefaultBatchSampler):
    """Batches in which no text occurs twice, so that another row's answer is a wrong one.

    All input columns count together, and so does each text of a list of texts; what is no text (an image,
    a number) counts by its value, and None does not count. A row that would repeat a text waits for a
    later batch, before the rows that come after it. When only such rows are left, batches get smaller, and
    there may then be more of them than the length says; with `drop_last` there may be fewer, as only full
    ones count.

    Args:
        dataset: The data set, which is read once. What is kept of it are eight bytes for each text.
        batch_size: See `DefaultBatchSampler`, as for what follows.
        drop_last: See there.
        valid_label_columns: See there.
        generator: See there.
        seed: See there.
        precompute_hashes: Read the data set now, and not before the first batch.
        precompute_num_proc: Processes that read a `datasets.Dataset` then; None for this one alone.
        precompute_batch_size: Rows that are read at once.
    """

    @accepts_older_names(sampler="dataset")
    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        drop_last: bool,
        valid_label_columns: list[str] | None = None,
        generator: Generator | None = None,
        seed: int | None = 0,
        precompute_hashes: bool = False,
        precompute_num_proc: int | None = None,
        precompute_batch_size: int = 1000,
    ) -> None:
        super().__init__(dataset, batch_size, drop_last, valid_label_columns, generator, seed)
        self.precompute_hashes = precompute_hashes
        self.precompute_num_proc = precompute_num_proc
        self.precompute_batch_size = precompute_batch_size
        self._keys: TextKeys | None = self.read_keys() if precompute_hashes else None

    def __iter__(self) -> Iterator[list[int]]:
        if self._keys is None:
            self._keys = self.read_keys()
        order = (row for block in self.random_order().split(4096) for row in block.tolist())
        given = 0
        for batch in batch_plans.batches_without_repeats(
            order, self._keys.of_row, batch_size=self.batch_size, drop_last=self.drop_last
        ):
            given += 1
            yield batch
        if given < len(self):
            logger.warning(
                "Only %d of %d batches of %d rows without a repeated text could be filled: too many rows "
                "share a text. Lower the batch size to use more rows, or set drop_last to False.",
                given,
                len(self),
                self.batch_size,
            )

    def read_keys(self) -> TextKeys:
        """Keys of all texts of the data set."""
        return text_keys(
            self.dataset,
            self.valid_label_columns,
            rows_per_block=self.precompute_batch_size,
            processes=self.precompute_num_proc if self.precompute_hashes else None,
        )


class GroupByLabelBatchSampler(DefaultBatchSampler):
    """Batches with at least two labels, and at least two rows of each, as batch triplet losses need.

    A batch has about the mix of labels that the data set has. Left out of an epoch are labels with a single
    row, the odd row of a label, another one each time, and rows of a label that is so frequent that the
    others run out.

    Args:
        dataset: See `DefaultBatchSampler`.
        batch_size: Rows in a batch: even, and at least 4.
        drop_last: See there.
        valid_label_columns: Names the label may have; the first that is a column of the data set counts.
        generator: See there.
        seed: See there.

    Raises:
        ValueError: If the batch size is odd or too small, there is no label column, or fewer than two
            labels have two rows.
    """

    @accepts_older_names(sampler="dataset")
    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        drop_last: bool,
        valid_label_columns: list[str] | None = None,
        generator: Generator | None = None,
        seed: int | None = 0,
    ) -> None:
        super().__init__(dataset, batch_size, drop_last, valid_label_columns, generator, seed)
        if batch_size < 4 or batch_size % 2:
            raise ValueError(
                f"batch_size={batch_size} cannot hold two labels with two rows each. To group by label, pass "
                "an even number of 4 or more."
            )
        columns = column_names(dataset)
        column = next((name for name in self.valid_label_columns if name in columns), None)
        if column is None:
            raise ValueError(
                f"Rows cannot be grouped by label: none of the label columns {self.valid_label_columns} is in "
                f"the data set, which has the columns {columns}. Name the column with the label 'label', or "
                "use another batch sampler."
            )
        self.labels = label_numbers(dataset, column)
        rows_by_label = torch.bincount(self.labels)
        paired = int((rows_by_label >= 2).sum())
        if paired < 2:
            raise ValueError(
                "Grouping by label needs at least two labels with two rows or more, and the column "
                f"{column!r} has {paired} of {len(rows_by_label)}. Use another batch sampler for this data."
            )
        full, in_last = batch_plans.count_label_batches(
            rows_by_label, batch_size=batch_size, drop_last=drop_last
        )
        self.batch_count = full + (in_last > 0)

    def __iter__(self) -> Iterator[list[int]]:
        return batch_plans.batches_of_label_pairs(
            self.labels,
            batch_size=self.batch_size,
            drop_last=self.drop_last,
            generator=self.random_generator(),
        )

    def __len__(self) -> int:
        return self.batch_count


def label_numbers(dataset: Any, column: str) -> Tensor:
    """Number of each row's label, (N,), counted from 0 in the order in which labels appear."""
    number_by_label: dict[Any, int] = {}
    numbers = []
    for block in column_blocks(dataset, lambda name: name == column):
        for label in block[column]:
            if isinstance(label, (list, tuple, dict)):
                raise ValueError(
                    f"Rows cannot be grouped by the column {column!r}: its values are of type "
                    f"{type(label).__name__}. A row needs one label, a number or a text."
                )
            value = label.item() if hasattr(label, "item") else label
            numbers.append(number_by_label.setdefault(value, len(number_by_label)))
    return torch.tensor(numbers, dtype=torch.long)


class LengthGroupedBatchSampler(DefaultBatchSampler):
    """Batches of rows with texts of like length, in random order.

    For models that compute on padding, so that less of a batch is padding. Any two rows can still meet:
    rows are shuffled first, and sorted only within buckets. Pass the class as the training argument
    `batch_sampler`.

    Args:
        dataset: The data set, which is read once, before the first batch. What is kept of it is the length
            of each row: the characters of its inputs.
        batch_size: See `DefaultBatchSampler`, as for what follows.
        drop_last: See there.
        valid_label_columns: See there.
        generator: See there.
        seed: See there.
        batches_per_bucket: Batches in a bucket. More of them make lengths more alike; fewer mix rows better.
    """

    @accepts_older_names(sampler="dataset")
    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        drop_last: bool,
        valid_label_columns: list[str] | None = None,
        generator: Generator | None = None,
        seed: int | None = 0,
        *,
        batches_per_bucket: int = 50,
    ) -> None:
        super().__init__(dataset, batch_size, drop_last, valid_label_columns, generator, seed)
        if batches_per_bucket < 1:
            raise ValueError(f"batches_per_bucket={batches_per_bucket} sorts no rows. Pass 1 or more.")
        self.batches_per_bucket = batches_per_bucket
        self._lengths: Tensor | None = None

    def __iter__(self) -> Iterator[list[int]]:
        if self._lengths is None:
            self._lengths = text_lengths(self.dataset, self.valid_label_columns)
        return batch_plans.batches_of_like_length(
            self._lengths,
            batch_size=self.batch_size,
            drop_last=self.drop_last,
            batches_per_bucket=self.batches_per_bucket,
            generator=self.random_generator(),
        )


def text_lengths(dataset: Any, label_columns: list[str]) -> Tensor:
    """Characters in the inputs of each row, (N,); inputs that are no texts have none."""
    labels = frozenset(label_columns)
    lengths = []
    for block in column_blocks(dataset, lambda name: is_input(name, labels)):
        for row in zip(*block.values()):
            texts = (text for value in row for text in texts_in(value) if isinstance(text, str))
            lengths.append(sum(map(len, texts)))
    return torch.tensor(lengths, dtype=torch.long)


BATCH_SAMPLERS: Mapping[BatchSamplers, Callable[..., DefaultBatchSampler]] = {
    BatchSamplers.BATCH_SAMPLER: DefaultBatchSampler,
    BatchSamplers.NO_DUPLICATES: NoDuplicatesBatchSampler,
    BatchSamplers.NO_DUPLICATES_HASHED: partial(NoDuplicatesBatchSampler, precompute_hashes=True),
    BatchSamplers.GROUP_BY_LABEL: GroupByLabelBatchSampler,
}
"""What makes the sampler of each name; the arguments are those of `DefaultBatchSampler`."""
