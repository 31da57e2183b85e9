"""Tokenised inputs before they become tensors.

A row is what a tokenizer made of one input: its token ids, unpadded. Rows are cheap to reorder and to
group by their true length, which is why the engine plans over them and builds tensors last. Nothing here
knows how rows are made or what a model does with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class TokenRows:
    """Token ids of some inputs, each at its own length.

    `ids[i]` are the token ids of input i, special tokens included, already truncated. `type_ids[i]` tells
    the first text of a pair (0) from the second (1); None when no input needs the distinction.
    `prompt_length` counts the leading tokens that belong to the prompt. `extras` are further entries for
    the features of every batch (such as the task a Router was asked for).
    """

    ids: Sequence[Sequence[int]]
    type_ids: Sequence[Sequence[int]] | None = None
    prompt_length: int | None = None
    extras: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> list[int]:
        """Tokens in each row."""
        return [len(row) for row in self.ids]

    def take(self, numbers: Sequence[int]) -> TokenRows:
        """The rows with the given numbers, in that order."""
        return TokenRows(
            ids=[self.ids[number] for number in numbers],
            type_ids=None if self.type_ids is None else [self.type_ids[number] for number in numbers],
            prompt_length=self.prompt_length,
            extras=self.extras,
        )
