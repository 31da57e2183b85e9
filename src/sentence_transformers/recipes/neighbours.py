"""Which texts of a set may belong together: those that share rare words, or whose embeddings are near.

Candidates only; whether they do is for others to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from sentence_transformers.search.retrieval import semantic_search

WORD = re.compile(r"\w+")
Pair = tuple[str, str]


class WordIndex:
    """Finds texts by their words, with the weights of BM25.

    After Robertson and Zaragoza (2009), "The Probabilistic Relevance Framework: BM25 and Beyond". The weight of a
    word in a text is idf · f (k1 + 1) / (f + k1 (1 - b + b · length / mean length)) with idf = ln(1 + (N - n + 0.5) /
    (n + 0.5)), where f is how often it occurs there, and n how many of the N texts have it.

    Args:
        texts: The texts; words are taken in lower case.
        k1: How much more a word counts that occurs often.
        b: How much long texts are held back, 0 to 1.
    """

    def __init__(self, texts: Sequence[str], k1: float = 1.5, b: float = 0.75) -> None:
        counts = [counted(text) for text in texts]
        self.size = len(texts)
        lengths = np.array([sum(found.values()) for found in counts], dtype=np.float64)  # (N,)
        mean = max(float(lengths.mean()), 1.0) if self.size else 1.0
        places: dict[str, list[tuple[int, int]]] = {}
        for row, found in enumerate(counts):
            for word, count in found.items():
                places.setdefault(word, []).append((row, count))
        self.rows: dict[str, np.ndarray] = {}
        self.weights: dict[str, np.ndarray] = {}
        for word, occurrences in places.items():
            rows, often = np.array(occurrences).T  # (n,), (n,)
            idf = np.log(1 + (self.size - len(rows) + 0.5) / (len(rows) + 0.5))
            self.rows[word] = rows
            self.weights[word] = idf * often * (k1 + 1) / (often + k1 * (1 - b + b * lengths[rows] / mean))

    def scores(self, query: str) -> np.ndarray:
        """The score of each text for a query, (N,); 0 where they share no word."""
        scores = np.zeros(self.size)
        for word, count in counted(query).items():
            if word in self.rows:
                scores[self.rows[word]] += count * self.weights[word]
        return scores

    def nearest(self, query: str, count: int) -> list[int]:
        """The rows of so many texts that share words with a query, best first, the earlier of equally good ones."""
        scores = self.scores(query)
        rows = np.flatnonzero(scores)
        return [int(row) for row in rows[np.argsort(-scores[rows], kind="stable")][:count]]


def counted(text: str) -> dict[str, int]:
    """How often each word occurs."""
    counts: dict[str, int] = {}
    for word in WORD.findall(text.lower()):
        counts[word] = counts.get(word, 0) + 1
    return counts


def pairs_by_words(texts: Sequence[str], count: int) -> list[Pair]:
    """Each text with so many others that share the most telling words with it."""
    index = WordIndex(texts)
    return [
        (text, texts[other])
        for row, text in enumerate(texts)
        for other in [found for found in index.nearest(text, count + 1) if found != row][:count]
    ]


def pairs_by_meaning(model: Any, texts: Sequence[str], count: int, *, quiet: bool = False) -> list[Pair]:
    """Each text with so many others whose embeddings are nearest to its own."""
    embeddings = model.encode(list(texts), convert_to_tensor=True, show_progress_bar=not quiet)
    hits = semantic_search(embeddings, embeddings, top_k=count + 1)
    return [
        (text, texts[other])
        for row, (text, found) in enumerate(zip(texts, hits, strict=True))
        for other in [int(hit["corpus_id"]) for hit in found if hit["corpus_id"] != row][:count]
    ]


def different(pairs: Iterable[Pair], known: Iterable[Pair] = ()) -> list[Pair]:
    """Pairs that are not known and not a text with itself; each once, whichever of its texts comes first."""
    seen = {frozenset(pair) for pair in known}
    found = []
    for pair in pairs:
        both = frozenset(pair)
        if len(both) == 2 and both not in seen:
            seen.add(both)
            found.append(pair)
    return found
