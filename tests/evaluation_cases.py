"""Evaluators with data, for which another release's results are recorded in `data/evaluations.json`.

Read by the test that compares, and by `tools/record_evaluations.py`, which records; so nothing here imports
the package. The models that both evaluate hold the same weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"
RECORDED = DATA / "evaluations.json"

EVERY_SIMILARITY = ["cosine", "dot", "euclidean", "manhattan"]


def evaluation_cases(model: Any) -> list[tuple[str, dict[str, Any]]]:
    """Name of an evaluator's class, and its arguments; the model stands in for a teacher."""
    text = (DATA / "medquad-sample.txt").read_text(encoding="utf-8")
    lines = [line[:100] for line in text.splitlines()]
    first = lines[:40]
    # Every other text is paired with its own beginning, the others with the text that follows.
    second = [line[: len(line) // 2] if row % 2 == 0 else lines[row + 1] for row, line in enumerate(first)]
    labels = [1 if row % 2 == 0 else row % 5 // 4 for row in range(40)]
    scores = [label + (row * 7 % 11) / 10 for row, label in enumerate(labels)]
    pairs = {"sentences1": first, "sentences2": second}
    triplets = {"anchors": second, "positives": first, "negatives": lines[5:45]}
    translations = {"source_sentences": first, "target_sentences": second}
    table = [
        {"en": a, "de": b, "fr": b.upper() if row % 3 else " "}
        for row, (a, b) in enumerate(zip(first, second))
    ]
    distillation = {**translations, "teacher_model": model}
    similarity = {**pairs, "scores": scores}
    binary = {**pairs, "labels": labels}
    return [
        ("EmbeddingSimilarityEvaluator", {**similarity, "name": "dev"}),
        ("EmbeddingSimilarityEvaluator", {**similarity, "similarity_fn_names": EVERY_SIMILARITY}),
        ("EmbeddingSimilarityEvaluator", {**similarity, "main_similarity": "dot", "truncate_dim": 64}),
        ("EmbeddingSimilarityEvaluator", {**similarity, "precision": "binary", "name": "bits"}),
        ("EmbeddingSimilarityEvaluator", {**similarity, "precision": "ubinary"}),
        ("BinaryClassificationEvaluator", {**binary, "name": "dev"}),
        ("BinaryClassificationEvaluator", {**binary, "similarity_fn_names": EVERY_SIMILARITY}),
        ("TripletEvaluator", {**triplets, "name": "dev"}),
        (
            "TripletEvaluator",
            {**triplets, "similarity_fn_names": EVERY_SIMILARITY, "margin": {"cosine": 0.5}},
        ),
        (
            "TripletEvaluator",
            {**triplets, "main_similarity_function": "manhattan", "margin": 1.0, "truncate_dim": 32},
        ),
        ("TranslationEvaluator", {**translations, "name": "en-de"}),
        ("MSEEvaluator", {**distillation, "name": "en-de"}),
        ("MSEEvaluator", {**distillation, "truncate_dim": 64}),
        (
            "MSEEvaluatorFromDataFrame",
            {
                "dataframe": table,
                "teacher_model": model,
                "combinations": [("en", "de"), ("en", "fr"), ("de", "fr")],
            },
        ),
    ]
