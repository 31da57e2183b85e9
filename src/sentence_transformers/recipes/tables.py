"""Tables and retrieval sets that a user names, as dictionaries.

Unlike `inputs/row_streams.py`, which streams one column of any length, these are read whole, with all columns.
"""

from __future__ import annotations

import csv
import gzip
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sentence_transformers.inputs.row_streams import LONGEST_FIELD, opened_parquet, row_stream

Row = TypeVar("Row")
ENDINGS = (".jsonl", ".jsonl.gz", ".tsv", ".tsv.gz", ".csv", ".csv.gz", ".parquet")


def read_texts(source: Path | Sequence[str], column: str | None = None) -> list[str]:
    """Texts, each once: from a list, lines of a .txt file, or a column of a table (see `row_stream`).

    Raises:
        ValueError: If there are none.
    """
    stream = row_stream(source, column=column)
    texts = list(dict.fromkeys(text for _, text in stream.rows if text.strip()))
    if not texts:
        raise ValueError(f"There are no texts in {source}.")
    return texts


def read_rows(path: Path, columns: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The rows of a table, by the names of its columns.

    Args:
        path: .tsv (no quoting), .csv, .jsonl, each perhaps with .gz, or .parquet.
        columns: Columns that must be there.

    Raises:
        ValueError: If the kind of file is unknown, it is empty, or a column is missing.
    """
    ending = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    if ending not in ENDINGS:
        raise ValueError(
            f"Cannot tell from its name how to read {path}. Known endings: {', '.join(ENDINGS)}."
        )
    if ending == ".parquet":
        with opened_parquet(path) as file:
            rows = file.read().to_pylist()
    else:
        opens: Any = gzip.open if path.suffix == ".gz" else open
        with opens(path, "rt", encoding="utf-8-sig", newline="") as handle:
            if ending.startswith(".jsonl"):
                rows = [json.loads(line) for line in handle if line.strip()]
            else:
                csv.field_size_limit(LONGEST_FIELD)
                tabs = ending.startswith(".tsv")
                rows = list(
                    csv.DictReader(
                        handle,
                        delimiter="\t" if tabs else ",",
                        quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL,
                    )
                )
    if not rows:
        raise ValueError(f"{path} holds no rows.")
    missing = [name for name in columns if name not in rows[0]]
    if missing:
        raise ValueError(
            f"{path} has no column {', '.join(map(repr, missing))}. It has {', '.join(map(repr, rows[0]))}."
        )
    return rows


@dataclass(frozen=True)
class RetrievalSet:
    """Texts to find, queries to find them with, and which documents answer each query."""

    documents: dict[str, str]
    queries: dict[str, str]
    relevant: dict[str, set[str]]


def read_retrieval_set(folder: Path, split: str = "test") -> RetrievalSet:
    """A retrieval set: corpus (_id, title, text), queries (_id, text), qrels (query_id, doc_id, score).

    Queries and judgements may be by split ("queries.test.jsonl.gz"; also "qrels/test.tsv"), and their columns may
    be called as in BEIR (`query-id`, `corpus-id`). Queries without a relevant document are left out.

    Raises:
        ValueError: If a file or a column is missing, or no query has a relevant document.
    """
    path = file_of(folder, "qrels", split)
    judgements = read_rows(path, ("score",))
    query_name, document_name = list(judgements[0])[:2]
    relevant: dict[str, set[str]] = {}
    for row in judgements:
        if float(row["score"]) > 0:
            relevant.setdefault(str(row[query_name]), set()).add(str(row[document_name]))
    queries = {
        str(row["_id"]): row["text"] for row in read_rows(file_of(folder, "queries", split), ("_id", "text"))
    }
    answered = {name: queries[name] for name in relevant if name in queries}
    if not answered:
        raise ValueError(
            f"{path} judges no document relevant for any of the queries. Its first column must hold their ids, its "
            f"second one those of documents, and score numbers above 0; the first row is {judgements[0]}."
        )
    return RetrievalSet(read_documents(folder), answered, relevant)


def read_documents(folder: Path) -> dict[str, str]:
    """The documents of a retrieval set: their title, where they have one, and text."""
    return {
        str(row["_id"]): f"{row.get('title') or ''} {row['text']}".strip()
        for row in read_rows(file_of(folder, "corpus", ""), ("_id", "text"))
    }


def file_of(folder: Path, name: str, split: str) -> Path:
    """A file of a retrieval set, whatever its ending; the split's own before the common one."""
    stems = [f"{name}.{split}", f"{name}/{split}", name] if split else [name]
    for stem in stems:
        for ending in ENDINGS:
            if (folder / (stem + ending)).is_file():
                return folder / (stem + ending)
    raise ValueError(
        f"The retrieval set {folder} has no {name}: no file {stems[0]} with {', '.join(ENDINGS)}."
    )


def some_of(rows: Sequence[Row], limit: int | None, seed: int) -> list[Row]:
    """So many rows drawn at random, the same ones for the same seed; all of them if there are no more."""
    if limit is None or len(rows) <= limit:
        return list(rows)
    return random.Random(seed).sample(list(rows), limit)


def columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Rows as columns, which is what `datasets.Dataset.from_dict` takes."""
    return {name: [row[name] for row in rows] for name in rows[0]}
