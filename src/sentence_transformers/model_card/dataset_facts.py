"""What a data set says about itself: where it came from, its size, what its columns hold.

Only the first rows are read, and only of data sets that hold them in reach: streamed ones are left alone,
since reading them may download. Nothing here knows about models; whoever calls hands in how to count tokens.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

SAMPLED_ROWS = 1000
"""Rows from the start of a data set that the statistics are taken over."""

SHOWN_ROWS = 3

MOST_LABEL_VALUES = 10
"""Up to so many different whole numbers in a column are listed one by one."""

HEAVY_FEATURES = ("Audio", "Image", "Pdf", "Video")
"""Columns whose values would have to be decoded to be read."""

HUB_FILE = re.compile(r"hf://datasets/(?P<id>[^@]+)@(?P<revision>[0-9a-f]+)/")

CountTokens = Callable[[list[str]], Sequence[int]]


def dataset_origin(dataset: Any) -> dict[str, str]:
    """Hub id, revision and configuration name of a data set, as far as its own metadata tell."""
    info = getattr(dataset, "info", None)
    origin: dict[str, str] = {}
    for file in getattr(info, "download_checksums", None) or {}:
        found = HUB_FILE.match(file)
        if found:
            origin.update(found.groupdict())
            break
    name = getattr(info, "dataset_name", None)
    if name:
        origin["name"] = name
    return origin


def dataset_size(dataset: Any) -> int | None:
    """Number of rows, None when it is not known."""
    return len(dataset) if hasattr(dataset, "__len__") else None


def first_rows(dataset: Any) -> dict[str, list[Any]]:
    """The first rows by column; empty for a data set that is streamed or has no columns."""
    columns = getattr(dataset, "column_names", None)
    if not columns or not hasattr(dataset, "__len__") or not hasattr(dataset, "select_columns"):
        return {}
    features = getattr(dataset, "features", None) or {}
    light = [name for name in columns if type(features.get(name)).__name__ not in HEAVY_FEATURES]
    return dict(dataset.select_columns(light)[:SAMPLED_ROWS]) if light else {}


def example_rows(rows: Mapping[str, list[Any]], count: int = SHOWN_ROWS) -> list[dict[str, Any]]:
    """Some rows from the start, one dictionary each."""
    return [dict(zip(rows, values, strict=True)) for values in list(zip(*rows.values()))[:count]]


def column_statistics(
    rows: Mapping[str, list[Any]], count_tokens: CountTokens | None = None
) -> dict[str, dict[str, str]]:
    """Kind and spread of the values of each column.

    Args:
        rows: Values by column.
        count_tokens: Tokens of each text; without it texts are measured in characters.

    Returns:
        For each column its `type`, and what there is to say about the values.
    """
    return {name: value_statistics(values, count_tokens) for name, values in rows.items() if values}


def value_statistics(values: list[Any], count_tokens: CountTokens | None) -> dict[str, str]:
    first = values[0]
    if isinstance(first, str):
        if count_tokens is None:
            return {"type": "string", **spread([len(value) for value in values], "characters")}
        return {"type": "string", **spread(count_tokens(values), "tokens")}
    if isinstance(first, (bool, int)):
        counted = Counter(values)
        if len(counted) <= MOST_LABEL_VALUES:
            shares = ", ".join(f"{value}: {counted[value] / len(values):.1%}" for value in sorted(counted))
            return {"type": type(first).__name__, "values": shares}
        return {"type": "int", **spread(values)}
    if isinstance(first, float):
        return {"type": "float", **spread(values)}
    if isinstance(first, (list, tuple)):
        return {"type": "list", **spread([len(value) for value in values], "elements")}
    return {"type": type(first).__name__}


def spread(numbers: Sequence[float], unit: str = "") -> dict[str, str]:
    numbers = list(numbers)
    measures = {"min": min(numbers), "mean": sum(numbers) / len(numbers), "max": max(numbers)}
    return {name: f"{round(value, 2)} {unit}".rstrip() for name, value in measures.items()}
