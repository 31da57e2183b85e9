"""Inputs that come tokenised already.

Callers who keep token ids (a search engine's own tokenizer, ids stored beside the texts) pass them in
place of texts: sequences or arrays of integers, or what a tokenizer returns for one text. They are taken
as they are, special tokens and all. Nothing here tokenises.
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sentence_transformers.inputs.rows import TokenRows


def is_token_ids(item: Any) -> bool:
    """Whether an input is a non-empty sequence of integers, or a mapping with `input_ids`."""
    if isinstance(item, (str, bytes, bytearray)):
        return False
    if isinstance(item, Mapping):
        return "input_ids" in item
    if hasattr(item, "dtype") and hasattr(item, "ndim"):
        return item.ndim == 1 and len(item) > 0 and "int" in str(item.dtype)
    if not hasattr(item, "__len__") or not hasattr(item, "__getitem__") or len(item) == 0:
        return False
    return isinstance(item[0], numbers.Integral) and not isinstance(item[0], bool)


def read_token_ids(inputs: Sequence[Any]) -> TokenRows | None:
    """Rows of inputs that are token ids; None when they are not.

    Raises:
        ValueError: If some inputs are token ids and others are not.
    """
    if not inputs or not is_token_ids(inputs[0]):
        return None
    ids: list[list[int]] = []
    kinds: list[list[int] | None] = []
    for number, item in enumerate(inputs):
        if not is_token_ids(item):
            raise ValueError(
                f"Input {number} is {type(item).__name__} while the first is token ids. Pass texts, or token ids, "
                "not both in one call."
            )
        if isinstance(item, Mapping):
            kept = (
                [bool(keep) for keep in _one_row(item["attention_mask"])]
                if "attention_mask" in item
                else None
            )
            ids.append(_kept(item["input_ids"], kept))
            kinds.append(_kept(item["token_type_ids"], kept) if "token_type_ids" in item else None)
        else:
            ids.append([int(token) for token in item])
            kinds.append(None)
    with_kinds = any(kind is not None and any(kind) for kind in kinds)
    return TokenRows(
        ids=ids,
        type_ids=[kind or [0] * len(row) for kind, row in zip(kinds, ids)] if with_kinds else None,
    )


def _one_row(values: Any) -> Any:
    """The values of one text; tokenizers asked for tensors return a batch of one."""
    return values[0] if len(values) == 1 and np.ndim(values[0]) == 1 else values


def _kept(tokens: Any, kept: list[bool] | None) -> list[int]:
    values = [int(token) for token in _one_row(tokens)]
    return values if kept is None else [token for token, keep in zip(values, kept) if keep]
