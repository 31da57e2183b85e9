"""Pairs of texts that may belong together."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from recipes.small_files import sentences
from recipes.small_models import tiny_start
from sentence_transformers import SentenceTransformer
from sentence_transformers.recipes.neighbours import WordIndex, different, pairs_by_meaning, pairs_by_words

TEXTS = ["The cat sat.", "A cat and a dog, a cat!", "Rain falls.", "the dog", "Unlike anything"]


def bm25(query: str, text: str, texts: list[str], k1: float = 1.5, b: float = 0.75) -> float:
    """The definition, word by word."""
    words = [re.findall(r"\w+", one.lower()) for one in texts]
    mean = sum(map(len, words)) / len(words)
    own = re.findall(r"\w+", text.lower())
    score = 0.0
    for word in re.findall(r"\w+", query.lower()):
        having = sum(word in one for one in words)
        idf = math.log(1 + (len(texts) - having + 0.5) / (having + 0.5))
        often = own.count(word)
        score += idf * often * (k1 + 1) / (often + k1 * (1 - b + b * len(own) / mean))
    return score


@pytest.mark.parametrize("query", ["cat", "the dog sat", "a a rain", "nothing of this"])
def test_scores_are_those_of_bm25(query):
    np.testing.assert_allclose(
        WordIndex(TEXTS).scores(query), [bm25(query, text, TEXTS) for text in TEXTS], rtol=1e-12
    )


def test_texts_that_share_no_word_are_not_found():
    assert WordIndex(TEXTS).nearest("rain and snow", 5) == [2, 1]


def test_a_text_is_put_together_with_those_that_share_its_words_and_not_with_itself():
    assert pairs_by_words(TEXTS, 1) == [
        (TEXTS[0], TEXTS[3]),
        (TEXTS[1], TEXTS[0]),  # it has "cat" twice
        (TEXTS[3], TEXTS[0]),
    ]


def test_pairs_by_meaning_are_the_nearest_by_cosine(tmp_path):
    model = SentenceTransformer(tiny_start(tmp_path), device="cpu")
    texts = list(sentences(9))
    likeness = model.similarity(*[model.encode(texts)] * 2).numpy()
    np.fill_diagonal(likeness, -2)
    expected = [(text, texts[row]) for text, near in zip(texts, likeness) for row in np.argsort(-near)[:2]]
    assert pairs_by_meaning(model, texts, 2, quiet=True) == expected


def test_a_pair_counts_once_whichever_text_comes_first():
    pairs = [("a", "b"), ("b", "a"), ("a", "a"), ("c", "a"), ("a", "d")]
    assert different(pairs, known=[("a", "c")]) == [("a", "b"), ("a", "d")]
