"""Inputs that come one at a time: files, columns of tables and data sets, generators, lists.

Nothing is held but the row at hand, so a stream may be longer than memory. The table `FILES` lists the kinds
of files. Nothing here knows what becomes of the rows.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from numbers import Integral, Number
from pathlib import Path
from typing import IO, Any

Id = str | int
Row = tuple[Id | None, Any]

USUAL_COLUMN = "text"
"""The column that is read where there are several and none was chosen."""

LONGEST_FIELD = 2**31 - 1


@dataclass(frozen=True)
class RowStream:
    """Rows to come, each an id (None without ids) and an input.

    `count` gives the number of rows for a progress bar, or None where only reading them would tell.
    """

    rows: Iterator[Row]
    has_ids: bool
    count: Callable[[], int | None]


def row_stream(
    inputs: Any, *, ids: Iterable[Id] | None = None, column: str | None = None, id_column: str | None = None
) -> RowStream:
    """Open inputs of any kind as a stream.

    Args:
        inputs: A file, as a path: lines (.txt), JSON lines (.jsonl), .csv or .tsv with a header, all perhaps
            with .gz behind, .parquet, or a folder of Parquet files. Else any iterable: a list, a generator, an
            open text file, a column of a data set, or a `Dataset`, data frame or dictionaries with `column`.
        ids: An id for each input: texts or whole numbers.
        column: The column with the inputs; where a table has several, "text" if none is chosen. An open text
            file with a column is read as JSON lines.
        id_column: The column with the ids.

    Raises:
        ValueError: If this is no collection of inputs, the file's kind is unknown, or a column is missing. Also
            while reading: if a line cannot be read, or the ids are fewer or more than the inputs.
        TypeError: While reading, if an id is neither text nor whole number.
    """
    if ids is not None and id_column is not None:
        raise ValueError("The ids are given twice. Pass either ids=… or id_column=….")
    wanted = Columns(column, id_column)
    if isinstance(inputs, (str, os.PathLike)):
        rows, count = opened_file(Path(inputs), wanted)
    elif isinstance(inputs, io.TextIOBase):
        handle: Any = inputs
        rows = json_rows(handle, wanted) if column or id_column else line_rows(handle)
        count = unknown
    elif isinstance(inputs, (bytes, Mapping)) or not isinstance(inputs, Iterable):
        raise ValueError(
            f"Cannot read rows from {type(inputs).__name__}. Pass a path, a list, a generator or a data set."
        )
    else:
        rows, count = table_rows(inputs, wanted), lambda: len(inputs) if isinstance(inputs, Sized) else None
    if ids is not None:
        rows = paired(ids, rows)
    has_ids = ids is not None or id_column is not None
    return RowStream(rows=checked(rows, has_ids), has_ids=has_ids, count=count)


@dataclass(frozen=True)
class Columns:
    """The columns that are asked for."""

    inputs: str | None
    ids: str | None

    def chosen(self, names: Iterable[str]) -> Columns:
        """The columns to read, of those there are.

        Raises:
            ValueError: If one is missing, or it is unclear which is meant.
        """
        names = list(names)
        for wanted in (self.inputs, self.ids):
            if wanted is not None and wanted not in names:
                raise ValueError(
                    f"There is no column {wanted!r}. There are: {', '.join(map(repr, names)) or 'none'}."
                )
        if self.inputs is not None:
            return self
        others = [name for name in names if name != self.ids]
        if USUAL_COLUMN not in others and len(others) != 1:
            raise ValueError(
                f"It is unclear which column to encode. Pass column=…, one of {', '.join(map(repr, others))}."
            )
        return Columns(USUAL_COLUMN if USUAL_COLUMN in others else others[0], self.ids)

    def row(self, record: Any, number: int) -> Row:
        """The id and the input in one record."""
        if not isinstance(record, Mapping):
            raise ValueError(
                f"Row {number} is {type(record).__name__} without columns, but column {self.inputs!r} is asked for. "
                "Leave column and id_column out."
            )
        for wanted in (self.inputs, self.ids):
            if wanted is not None and wanted not in record:
                raise ValueError(
                    f"Row {number} has no column {wanted!r}, only {', '.join(map(repr, record))}."
                )
        return (None if self.ids is None else record[self.ids]), record[self.inputs]


# -- iterables -------------------------------------------------------------------------------------------


def table_rows(inputs: Any, wanted: Columns) -> Iterator[Row]:
    """Rows of an iterable, or of a table's columns."""
    if hasattr(inputs, "itertuples") and hasattr(inputs, "columns"):  # a data frame iterates over its columns
        columns = wanted.chosen(inputs.columns)
        found = inputs[columns.inputs]
        return iter(zip(inputs[columns.ids], found)) if columns.ids else ((None, item) for item in found)
    names = getattr(inputs, "column_names", None)
    if names and hasattr(
        inputs, "select_columns"
    ):  # a Dataset of datasets; the other columns are not decoded
        wanted = wanted.chosen(names)
        inputs = inputs.select_columns([name for name in (wanted.inputs, wanted.ids) if name is not None])
    if wanted.inputs is None and wanted.ids is None:
        return ((None, item) for item in inputs)
    return record_rows(inputs, wanted)


