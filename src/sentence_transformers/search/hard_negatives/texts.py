"""The texts of a dataset, each once, and which of them belong together.

Anchors and corpus are numbered in the order in which they first occur. Models and scores are not known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class MiningTexts:
    """What is searched for which anchor. A pair is an anchor with one of its positives."""

    anchors: list[str]
    """The anchors, each once."""

    corpus: list[str]
    """What negatives are taken from: the given corpus and all positives, each once."""

    pair_anchors: Tensor
    """The number of each pair's anchor, (P,), ascending; equal pairs count once."""

    pair_positives: Tensor
    """The row of each pair's positive in the corpus, (P,)."""

    own_rows: Tensor
    """The row of each anchor's own text in the corpus, (A,); -1 where it is not there, or is a positive of it."""

    row_count: int
    """Rows of the dataset, equal ones included."""

    most_positives: int
    """Rows of the dataset with the same anchor, at most; equal ones included."""

    def pairs_of(self, anchors: range) -> slice:
        """The pairs of consecutive anchors."""
        edges = torch.tensor([anchors.start, anchors.stop])
        start, stop = torch.searchsorted(self.pair_anchors, edges).tolist()
        return slice(start, stop)

    def are_positives(self, anchors: range, rows: Tensor) -> Tensor:
        """Whether rows of the corpus, (a, k), are positives of these anchors."""
        pairs = self.pairs_of(anchors)
        codes = (self.pair_anchors[pairs] * len(self.corpus) + self.pair_positives[pairs]).sort().values
        numbers = torch.arange(anchors.start, anchors.stop).unsqueeze(1)
        wanted = numbers * len(self.corpus) + rows  # (a, k)
        place = torch.searchsorted(codes, wanted).clamp(max=len(codes) - 1)
        return (codes[place] == wanted) & (rows >= 0)


def texts_of(
    anchors: Sequence[str], positives: Sequence[str], corpus: Iterable[str] | None = None
) -> MiningTexts:
    """Number the texts of a dataset.

    Args:
        anchors: The anchor of each row, one or more.
        positives: The positive of each row.
        corpus: Further texts that negatives may be taken from, in any number of copies; None for the
            positives alone.
    """
    anchor_numbers = numbers_of(anchors)
    row_numbers = numbers_of([*(corpus if corpus is not None else ()), *positives])
    both = np.array(
        [
            (anchor_numbers[anchor], row_numbers[positive])
            for anchor, positive in zip(anchors, positives, strict=True)
        ],
        dtype=np.int64,
    )  # (rows of the dataset, 2)
    _, first = np.unique(both, axis=0, return_index=True)
    pairs = both[np.sort(first)]
    # Pairs of one anchor stand together, in the order of the dataset.
    pairs = torch.from_numpy(pairs[np.argsort(pairs[:, 0], kind="stable")])  # (P, 2)
    own = torch.tensor([row_numbers.get(anchor, -1) for anchor in anchor_numbers])
    is_own = pairs[:, 1] == own[pairs[:, 0]]
    own[pairs[is_own, 0]] = -1
    return MiningTexts(
        anchors=list(anchor_numbers),
        corpus=list(row_numbers),
        pair_anchors=pairs[:, 0].contiguous(),
        pair_positives=pairs[:, 1].contiguous(),
        own_rows=own,
        row_count=len(both),
        most_positives=int(np.bincount(both[:, 0]).max()),
    )


def numbers_of(texts: Iterable[str]) -> dict[str, int]:
    """Each text once, and its number."""
    return {text: number for number, text in enumerate(dict.fromkeys(texts))}
