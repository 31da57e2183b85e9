"""Texts beside a damaged copy, for denoising auto-encoders.

After Wang et al. 2021, "TSDAE: Using Transformer-based Sequential Denoising Auto-Encoder for Unsupervised
Sentence Embedding Learning".
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from torch.utils.data import Dataset

from sentence_transformers.inputs.example import InputExample

WORD = re.compile(r"(\s*)(\w+(?:['’\-]\w+)*|[^\w\s])")
"""A word or a punctuation mark, and the white space before it."""


class DenoisingAutoEncoderDataset(Dataset):
    """Pairs of a damaged text and the text itself.

    Args:
        sentences: The texts.
        noise_fn: Damages a text, anew each time the text is asked for; None deletes words, see `delete`.
    """

    def __init__(self, sentences: list[str], noise_fn: Callable[[str], str] | None = None) -> None:
        self.sentences = sentences
        self.noise_fn = noise_fn or self.delete

    def __getitem__(self, item: int) -> InputExample:
        text = self.sentences[item]
        return InputExample(texts=[self.noise_fn(text), text])

    def __len__(self) -> int:
        return len(self.sentences)

    @staticmethod
    def delete(text: str, del_ratio: float = 0.6) -> str:
        """Leave out words and punctuation marks at random; chance is numpy's.

        Words end at white space and punctuation, so a text in a script without spaces is one word: pass a
        `noise_fn` of your own for it.

        Args:
            text: The text.
            del_ratio: Probability that a word is left out, 0 to 1.

        Returns:
            What is left, at least one word of a text that has any.
        """
        words = WORD.findall(text)
        if not words:
            return text
        is_kept = np.random.random(len(words)) >= del_ratio
        if not is_kept.any():
            is_kept[np.random.randint(len(words))] = True
        return "".join(
            space + word for (space, word), kept in zip(words, is_kept, strict=True) if kept
        ).lstrip()
