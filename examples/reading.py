"""What the examples read, and the options that say where it is.

The data are tables with a header and tabs between the columns, compressed (`.tsv.gz`). Without a folder of data,
examples use the small sample of questions and answers about health in `examples/data`.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import random
from pathlib import Path
from typing import TypeVar

SAMPLE = Path(__file__).parent / "data" / "medquad-sample.tsv.gz"
Row = TypeVar("Row")


def options_parser(
    description: str | None, *, limit: int, without_data: str = "the packaged sample"
) -> argparse.ArgumentParser:
    """A parser of the options that all of these examples have.

    Args:
        description: The docstring of the program.
        limit: How many texts are used if nothing else is asked for.
        without_data: What the program runs on if no folder is named.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=None, help=f"folder of the data; without it, {without_data}"
    )
    parser.add_argument("--limit", type=int, default=limit, help=f"use only that many texts ({limit:,})")
    parser.add_argument("--model", default="all-MiniLM-L6-v2", help="name or folder (all-MiniLM-L6-v2)")
    return parser


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a table, by the names of its columns."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def questions_and_answers(folder: Path | None, limit: int) -> list[dict[str, str]]:
    """Rows of MedQuAD with `question`, `answer`, `type` and `source`; each answer once."""
    rows = read_table(folder / "medquad" / "train.tsv.gz" if folder else SAMPLE)
    return some_of(list({row["answer"]: row for row in rows}.values()), limit)


def some_of(rows: list[Row], limit: int) -> list[Row]:
    """That many rows drawn at random, the same ones every time; all of them if there are no more."""
    return random.Random(0).sample(rows, min(limit, len(rows)))
