"""Open text files and tables, packed or plain.

What is in them is up to the readers.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TextIO


def opened(path: Path) -> TextIO:
    """A UTF-8 text file, unpacked while reading if its name ends with `.gz`."""
    if path.name.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return open(path, encoding="utf-8", newline="")


def table_rows(
    path: Path, *, delimiter: str, quoting: int, columns: list[int], skip: int = 0, limit: int = 0
) -> Iterator[list[str]]:
    """The given columns of each row of a table.

    Args:
        path: The file, as in `opened`.
        delimiter: Stands between columns.
        quoting: One of the `csv.QUOTE_…` numbers.
        columns: Numbers of the columns, from 0, in the order in which they are given.
        skip: Rows before the first that counts.
        limit: How many rows are given at most; 0 for all.

    Raises:
        ValueError: If a row has too few columns. Empty rows are passed over.
    """
    with opened(path) as file:
        reader = csv.reader(file, delimiter=delimiter, quoting=quoting)  # type: ignore[arg-type]
        rows = (row for row in islice(reader, skip, None) if row)
        for row in islice(rows, limit or None):
            if len(row) <= max(columns):
                raise ValueError(
                    f"{path}, line {reader.line_num}: column {max(columns)} is asked for, counted from 0, and the "
                    f"row has {len(row)} columns. Check the column numbers and the delimiter {delimiter!r}."
                )
            yield [row[column] for column in columns]


def lines(path: Path) -> Iterator[str]:
    """The lines of a file, without their ends."""
    with opened(path) as file:
        for line in file:
            yield line.rstrip("\r\n")
