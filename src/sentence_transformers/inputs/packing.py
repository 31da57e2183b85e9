"""Rows laid one after another, without padding.

A batch of rows of different lengths is packed into one long row; `PackedLayout` says where each row
starts and which neighbours have the same length, so that code above can treat those as an ordinary
unpadded batch. Pure bookkeeping over lengths; nothing here knows about tokens or models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby
from typing import Any

import torch
from torch import Tensor

ROW_LENGTHS = "row_lengths"
"""Key under which packed features carry the lengths as a plain list, so that no device is asked for them."""

FIRST_TOKENS_ONLY = "first_tokens_only"
"""Key under which packed features say that of each row only the first token's embedding will be looked at."""


@dataclass(frozen=True)
class PackedLayout:
    """Where each row of a packed batch lies. `lengths` are the tokens of each row, in order."""

    lengths: tuple[int, ...]

    @classmethod
    def of(cls, lengths: Sequence[int]) -> PackedLayout:
        return cls(tuple(lengths))

    @classmethod
    def read(cls, features: dict[str, Any]) -> PackedLayout | None:
        """The layout of packed features, or None when the features are padded."""
        if ROW_LENGTHS in features:
            return cls.of(features[ROW_LENGTHS])
        if "cu_seq_lens_q" in features:
            return cls.of(features["cu_seq_lens_q"].diff().tolist())
        return None

    def of_first_tokens(self, features: dict[str, Any]) -> dict[str, Any]:
        """Packed features with the first token of each row alone; no row may be empty."""
        device = features["input_ids"].device
        starts = self.cumulative(device)[:-1].long()
        alone = PackedLayout((1,) * len(self.lengths))
        tokens: dict[str, Any] = {
            name: features[name][:, starts]
            for name in ("input_ids", "position_ids", "token_type_ids")
            if name in features
        }
        return {**tokens, "cu_seq_lens_q": alone.cumulative(device), ROW_LENGTHS: list(alone.lengths)}

    def each_row(self, features: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Packed features of each row by itself, in memory of its own; what belongs to no row goes to all."""
        stop = 0
        for row, length in enumerate(self.lengths):
            start, stop = stop, stop + length

            def share(value: Any, row: int = row, start: int = start, stop: int = stop) -> Any:
                if not isinstance(value, Tensor):
                    return value
                if value.shape[:2] == (1, self.total):
                    return value[:, start:stop].clone()
                return value[row : row + 1].clone() if value.shape[:1] == (len(self.lengths),) else value

            alone = PackedLayout((length,))
            yield {
                **{name: share(value) for name, value in features.items()},
                "cu_seq_lens_q": alone.cumulative(features["input_ids"].device),
                ROW_LENGTHS: list(alone.lengths),
            }

    @cached_property
    def total(self) -> int:
        """Tokens of all rows together."""
        return sum(self.lengths)

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(self.lengths, default=0)

    @cached_property
    def derived(self) -> dict[Any, Any]:
        """What others have made of the layout and keep as long as it is used, under names of theirs."""
        return {}

    @cached_property
    def groups(self) -> list[tuple[int, int, int]]:
        """Neighbouring rows of equal length: (first token, number of rows, length of each)."""
        groups, start = [], 0
        for length, rows in groupby(self.lengths):
            count = len(list(rows))
            groups.append((start, count, length))
            start += count * length
        return groups

    def stretches(self, most_padding: float) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Neighbouring rows that can be padded to the longest of them: first token, and their lengths.

        Args:
            most_padding: Share of padding in a stretch that is not exceeded.
        """
        start = first = 0
        longest = tokens = 0
        for row, length in enumerate(self.lengths):
            wider = max(longest, length)
            size = (row + 1 - start) * wider
            if row > start and size - tokens - length > most_padding * size:
                yield first, self.lengths[start:row]
                start, first, longest, tokens = row, first + tokens, length, length
            else:
                longest, tokens = wider, tokens + length
        if self.lengths:
            yield first, self.lengths[start:]

    def cumulative(self, device: torch.device | str | None = None) -> Tensor:
        """Start of each row and the end of the last, (B + 1,) int32."""
        return torch.tensor([0, *accumulate(self.lengths)], dtype=torch.int32, device=device)

    def positions(self, offset: int = 0) -> Tensor:
        """Position of each token within its row, counted from `offset`, (1, T)."""
        if len(self.lengths) == 1:
            return torch.arange(offset, offset + self.total)[None]
        return torch.cat(
            [torch.arange(offset, offset + length).repeat(count) for _, count, length in self.groups]
            or [torch.empty(0, dtype=torch.long)]
        )[None]

    def batches(self, flat: Tensor) -> Iterator[Tensor]:
        """View flat tokens (T, …) as one unpadded batch (rows, length, …) for each group."""
        for start, count, length in self.groups:
            yield flat[start : start + count * length].reshape(count, length, *flat.shape[1:])
