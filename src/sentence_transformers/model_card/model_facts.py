"""What can be read off a model for its card.

Models may be of any making, so every fact is asked for through `best_effort`. Nothing here runs a model.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any, TypeVar

logger = logging.getLogger(__name__)

Value = TypeVar("Value")

LONGEST_LINE = 400


def best_effort(find: Callable[..., Value], *arguments: Any) -> Value | None:
    """What `find(*arguments)` gives, or None when it fails."""
    try:
        return find(*arguments)
    # Any failure at all is allowed here: a card must not stop a model from being trained or saved.
    except Exception:
        logger.debug("A part of the model card is left out, because it could not be made.", exc_info=True)
        return None


def input_limit(model: Any) -> int | None:
    """Tokens that the model reads of an input; None when there is no limit."""
    limit = model.max_seq_length
    return int(limit) if limit is not None and math.isfinite(limit) else None


def modality_names(model: Any) -> list[str]:
    """What the model reads, such as `Text`; several together as `Text and Image`."""
    return [
        modality.title() if isinstance(modality, str) else " and ".join(part.title() for part in modality)
        for modality in model.modalities
    ]


def token_counter(model: Any) -> Callable[[list[str]], list[int]] | None:
    """How the model's first part counts tokens, if it can do so without touching its tokenizer's state."""
    read_rows = getattr(model[0], "read_rows", None)
    if read_rows is None or read_rows(["a"]) is None:
        return None
    return lambda texts: read_rows(texts).lengths


def describe_modules(model: Any) -> str:
    """The model's parts with their settings, one a line; vocabularies and weights are only hinted at."""
    lines = repr(model).splitlines()
    return "\n".join(line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}…" for line in lines)
