"""Read a data set in blocks of rows, column by column.

What a pass over the whole data set needs before training: reading row by row would take many times as
long. Images and recordings stay as they are stored, so that nothing is decoded. What the values mean is
not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

Block = dict[str, Sequence[Any]]
"""The values of some rows, by column."""

ROWS_PER_BLOCK = 1000


def column_names(dataset: Any) -> list[str]:
    """Columns of a `datasets.Dataset`, or of rows that are dictionaries."""
    if hasattr(dataset, "column_names"):
        return list(dataset.column_names)
    return list(dataset[0]) if len(dataset) else []


def column_blocks(
    dataset: Any, keep: Callable[[str], bool], *, rows_per_block: int = ROWS_PER_BLOCK
) -> Iterator[Block]:
    """The columns that `keep` says yes to, in blocks of rows.

    Args:
        dataset: A `datasets.Dataset`, or anything with a length and rows that are dictionaries with the
            same keys. A transform that was set on the data set is applied; another format has no effect.
        keep: Whether the column of a name is read.
        rows_per_block: Rows in a block.
    """
    read = reader_of(dataset, keep)
    for start in range(0, len(dataset), rows_per_block):
        block = read(start, min(start + rows_per_block, len(dataset)))
        yield {name: values for name, values in block.items() if keep(name)}


def reader_of(dataset: Any, keep: Callable[[str], bool]) -> Callable[[int, int], Block]:
    """A function that reads the rows from a start to a stop."""
    if not hasattr(dataset, "with_format"):
        return lambda start, stop: as_columns([dataset[row] for row in range(start, stop)])
    stored = as_stored(dataset)
    if stored is dataset:
        return lambda start, stop: dataset[start:stop]
    stored = stored.select_columns([name for name in dataset.column_names if keep(name)])
    return lambda start, stop: from_arrow(stored[start:stop])


def as_stored(dataset: Any) -> Any:
    """A `datasets.Dataset` whose rows are read as arrow tables, unless a transform says what they are."""
    # A transform may make other columns than those that are stored.
    return dataset if dataset.format["type"] == "custom" else dataset.with_format("arrow")


def as_columns(rows: Sequence[Any]) -> Block:
    return {name: [row[name] for row in rows] for name in rows[0]}


def from_arrow(table: Any) -> Block:
    return {name: table.column(name).to_pylist() for name in table.column_names}
