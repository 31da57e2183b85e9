"""Columns of ids into the texts they stand for.

Retrieval data often comes as tables of ids beside tables of texts. What is made here turns batches of the
former into batches to train on. Nothing here knows a loss or a model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

SUFFIXES = ("_ids", "_idx", "_id")
"""Ends of the names of columns of ids, which those of the texts lose."""

Lookup = Any
"""A `datasets.Dataset`, or one with the name of its id column, or with those of its id and value columns."""


def resolve_ids(
    lookups: dict[str, Lookup],
    keep_columns: list[str] | tuple[str, ...] = ("label", "labels", "score", "scores"),
    max_list_length: int | None = None,
    output_format: Literal["columns", "lists"] = "columns",
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Make a function that puts texts (or whatever they stand for) in the place of ids, batch by batch.

        dataset.set_transform(resolve_ids({"query_id": queries, "document_ids": (documents, "id", "text")}))

    A column `query_id` becomes `query`. A column of lists, `document_ids`, becomes `document_1`, `document_2`
    and so on, as losses take them, or `documents` with `output_format="lists"`. The columns come in the order of
    `lookups`, followed by those that are kept; all others are left out.

    Args:
        lookups: For each column of ids where to look them up: a data set, or a pair of it and the name of its id
            column, or a triple with the name of its value column too. Without names, the id column is the one
            called "id" or ending in "_id", and the value column the only other one.
        keep_columns: Columns to hand on as they are.
        max_list_length: Cut lists, also those of the kept columns, to so many entries; None for all.
        output_format: "columns" for a column of each place in the lists, "lists" for a column of lists.

    Returns:
        A function from a batch, by column, to another, for `Dataset.set_transform`, or for `Dataset.map` with
        `batched=True` and `remove_columns=list(lookups)`. It raises a KeyError for an id that is not found, and
        a ValueError if lists that are to become columns differ in length.

    Raises:
        ValueError: If an argument makes no sense, or columns cannot be told apart.
    """
    if output_format not in ("columns", "lists"):
        raise ValueError(f"output_format={output_format!r} is unknown. Pass 'columns' or 'lists'.")
    if max_list_length is not None and max_list_length < 1:
        raise ValueError(f"max_list_length={max_list_length} leaves nothing. Pass 1 or more, or None.")
    tables = {column: Table(lookup, column) for column, lookup in lookups.items()}
    return Resolver(tables, tuple(keep_columns), max_list_length, spreads=output_format == "columns")


class Table:
    """A data set in which values are looked up by id.

    Args:
        lookup: See `Lookup`.
        column: The column whose ids are looked up, for messages.
    """

    def __init__(self, lookup: Lookup, column: str) -> None:
        dataset, *names = lookup if isinstance(lookup, tuple) else (lookup,)
        if len(names) > 2:
            raise ValueError(
                f"lookups[{column!r}] has {len(names) + 1} entries. Pass a data set, (dataset, 'id column') or "
                "(dataset, 'id column', 'value column')."
            )
        if not hasattr(dataset, "column_names"):
            raise TypeError(f"lookups[{column!r}] is a {type(dataset).__name__} and no datasets.Dataset.")
        self.id_column = named_column(dataset, names[0], column) if names else id_column(dataset, column)
        self.value_column = (
            named_column(dataset, names[1], column)
            if len(names) > 1
            else value_column(dataset, self.id_column, column)
        )
        self.texts = dataset.select_columns([self.value_column])
        self.column = column
        self.row_by_id = {key: row for row, key in enumerate(dataset[self.id_column])}

    def values(self, ids: Sequence[Any]) -> list[Any]:
        """The value of each id."""
        missing = next((key for key in ids if key not in self.row_by_id), None)
        if missing is not None or None in ids:
            raise KeyError(
                f"There is no row with the id {missing!r}, which the column {self.column!r} has, in the data set "
                f"it is looked up in (column {self.id_column!r})."
            )
        # Each row is read once, however often it is asked for.
        rows = {row: place for place, row in enumerate(dict.fromkeys(self.row_by_id[key] for key in ids))}
        values = self.texts[list(rows)][self.value_column] if rows else []
        return [values[rows[self.row_by_id[key]]] for key in ids]


