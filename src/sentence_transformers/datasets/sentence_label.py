"""Examples in groups of the same label, for losses that compare rows by label."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import IterableDataset

from sentence_transformers.inputs.example import InputExample

logger = logging.getLogger(__name__)


class SentenceLabelDataset(IterableDataset):
    """Goes through the labels in random order, and gives some examples of each in a row.

    With batches of a multiple of `samples_per_label`, every label of a batch then has that many rows. After
    the last label the first comes again, until the data set's length is reached. Chance is numpy's.

    Args:
        examples: Examples with a label. Those of labels with fewer than `samples_per_label` are left out.
        samples_per_label: How many examples of a label stand together.
        with_replacement: Draw each group anew from all examples of its label. Otherwise an example comes
            again only after all others of its label, as far as whole groups go.
    """

    def __init__(
        self, examples: list[InputExample], samples_per_label: int = 2, with_replacement: bool = False
    ) -> None:
        super().__init__()
        if samples_per_label < 1:
            raise ValueError(f"samples_per_label={samples_per_label} gives no examples. Pass 1 or more.")
        self.samples_per_label = samples_per_label
        self.with_replacement = with_replacement
        by_label: dict[Any, list[InputExample]] = {}
        for example in examples:
            by_label.setdefault(example.label, []).append(example)
        self.groups = [group for group in by_label.values() if len(group) >= samples_per_label]
        logger.info("%d of %d labels have %d examples.", len(self.groups), len(by_label), samples_per_label)

    def __iter__(self) -> Iterator[InputExample]:
        remaining: list[list[int]] = [[] for _ in self.groups]
        given = 0
        while True:
            for label in np.random.permutation(len(self.groups)):
                if given + self.samples_per_label > len(self):
                    return
                group = self.groups[label]
                if self.with_replacement or len(remaining[label]) < self.samples_per_label:
                    remaining[label] = np.random.permutation(len(group)).tolist()
                for _ in range(self.samples_per_label):
                    yield group[remaining[label].pop()]
                given += self.samples_per_label
            if not self.groups:
                return

    def __len__(self) -> int:
        return sum(map(len, self.groups))
