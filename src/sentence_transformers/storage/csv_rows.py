"""Extend CSV files that evaluators write."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sentence_transformers.storage.folder import replacing


def append_to_last_row(csv_path: str | Path, additional_data: Iterable[Any]) -> bool:
    """Add values to the end of the last row of a CSV file.

    Args:
        csv_path: A file with a header and at least one row below it.
        additional_data: The values to add.

    Returns:
        Whether there was a row to extend. Without one the file is left alone.
    """
    with open(csv_path, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    if len(rows) < 2:
        return False
    rows[-1].extend(additional_data)
    with replacing(csv_path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return True
