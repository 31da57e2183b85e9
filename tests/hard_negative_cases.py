"""What hard negatives are mined from in the tests, here and by `tools/record_hard_negatives.py`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

SAMPLE = Path(__file__).parent / "data" / "medquad-sample.txt"
RECORDED = Path(__file__).parent / "data" / "hard_negatives.json"


class TableModel:
    """Embeds texts by a table; made from scores, so that anchor and text score exactly what is asked for."""

    similarity_fn_name = "cosine"

    def __init__(self, vectors: Mapping[str, Any]) -> None:
        self.vectors = {text: np.asarray(vector, dtype=np.float32) for text, vector in vectors.items()}
        self.calls: list[tuple[str, list[str], dict[str, Any]]] = []

    @classmethod
    def with_scores(cls, scores: Mapping[str, Mapping[str, float]]) -> TableModel:
        """From the cosine of each anchor and text, 0 where it is not given; squares of a text sum up to 1 at most."""
        anchors = list(scores)
        texts = list(dict.fromkeys(text for line in scores.values() for text in line))
        width = len(anchors) + len(texts)
        vectors = {anchor: np.eye(width)[number] for number, anchor in enumerate(anchors)}
        for number, text in enumerate(texts):
            if text not in vectors:
                vector = np.zeros(width)
                vector[: len(anchors)] = [scores[anchor].get(text, 0) for anchor in anchors]
                vector[len(anchors) + number] = np.sqrt(1 - (vector**2).sum())
                vectors[text] = vector
        return cls(vectors)

    def encode(self, texts: Sequence[str], **options: Any) -> np.ndarray:
        self.calls.append(("encode", list(texts), options))
        rows = np.stack([self.vectors[text] for text in texts])
        if options.get("normalize_embeddings"):
            rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        return rows


class WordOverlap:
    """A cross-encoder that scores the share of words that two texts have in common."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[tuple[str, str]], dict[str, Any]]] = []

    def predict(self, sentences: Iterable[Sequence[str]], **options: Any) -> torch.Tensor:
        pairs = [(first, second) for first, second in sentences]
        self.calls.append((pairs, options))
        return torch.tensor([self.score(first, second) for first, second in pairs])

    @staticmethod
    def score(first: str, second: str) -> float:
        words = [set(re.findall(r"\w+", text.lower())) for text in (first, second)]
        # The length decides where the share is the same.
        return len(words[0] & words[1]) / len(words[0] | words[1]) + len(second) / 1e5


def sample_rows() -> tuple[dict[str, list[str]], list[str]]:
    """Columns of questions and answers, some of them repeated, and further answers."""
    texts = SAMPLE.read_text(encoding="utf-8").splitlines()
    questions, answers = texts[:18], texts[18:]
    # Which answer belongs to which question does not matter here.
    numbers = [(i, i) for i in range(12)] + [(3, 12), (0, 13), (3, 14), (3, 3)]
    columns = {
        "question": [questions[question] for question, _ in numbers],
        "answer": [answers[answer] for _, answer in numbers],
    }
    return columns, answers


CASES: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "without a corpus": {"corpus": None},
    "a single negative": {"num_negatives": 1, "output_scores": True},
    "tuples": {"output_format": "n-tuple", "output_scores": True, "num_negatives": 5},
    "tuples, older form": {"as_triplets": False},
    "labeled pairs": {"output_format": "labeled-pair"},
    "labeled pairs with scores": {"output_format": "labeled-pair", "output_scores": True},
    "labeled lists": {"output_format": "labeled-list"},
    "labeled lists with scores": {"output_format": "labeled-list", "output_scores": True},
    "a range": {"range_min": 4, "range_max": 9, "num_negatives": 5, "output_scores": True},
    "a range of what passes": {"range_min": 2, "range_max": 8, "max_score": 0.2, "output_scores": True},
    "highest score": {"max_score": 0.15, "num_negatives": 2, "output_scores": True},
    "lowest score": {"min_score": 0.2, "num_negatives": 6, "output_scores": True},
    "absolute margin": {"absolute_margin": 0.02, "output_scores": True},
    "absolute margin, older name": {"margin": 0.02, "output_scores": True},
    "relative margin": {"relative_margin": 0.1, "output_scores": True},
    "both margins": {"relative_margin": 0.1, "absolute_margin": 0.02, "output_format": "n-tuple"},
    "tuples where few pass": {"max_score": 0.1, "output_format": "n-tuple", "num_negatives": 8},
    "labeled pairs where few pass": {"max_score": 0.0, "output_format": "labeled-pair", "num_negatives": 8},
    "labeled lists where few pass": {"max_score": 0.0, "output_format": "labeled-list", "num_negatives": 8},
    "positives included": {"include_positives": True, "output_format": "n-tuple", "output_scores": True},
    "a prompt": {"query_prompt": "query: ", "corpus_prompt": "answer: ", "output_scores": True},
    "cross-encoder": {"cross_encoder": WordOverlap, "relative_margin": 0.05, "output_scores": True},
    "cross-encoder and range": {
        "cross_encoder": WordOverlap,
        "max_score": 0.09,
        "range_min": 1,
        "range_max": 9,
        "output_scores": True,
    },
    "cross-encoder without a rule": {"cross_encoder": WordOverlap, "output_scores": True},
    "distances": {"similarity": "euclidean", "absolute_margin": 0.02, "output_scores": True},
    "dot products": {"similarity": "dot", "output_scores": True},
    "faiss": {"use_faiss": True, "absolute_margin": 0.02, "output_scores": True},
}
"""Arguments by case; `similarity` is the model's."""


def mined_case(mine: Any, model: Any, arguments: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The columns that a case gives; every text is written as its number in the sample."""
    from datasets import Dataset

    columns, answers = sample_rows()
    given = {"corpus": answers, "verbose": False, **arguments}
    if "cross_encoder" in given:
        given["cross_encoder"] = given["cross_encoder"]()
    usual = model.similarity_fn_name
    model.similarity_fn_name = given.pop("similarity", usual)
    try:
        mined = mine(Dataset.from_dict(columns), model, **given)
    finally:
        model.similarity_fn_name = usual
    numbers = {text: f"text {number}" for number, text in enumerate(SAMPLE.read_text("utf-8").splitlines())}
    return {name: numbered(list(mined[name][:]), numbers) for name in mined.column_names}


def numbered(values: Any, numbers: Mapping[str, str]) -> Any:
    if isinstance(values, list):
        return [numbered(value, numbers) for value in values]
    return numbers[values] if isinstance(values, str) else values
