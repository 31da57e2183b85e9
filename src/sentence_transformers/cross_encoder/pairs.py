"""What a cross-encoder is asked to score, checked at the door.

Whatever collection of pairs comes, the engine gets a list of tuples of two texts; and of conversations, where a
model takes those, the lists of messages as they are. Nothing here tokenises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sentence_transformers.inputs.collections import as_list
from sentence_transformers.modules.transformer.messages import is_conversation

Pair = tuple[str, str]

HOW = "Pass a list of pairs such as [('a question', 'an answer')], or one pair."


def is_one_pair(inputs: Any) -> bool:
    """Whether this is meant as a single pair rather than a collection of pairs: its first element is a text."""
    if isinstance(inputs, (str, Mapping)) or not hasattr(inputs, "__len__"):
        return isinstance(inputs, str)
    return len(inputs) > 0 and isinstance(_first(inputs), str)


def read_pairs(inputs: Any, *, takes_messages: bool = False) -> tuple[list[Any], bool]:
    """The pairs, and whether they came as a single one.

    Args:
        inputs: A pair of texts, or any collection of pairs; a pair is a list, tuple or array of two texts.
        takes_messages: Whether a list of messages, each with a role and contents, may take the place of a pair.

    Raises:
        ValueError: If something in it is no pair of texts; it says where and what.
    """
    if inputs is None or isinstance(inputs, (str, bytes, Mapping)):
        raise ValueError(f"{shown(inputs)} is no pair of texts. {HOW}")
    if takes_messages and is_conversation(inputs):
        return [inputs], True
    if is_one_pair(inputs):
        if any(not isinstance(text, str) for text in inputs) or len(inputs) != 2:
            raise ValueError(
                f"{shown(inputs)} begins with a text and so would be one pair, but it is not made of two texts. {HOW}"
            )
        return [as_pair(inputs)], True
    pairs: list[Any] = []
    for number, item in enumerate(as_list(inputs)):
        if takes_messages and is_conversation(item):
            pairs.append(item)
            continue
        if not is_pair_of_texts(item):
            raise ValueError(f"Input {number} is {shown(item)}, which is no pair of two texts. {HOW}")
        pairs.append(as_pair(item))
    return pairs, False


def is_pair_of_texts(item: Any) -> bool:
    """Whether an item is a list, tuple or array of exactly two texts."""
    if isinstance(item, (str, bytes, Mapping)) or not hasattr(item, "__len__"):
        return False
    return len(item) == 2 and all(isinstance(text, str) for text in item)


def as_pair(item: Sequence[str]) -> Pair:
    """A pair as a tuple of plain texts; NumPy has a kind of its own."""
    first, second = item
    return str(first), str(second)


def shown(value: Any) -> str:
    """A value for an error message, shortened, with its type."""
    text = repr(value)
    return f"{text if len(text) <= 80 else text[:80] + '…'} ({type(value).__name__})"


def _first(inputs: Any) -> Any:
    try:
        return inputs[0]
    except (KeyError, IndexError, TypeError):  # a set, or a series with labels of its own
        return next(iter(inputs))