def record_rows(records: Iterable[Any], wanted: Columns) -> Iterator[Row]:
    """Rows of dictionaries; the first one settles which columns are meant."""
    for number, record in enumerate(records):
        if number == 0 and isinstance(record, Mapping):
            wanted = wanted.chosen(record)
        yield wanted.row(record, number)


def paired(ids: Iterable[Id], rows: Iterable[Row]) -> Iterator[Row]:
    """Rows with ids from elsewhere."""
    missing = object()
    others = iter(ids)
    number = -1
    for number, (_, item) in enumerate(rows):
        one = next(others, missing)
        if one is missing:
            raise ValueError(f"There are only {number} ids, but more inputs. Pass one id for each input.")
        yield one, item
    if next(others, missing) is not missing:
        raise ValueError(
            f"There are more ids than inputs, of which there are {number + 1}. Pass one id for each input."
        )


def checked(rows: Iterable[Row], has_ids: bool) -> Iterator[Row]:
    """The rows, once it is clear that each can be encoded and named."""
    for number, (one, item) in enumerate(rows):
        if item is None or isinstance(item, (Number, bytes)):
            raise ValueError(
                f"Row {number} is {item!r}, which is no text. Leave such rows out, or turn them into texts."
            )
        yield checked_id(one, number) if has_ids else None, item


def checked_id(one: Any, number: int) -> Id:
    """An id as text or plain whole number."""
    if isinstance(one, str):
        return one
    if isinstance(one, Integral) and not isinstance(one, bool):
        return int(one)
    raise TypeError(
        f"The id of row {number} is {one!r} ({type(one).__name__}). Ids are texts or whole numbers."
    )


# -- files -----------------------------------------------------------------------------------------------


def opened_file(path: Path, wanted: Columns) -> tuple[Iterator[Row], Callable[[], int | None]]:
    """Rows of a file, or of a folder of Parquet files, and what counts them."""
    if not path.exists():
        shown = str(path) if len(str(path)) < 200 else str(path)[:200] + "…"
        raise ValueError(
            f"There is no file {shown!r}. To encode texts themselves, pass a list of them or another iterable."
        )
    if path.is_dir():
        files = sorted(path.glob("*.parquet"))
        if not files:
            raise ValueError(f"The folder {path} holds no Parquet files. Pass a file, or a folder of those.")
        return parquet_rows(files, wanted), lambda: parquet_count(files)
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if kind == ".parquet":
        return parquet_rows([path], wanted), lambda: parquet_count([path])
    if kind not in FILES:
        raise ValueError(
            f"Cannot tell from its name how to read {path}. Known endings: {', '.join(FILES)} (also with .gz) and "
            ".parquet."
        )
    if kind == ".txt" and (wanted.inputs or wanted.ids):
        raise ValueError(f"{path} holds lines, which have no columns. Leave column and id_column out.")
    return text_rows(path, FILES[kind], wanted), lambda: line_count(path) if kind in ONE_A_LINE else None


