"""Pairs of a text with itself and with others, for `ContrastiveTensionLoss`.

After Carlsson et al. 2021, "Semantic Re-tuning with Contrastive Tension".
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from sentence_transformers.inputs.example import InputExample


class ContrastiveTensionDataLoader:
    """Batches of pairs: of every `pos_neg_ratio` pairs one is a text twice, labelled 1, the rest are two
    different texts, labelled 0.

    Each pass takes the texts in a new random order (of Python's `random`), and every text at most once.

    Args:
        sentences: The texts.
        batch_size: Pairs in a batch.
        pos_neg_ratio: Of how many pairs one is labelled 1; must divide the batch size.
    """

    def __init__(self, sentences: list[str], batch_size: int, pos_neg_ratio: int = 8) -> None:
        if pos_neg_ratio < 1 or batch_size % pos_neg_ratio:
            raise ValueError(
                f"batch_size={batch_size} cannot be divided by pos_neg_ratio={pos_neg_ratio}, of which one pair "
                "is a text with itself. Pass a multiple of it."
            )
        self.sentences = sentences
        self.batch_size = batch_size
        self.pos_neg_ratio = pos_neg_ratio
        self.collate_fn: Callable[[list[InputExample]], Any] | None = None
        """Makes what is given of a list of examples; None for the list itself."""

    def __iter__(self) -> Iterator[Any]:
        texts = iter(random.sample(list(self.sentences), len(self.sentences)))
        for _ in range(len(self)):
            batch = []
            for number in range(self.batch_size):
                is_positive = number % self.pos_neg_ratio == 0
                first = next(texts)
                pair = [first, first if is_positive else next(texts)]
                batch.append(InputExample(texts=pair, label=int(is_positive)))
            yield batch if self.collate_fn is None else self.collate_fn(batch)

    def __len__(self) -> int:
        texts_in_batch = 2 * self.batch_size - self.batch_size // self.pos_neg_ratio
        return len(self.sentences) // texts_in_batch
