"""Inputs that say themselves which way they go: `{"query": "a text"}`.

Models with several branches take such single-entry dictionaries; the key names the branch. Nothing here
knows what a branch is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def is_routed(item: Any) -> bool:
    """Whether an input is a dictionary with one entry, which is not one of tokenised text."""
    return isinstance(item, dict) and len(item) == 1 and "input_ids" not in item


def split_routes(inputs: Sequence[Any]) -> tuple[list[Any], str | None]:
    """Take the common key off routed inputs.

    Returns:
        The inputs without their keys, and the key; None as the key when they have none.

    Raises:
        ValueError: If the inputs have different keys, or only some have one.
    """
    keys = {next(iter(item)) if is_routed(item) else None for item in inputs}
    if len(keys) > 1:
        raise ValueError(
            f"One call takes inputs of one kind, but these have the keys {sorted(map(str, keys))}. Encode each "
            "kind in a call of its own, or pass plain inputs together with task='…'."
        )
    key = next(iter(keys), None)
    if key is None:
        return list(inputs), None
    return [item[key] for item in inputs], key