def text_rows(
    path: Path, read: Callable[[IO[str], Columns], Iterator[Row]], wanted: Columns
) -> Iterator[Row]:
    """Rows of a text file, packed or not."""
    opens: Any = gzip.open if path.suffix == ".gz" else open
    # Line ends within quotes belong to a CSV field, so the reader below gets them as they are.
    newline = "" if read is not lines_of else None
    with opens(path, "rt", encoding="utf-8-sig", newline=newline) as handle:
        try:
            yield from read(handle, wanted)
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 ({error}). Convert it first.") from error


def lines_of(handle: IO[str], wanted: Columns) -> Iterator[Row]:
    return line_rows(handle)


def line_rows(handle: Iterable[str]) -> Iterator[Row]:
    """A row for each line, also for an empty one."""
    return ((None, line.rstrip("\r\n")) for line in handle)


def json_rows(handle: Iterable[str], wanted: Columns) -> Iterator[Row]:
    """A row for each line that is not blank: a text, or an object with columns."""
    number = 0
    for line_number, line in enumerate(handle, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ValueError(f"Line {line_number} is not valid JSON ({error}).") from error
        if number == 0 and isinstance(record, dict):
            wanted = wanted.chosen(record)
        if isinstance(record, str) and wanted.inputs is None and wanted.ids is None:
            yield None, record
        else:
            yield wanted.row(record, number)
        number += 1


def separated_rows(handle: IO[str], wanted: Columns, *, separator: str) -> Iterator[Row]:
    """Rows of a table with a header."""
    # Documents are longer than the limit that the module starts with, which is the same for everyone.
    csv.field_size_limit(LONGEST_FIELD)
    reader = csv.DictReader(handle, delimiter=separator)
    return record_rows(reader, wanted.chosen(reader.fieldnames)) if reader.fieldnames else iter(())


FILES: Mapping[str, Callable[[IO[str], Columns], Iterator[Row]]] = {
    ".txt": lines_of,
    ".jsonl": json_rows,
    ".ndjson": json_rows,
    ".csv": lambda handle, wanted: separated_rows(handle, wanted, separator=","),
    ".tsv": lambda handle, wanted: separated_rows(handle, wanted, separator="\t"),
}
"""How to read a text file, by the ending of its name."""

ONE_A_LINE = (".txt", ".jsonl", ".ndjson")


def parquet_rows(files: list[Path], wanted: Columns) -> Iterator[Row]:
    """Rows of Parquet files, some thousand at a time in memory."""
    for path in files:
        with opened_parquet(path) as file:
            columns = wanted.chosen(file.schema_arrow.names)
            names = [name for name in (columns.inputs, columns.ids) if name is not None]
            for batch in file.iter_batches(batch_size=4096, columns=names):
                found = batch.column(columns.inputs).to_pylist()
                named = batch.column(columns.ids).to_pylist() if columns.ids else [None] * len(found)
                yield from zip(named, found)


def parquet_count(files: list[Path]) -> int:
    """Rows of Parquet files, as their ends say."""
    total = 0
    for path in files:
        with opened_parquet(path) as file:
            total += file.metadata.num_rows
    return total


def opened_parquet(path: Path) -> Any:
    """A Parquet file, open for reading."""
    return pyarrow_parquet().ParquetFile(path)


def pyarrow_parquet() -> Any:
    """The Parquet part of pyarrow.

    Raises:
        ImportError: If pyarrow is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            "Parquet files need pyarrow: pip install 'sentence-transformers[parquet]'"
        ) from error
    return pyarrow.parquet


def line_count(path: Path) -> int | None:
    """Lines of a file that is not packed."""
    if path.suffix == ".gz":
        return None
    total, last = 0, b"\n"
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            total += block.count(b"\n")
            last = block[-1:]
    return total + (last != b"\n")


def unknown() -> int | None:
    """The number of rows nobody knows before they are read."""
    return None
