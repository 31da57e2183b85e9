"""Translations beside the teacher's embedding of their source, to make a model multilingual.

After Reimers and Gurevych 2020, "Making Monolingual Sentence Embeddings Multilingual using Knowledge
Distillation".
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from sentence_transformers.inputs.example import InputExample
from sentence_transformers.readers.text_files import opened

logger = logging.getLogger(__name__)

SOURCES_AT_ONCE = 1000
"""Source sentences whose embeddings are computed together."""


class ParallelSentencesDataset(Dataset):
    """Sentences to learn, each labelled with the teacher's embedding of the sentence that it translates.

    The source sentence is to be learned too. Items come in an order of their own, whatever number is asked
    for: one source after another, drawn from the added data by weight, with all its translations. Chance is
    Python's `random`.

    Args:
        student_model: Not used; the model that learns is the one that is trained.
        teacher_model: Its `encode` makes the embeddings.
        batch_size: Batch size of the teacher.
        use_embedding_cache: Keep every embedding in memory, so that it is computed once.
    """

    def __init__(
        self,
        student_model: Any,
        teacher_model: Any,
        batch_size: int = 8,
        use_embedding_cache: bool = True,
    ) -> None:
        self.student_model = student_model
        self.teacher_model = teacher_model
        self.batch_size = batch_size
        self.use_embedding_cache = use_embedding_cache
        self.datasets: list[list[list[str]]] = []
        """Each added data set: per source sentence, it and its translations."""

        self.num_sentences = 0
        self._weights: list[int] = []
        self._passes: list[Iterator[list[str]]] = []
        self._ready: list[InputExample] = []
        self._embeddings: dict[str, np.ndarray] = {}

    def load_data(
        self,
        filepath: str,
        weight: int = 100,
        max_sentences: int | None = None,
        max_sentence_length: int | None = 128,
    ) -> None:
        """Add a file with a source sentence and its translations in each line, separated by tabs.

        Args:
            filepath: The file, UTF-8, packed if its name ends with `.gz`.
            weight: See `add_dataset`, as for what follows.
            max_sentences: See there.
            max_sentence_length: See there.
        """
        with opened(Path(filepath)) as lines:
            rows = (line.strip().split("\t") for line in lines if line.strip())
            self.add_dataset(rows, weight, max_sentences, max_sentence_length)

    def add_dataset(
        self,
        parallel_sentences: Any,
        weight: int = 100,
        max_sentences: int | None = None,
        max_sentence_length: int | None = 128,
    ) -> None:
        """Add sentences with their translations.

        Args:
            parallel_sentences: Lists of a source sentence and its translations. Lists with the same source
                are put together.
            weight: How often a source is drawn from these sentences, beside the weights of other data sets.
            max_sentences: Take this many lists; None or 0 for all.
            max_sentence_length: Leave out lists with a sentence of more characters; None or 0 for no limit.
        """
        if weight < 1:
            raise ValueError(f"weight={weight} would never draw from these sentences. Pass 1 or more.")
        # A dictionary keeps the order, in which the source comes first.
        group_by_source: dict[str, dict[str, None]] = {}
        taken = 0
        for sentences in parallel_sentences:
            if max_sentence_length and max(map(len, sentences)) > max_sentence_length:
                continue
            group_by_source.setdefault(sentences[0], {}).update(dict.fromkeys(sentences))
            taken += 1
            if taken == max_sentences:
                break
        if not group_by_source:
            logger.warning(
                "No sentence was added: none is within max_sentence_length=%s.", max_sentence_length
            )
            return
        groups = [list(group) for group in group_by_source.values()]
        self.datasets.append(groups)
        self.num_sentences += sum(map(len, groups))
        self._weights.append(weight)
        self._passes.append(endless_passes(groups))

    def __len__(self) -> int:
        return self.num_sentences

    def __getitem__(self, idx: int) -> InputExample:
        if not -len(self) <= idx < len(self):
            raise IndexError(
                f"Item {idx} of a data set of {len(self)} sentences. Sentences come from load_data."
            )
        if not self._ready:
            self.generate_data()
        return self._ready.pop()

    def generate_data(self) -> None:
        """Draw sources, embed them, and put them and their translations in random order."""
        count = min(SOURCES_AT_ONCE, sum(map(len, self.datasets)))
        drawn = random.choices(range(len(self.datasets)), self._weights, k=count)
        groups = [self.next_entry(number) for number in drawn]
        embeddings = self.get_embeddings([group[0] for group in groups])
        self._ready = [
            InputExample(texts=[sentence], label=embedding)
            for group, embedding in zip(groups, embeddings, strict=True)
            for sentence in group
        ]
        random.shuffle(self._ready)

    def next_entry(self, data_idx: int) -> list[str]:
        """The next source of an added data set, and its translations."""
        return next(self._passes[data_idx])

    def get_embeddings(self, sentences: list[str]) -> list[np.ndarray]:
        """The teacher's embeddings of sentences, one of shape (D,) for each."""
        known = self._embeddings if self.use_embedding_cache else {}
        new = [sentence for sentence in dict.fromkeys(sentences) if sentence not in known]
        if new:
            vectors = self.teacher_model.encode(
                new, batch_size=self.batch_size, show_progress_bar=False, convert_to_numpy=True
            )
            known.update(zip(new, vectors, strict=True))
        return [known[sentence] for sentence in sentences]


def endless_passes(groups: list[list[str]]) -> Iterator[list[str]]:
    """The groups again and again, in a new random order each time."""
    while True:
        yield from random.sample(groups, len(groups))
