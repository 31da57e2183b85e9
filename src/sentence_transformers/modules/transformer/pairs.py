"""Token ids of pairs, from the ids of their texts.

Tokenizers read the two texts of a pair one by one, cut them to the room there is, and put special tokens
around them. So a text that stands in many pairs, such as a query with its hundred documents, needs to be
read only once. `PairTemplate` knows the special tokens and the cutting; it is made only where joining has
been seen to give what the tokenizer itself gives. Nothing here reads text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

PROBE = ("one small text", "and another one")
"""Texts with which a tokenizer is asked where it puts special tokens."""


@dataclass(frozen=True)
class PairTemplate:
    """Where a tokenizer puts the two texts of a pair.

    `before`, `between` and `behind` are the ids of special tokens; the fields with `_kinds` are the type ids
    of those, and of the tokens of the first and the second text. `max_length` is the most tokens of a pair.
    """

    before: tuple[int, ...]
    between: tuple[int, ...]
    behind: tuple[int, ...]
    before_kinds: tuple[int, ...]
    first_kind: int
    between_kinds: tuple[int, ...]
    second_kind: int
    behind_kinds: tuple[int, ...]
    max_length: int | None
    cuts_right: bool

    @property
    def room(self) -> int | None:
        """Tokens there is room for beside the special ones; None for no limit."""
        special = len(self.before) + len(self.between) + len(self.behind)
        return None if self.max_length is None else self.max_length - special

    def cut(self, first: Sequence[int], second: Sequence[int]) -> tuple[Sequence[int], Sequence[int]] | None:
        """Cut the ids of two texts to the room there is.

        Args:
            first: Ids of the first text, at most `max_length` of them.
            second: Those of the second.

        Returns:
            What is kept of each; None when that depends on how long the texts are beyond `max_length`.
        """
        room = self.room
        if room is None or len(first) + len(second) <= room:
            return first, second
        if room % 2 and len(first) == len(second) == self.max_length:
            return None  # the odd token goes to the longer text, and both may have been longer
        kept, kept_of_second = shares(len(first), len(second), room)
        if self.cuts_right:
            return first[:kept], second[:kept_of_second]
        return first[len(first) - kept :], second[len(second) - kept_of_second :]

    def ids(self, first: Sequence[int], second: Sequence[int]) -> list[int]:
        """Token ids of a pair."""
        return [*self.before, *first, *self.between, *second, *self.behind]

    def kinds(self, first: Sequence[int], second: Sequence[int]) -> list[int]:
        """Type ids of a pair: which token belongs to which text."""
        return [
            *self.before_kinds,
            *[self.first_kind] * len(first),
            *self.between_kinds,
            *[self.second_kind] * len(second),
            *self.behind_kinds,
        ]


def shares(first: int, second: int, room: int) -> tuple[int, int]:
    """Tokens that are kept of two texts of these lengths, which together do not fit: the longer is cut first."""
    half = room // 2
    if min(first, second) <= half:
        return (first, room - first) if first <= second else (room - second, second)
    return (half, room - half) if first <= second else (room - half, half)


def template_of(backend: Any, *, max_length: int | None, cuts_right: bool) -> PairTemplate | None:
    """How a tokenizer joins pairs; None when it joins in a way that is not understood here.

    Args:
        backend: A tokenizer of the package tokenizers, which cuts to `max_length` and does not pad.
        max_length: Most tokens of a pair, special tokens included.
        cuts_right: Whether it cuts at the end of texts.
    """
    if not cuts_as_expected():
        return None
    joined = backend.encode(*PROBE)
    owners, ids, kinds = joined.sequence_ids, joined.ids, joined.type_ids
    places = [[place for place, owner in enumerate(owners) if owner == text] for text in (0, 1)]
    if not all(places):
        return None
    (start, end), (start_of_second, end_of_second) = ((place[0], place[-1] + 1) for place in places)
    if end > start_of_second:
        return None
    template = PairTemplate(
        before=tuple(ids[:start]),
        between=tuple(ids[end:start_of_second]),
        behind=tuple(ids[end_of_second:]),
        before_kinds=tuple(kinds[:start]),
        first_kind=kinds[start],
        between_kinds=tuple(kinds[end:start_of_second]),
        second_kind=kinds[start_of_second],
        behind_kinds=tuple(kinds[end_of_second:]),
        max_length=max_length,
        cuts_right=cuts_right,
    )
    halves = template.cut(*(backend.encode(text, add_special_tokens=False).ids for text in PROBE))
    if halves is None or template.ids(*halves) != ids or template.kinds(*halves) != kinds:
        return None
    return template


@lru_cache(maxsize=1)
def cuts_as_expected() -> bool:
    """Whether the installed package tokenizers cuts pairs as `shares` does; seen on every small case."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    for room in range(1, 8):
        tokenizer.enable_truncation(room, strategy="longest_first")
        for first in range(room + 3):
            for second in range(max(0, room + 1 - first), room + 3):
                ids = tokenizer.encode("a " * first, "b " * second).ids
                if (ids.count(0), ids.count(1)) != shares(first, second, room):
                    return False
    return True
