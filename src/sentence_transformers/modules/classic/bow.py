"""Counts of words as sentence embedding."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from sentence_transformers.modules.base import InputModule
from sentence_transformers.modules.classic.tokenizers import WhitespaceTokenizer
from sentence_transformers.modules.dimensions import AnswersDimension

logger = logging.getLogger(__name__)


class BoW(AnswersDimension, InputModule):
    """A bag of words: one dimension per known word, which holds how often it occurs, times its weight.

    Args:
        vocab: The known words; a repeated one counts once. Stop words have to be left out of it.
        word_weights: Weight of each word, such as its inverse document frequency. A word that is not in it is
            looked up in lower case.
        unknown_word_weight: Weight of the known words that have none in `word_weights`.
        cumulative_term_frequency: Whether a word counts as often as it occurs, or once.
    """

    save_in_root: bool = False
    config_keys: list[str] = ["vocab", "word_weights", "unknown_word_weight", "cumulative_term_frequency"]

    def __init__(
        self,
        vocab: Sequence[str],
        word_weights: Mapping[str, float] = {},
        unknown_word_weight: float = 1,
        cumulative_term_frequency: bool = True,
    ) -> None:
        super().__init__()
        self.vocab = list(dict.fromkeys(vocab))
        self.word_weights = dict(word_weights)
        self.unknown_word_weight = unknown_word_weight
        self.cumulative_term_frequency = cumulative_term_frequency
        self.weights = weights_of(self.vocab, self.word_weights, unknown_word_weight)
        self.tokenizer = WhitespaceTokenizer(self.vocab, stop_words=(), do_lower_case=False)
        self.sentence_embedding_dimension = len(self.vocab)

    def preprocess(self, inputs: Sequence[str], prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Count the words of each text; the result is the embedding already.

        Args:
            inputs: Texts.
            prompt: Put in front of every text.
            **kwargs: Ignored.
        """
        del kwargs
        return self.get_sentence_features([self.tokenizer.tokenize((prompt or "") + text) for text in inputs])

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        """Return the features as they are."""
        return features

    def get_sentence_features(
        self, tokenized_texts: Sequence[Sequence[int]], pad_seq_length: int = 0
    ) -> dict[str, torch.Tensor]:
        """The `sentence_embedding` (B, V) of texts given as numbers of words; `pad_seq_length` is ignored."""
        del pad_seq_length
        counts = torch.zeros(len(tokenized_texts), len(self.vocab))  # (B, V)
        for row, words in zip(counts, tokenized_texts):
            numbers = torch.as_tensor(words, dtype=torch.long)
            row.index_put_((numbers,), torch.ones(len(words)), accumulate=self.cumulative_term_frequency)
        return {"sentence_embedding": counts * torch.tensor(self.weights)}

    def get_embedding_dimension(self) -> int:
        """Number of known words."""
        return self.sentence_embedding_dimension


def weights_of(
    vocab: Sequence[str], word_weights: Mapping[str, float], unknown_word_weight: float
) -> list[float]:
    """Weight of each word of a vocabulary, looked up as it stands and then in lower case."""
    found = [word_weights.get(word, word_weights.get(word.lower())) for word in vocab]
    logger.info(
        "%d of %d words have no weight and get unknown_word_weight=%s.",
        found.count(None),
        len(vocab),
        unknown_word_weight,
    )
    return [float(unknown_word_weight if weight is None else weight) for weight in found]
