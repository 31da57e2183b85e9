"""Batches of examples in which no text occurs twice."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from sentence_transformers.inputs.example import InputExample
from sentence_transformers.training.batch_plans import batches_without_repeats


class NoDuplicatesDataLoader:
    """Full batches in which no text occurs twice, so that another row's answer is a wrong one.

    Texts that differ in case or in the white space around them count as the same. Each pass goes through
    the examples in a new random order (of Python's `random`), and starts over where too few rows are left
    that could fill a batch.

    Args:
        train_examples: The examples.
        batch_size: Examples in a batch.
    """

    def __init__(self, train_examples: list[InputExample], batch_size: int) -> None:
        self.train_examples = train_examples
        self.batch_size = batch_size
        self.collate_fn: Callable[[list[InputExample]], Any] | None = None
        """Makes what is given of a list of examples; None for the list itself."""

        number_by_text: dict[str, int] = {}
        self._texts_of = [
            [
                number_by_text.setdefault(str(text).strip().lower(), len(number_by_text))
                for text in example.texts or ()
            ]
            for example in train_examples
        ]

    def __iter__(self) -> Iterator[Any]:
        given = 0
        while given < len(self):
            given_before = given
            order = list(range(len(self.train_examples)))
            random.shuffle(order)
            for rows in batches_without_repeats(
                order, self._texts_of.__getitem__, batch_size=self.batch_size, drop_last=True
            ):
                if given == len(self):
                    return
                given += 1
                batch = [self.train_examples[row] for row in rows]
                yield batch if self.collate_fn is None else self.collate_fn(batch)
            if given == given_before:
                raise ValueError(
                    f"No batch of batch_size={self.batch_size} without a repeated text can be made of these "
                    f"{len(self.train_examples)} examples: too many share a text. Pass a smaller batch_size."
                )

    def __len__(self) -> int:
        return len(self.train_examples) // self.batch_size