class Resolver:
    """What `resolve_ids` makes; a class, so that it can be pickled for other processes."""

    def __init__(
        self, tables: Mapping[str, Table], kept: tuple[str, ...], longest: int | None, *, spreads: bool
    ) -> None:
        self.tables, self.kept, self.longest, self.spreads = tables, kept, longest, spreads

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        resolved: dict[str, Any] = {}

        def add(columns: Mapping[str, Any]) -> None:
            twice = columns.keys() & resolved.keys()
            if twice:
                raise ValueError(
                    f"The column {min(twice)!r} would come twice out of the columns {list(batch)}. Rename one of them."
                )
            resolved.update(columns)

        for column, table in self.tables.items():
            rows = batch[column]
            if not isinstance(rows, list):
                raise TypeError(
                    f"The column {column!r} of the batch is a {type(rows).__name__} and no list: the data set has "
                    "a format of its own. Call dataset.with_format(None) first."
                )
            if any(isinstance(row, (list, tuple)) for row in rows):
                add(self.of_lists(column, table, [self.cut(row) for row in rows]))
            else:
                add({without_suffix(column): table.values(rows)})
        add({column: [self.cut(row) for row in batch[column]] for column in self.kept if column in batch})
        return resolved

    def cut(self, row: Any) -> Any:
        """A list, no longer than is wanted; anything else as it is."""
        return row[: self.longest] if isinstance(row, (list, tuple)) else row

    def of_lists(self, column: str, table: Table, rows: list[Sequence[Any]]) -> dict[str, list[Any]]:
        """The columns that a column of lists becomes."""
        values = iter(table.values([key for row in rows for key in row]))
        lists = [[next(values) for _ in row] for row in rows]
        name = without_suffix(column)
        if not self.spreads:
            return {f"{name}s" if column.endswith("_ids") and name != column else name: lists}
        lengths = sorted({len(row) for row in lists})
        if lengths == [0]:
            raise ValueError(f"The lists of the column {column!r} are all empty. Filter such rows out.")
        if len(lengths) > 1:
            raise ValueError(
                f"The lists of the column {column!r} have {lengths} entries. To become columns they must be of one "
                "length: pass max_list_length, or output_format='lists'."
            )
        return {f"{name}_{place}": list(entries) for place, entries in enumerate(zip(*lists), 1)}


def without_suffix(column: str) -> str:
    """Name of the texts of a column of ids."""
    for suffix in SUFFIXES:
        if column.endswith(suffix) and column != suffix:
            return column.removesuffix(suffix)
    return column


def named_column(dataset: Any, name: str, column: str) -> str:
    """A column of a lookup that must be there."""
    if name not in dataset.column_names:
        raise ValueError(
            f"lookups[{column!r}]: the data set has no column {name!r}; it has {dataset.column_names}."
        )
    return name


def id_column(dataset: Any, column: str) -> str:
    """The column of a lookup that is named like one of ids."""
    found = [name for name in dataset.column_names if name == "id" or name.endswith("_id")]
    if len(found) != 1:
        raise ValueError(
            f"lookups[{column!r}]: of the columns {dataset.column_names}, {found or 'none'} may hold the ids. Pass "
            "(dataset, 'name of the id column')."
        )
    return found[0]


def value_column(dataset: Any, ids: str, column: str) -> str:
    """The column of a lookup beside that of the ids."""
    found = [name for name in dataset.column_names if name != ids]
    if len(found) != 1:
        raise ValueError(
            f"lookups[{column!r}]: beside {ids!r} there are the columns {found}, and one of them must be chosen. "
            f"Pass (dataset, {ids!r}, 'name of the column')."
        )
    return found[0]
