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


def product(a: Any, b: Any) -> Any:
    """Dot products (Q, N)."""
    return a @ b.T


def distance(a: Any, b: Any) -> Any:
    """Negated sums of absolute differences, (Q, N)."""
    return -(a[:, None] - b[None]).abs().sum(dim=-1)


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
    # A line's beginning asks for its end and for that of the next line; the last query has nothing to find. No two
    # texts are equal: releases differ in how they order what scores the same.
    halves = [(line[: len(line) // 2], line[len(line) // 2 :]) for line in lines]
    retrieval = {
        "queries": {f"q{row}": first for row, (first, _) in enumerate(halves)},
        "corpus": {f"d{row}": second for row, (_, second) in enumerate(halves)},
        "relevant_docs": {
            **{f"q{row}": {f"d{row}", f"d{row + 1}"} for row in range(45)},
            "q48": {"d48", "unknown"},
            "q49": set(),
        },
    }
    samples = [
        {
            "query": halves[row][0],
            "positive": [halves[row][1], halves[row - 1][1]],
            "negative": lines[row + 1 : row + 8],
        }
        for row in range(1, 43)
    ]
    samples += [
        {"query": "Nothing to find", "positive": [], "negative": lines[:2]},
        {"query": "Nothing to avoid", "positive": lines[:2], "negative": []},
    ]
    parts = {f"{row}{part}": text for row, half in enumerate(halves) for part, text in zip("ab", half)}
    mining = {"sentences_map": parts, "duplicates_list": [(f"{row}a", f"{row}b") for row in range(50)]}
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
        ("InformationRetrievalEvaluator", {**retrieval, "name": "dev"}),
        (
            "InformationRetrievalEvaluator",
            {
                **retrieval,
                "corpus_chunk_size": 7,
                "truncate_dim": 64,
                "ndcg_at_k": [20, 5],
                "mrr_at_k": [1, 3],
                "accuracy_at_k": [2],
                "precision_recall_at_k": [2, 60],
                "map_at_k": [4, 60],
                "query_prompt": "query: ",
                "corpus_prompt": "passage: ",
                "score_functions": {"dot": product, "distance": distance},
                "main_score_function": "dot",
            },
        ),
        (
            "InformationRetrievalEvaluator",
            {**retrieval, "score_functions": {"dot": product, "distance": distance}},
        ),
        ("RerankingEvaluator", {"samples": samples, "name": "dev"}),
        (
            "RerankingEvaluator",
            {
                "samples": dict(enumerate(samples)),
                "at_k": 2,
                "use_batched_encoding": False,
                "similarity_fct": product,
                "truncate_dim": 16,
            },
        ),
        ("ParaphraseMiningEvaluator", {**mining, "name": "dev"}),
        (
            "ParaphraseMiningEvaluator",
            {
                **mining,
                "duplicates_list": [
                    *mining["duplicates_list"],
                    ("0b", "1a"),
                    ("1b", "2b"),
                    ("7a", "unknown"),
                ],
                "add_transitive_closure": True,
                "top_k": 3,
                "truncate_dim": 64,
            },
        ),
    ]
