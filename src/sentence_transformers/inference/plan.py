"""Order rows and group them into batches.

Padding is the waste fought here: rows of like length go together, and a batch is full when it holds the
token budget. Pure functions over lengths; nothing in this file knows about tokenizers, models or devices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

WINDOW_ROWS = 4096
"""Rows that are tokenised and ordered together: many enough to fill batches of like length."""

WINDOW_CHARACTERS = 4_000_000
"""Characters of a window at most, so that windows of long documents stay small in memory."""


def plan_batches(
    lengths: Sequence[int], *, max_tokens: int, max_rows: int | None = None, packed: bool = False
) -> list[list[int]]:
    """Group row numbers into batches of at most `max_tokens` tokens, longest rows first.

    Longest first, memory peaks on the first batch and a failure shows at once. A row longer than the
    budget gets a batch of its own.

    Args:
        lengths: Tokens of each row.
        max_tokens: Tokens of a batch: with padding, or without if `packed`.
        max_rows: Rows of a batch at most; None for no limit.
        packed: Whether rows lie one after another without padding.

    Returns:
        Row numbers of each batch; rows of equal length keep their order.
    """
    batches: list[list[int]] = []
    tokens = 0
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        batch = batches[-1] if batches else None
        # Rows come longest first, so the batch's first row decides how far the others are padded.
        cost = lengths[row] if packed or batch is None else lengths[batch[0]]
        if batch and tokens + cost <= max_tokens and (max_rows is None or len(batch) < max_rows):
            batch.append(row)
            tokens += cost
        else:
            batches.append([row])
            tokens = lengths[row]
    return batches


def windows(sizes: Sequence[int], *, max_rows: int, max_size: int) -> Iterator[tuple[int, int]]:
    """Cut a sequence into stretches, each (first, one past the last).

    Args:
        sizes: Size of each item, in whatever unit `max_size` has.
        max_rows: Items of a stretch at most.
        max_size: Sum of sizes of a stretch at most; a larger item gets a stretch of its own.
    """
    start = total = 0
    for number, size in enumerate(sizes):
        if number > start and (number - start == max_rows or total + size > max_size):
            yield start, number
            start, total = number, 0
        total += size
    if start < len(sizes):
        yield start, len(sizes)


def character_count(item: Any) -> int:
    """Characters of an input, as a first guess of its length: texts, pairs, dictionaries of texts."""
    if isinstance(item, str):
        return len(item)
    if isinstance(item, dict):
        return sum(character_count(value) for value in item.values())
    if isinstance(item, (list, tuple)):
        return sum(character_count(part) for part in item)
    return 1
