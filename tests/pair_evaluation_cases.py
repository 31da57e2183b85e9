"""Evaluators of cross-encoders with data, for which other releases' results are recorded.

They stand in `data/pair_evaluations.json`. Read by the test that compares, and by
`tools/record_pair_evaluations.py`, which records; so nothing here imports the package. The models that all
evaluate hold the same weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny import sample_texts

RECORDED = Path(__file__).parent / "data" / "pair_evaluations.json"

LINES = [line[:60] for line in sample_texts()]
COUNT = 24
PAIRS = [[LINES[row], LINES[row + COUNT]] for row in range(COUNT)]
TWO = [(row * 7 % 5) // 3 for row in range(COUNT)]
THREE = [row * 7 % 3 for row in range(COUNT)]
SCORES = [(row * 7 % 11) / 10 for row in range(COUNT)]
SAMPLES = [
    {"query": LINES[row], "positive": LINES[row + 10 : row + 12], "negative": LINES[row + 14 : row + 20]}
    for row in range(8)
]
SEARCHED = [
    {
        "query": LINES[row],
        "positive": LINES[row + 10 : row + 13],
        "documents": LINES[row + 12 : row + 19][::-1],
    }
    for row in range(8)
]

NEWER: list[tuple[str, int, dict[str, Any]]] = [
    ("CrossEncoderClassificationEvaluator", 1, {"sentence_pairs": PAIRS, "labels": TWO, "name": "dev"}),
    ("CrossEncoderClassificationEvaluator", 3, {"sentence_pairs": PAIRS, "labels": THREE}),
    ("CrossEncoderCorrelationEvaluator", 1, {"sentence_pairs": PAIRS, "scores": SCORES, "name": "dev"}),
    ("CrossEncoderRerankingEvaluator", 1, {"samples": SAMPLES, "name": "dev"}),
    ("CrossEncoderRerankingEvaluator", 1, {"samples": SEARCHED, "at_k": 3}),
    ("CrossEncoderRerankingEvaluator", 1, {"samples": SEARCHED, "always_rerank_positives": False}),
]
"""Name of an evaluator's class, scores of the model, and its arguments; recorded with release 6.2.0."""

OLDER: list[tuple[str, int, dict[str, Any]]] = [
    ("CEBinaryAccuracyEvaluator", 1, {"sentence_pairs": PAIRS, "labels": TWO, "name": "dev"}),
    ("CEBinaryAccuracyEvaluator", 1, {"sentence_pairs": PAIRS, "labels": TWO, "threshold": 0.45}),
    ("CEBinaryClassificationEvaluator", 1, {"sentence_pairs": PAIRS, "labels": TWO}),
    ("CECorrelationEvaluator", 1, {"sentence_pairs": PAIRS, "scores": SCORES, "name": "dev"}),
    ("CEF1Evaluator", 2, {"sentence_pairs": PAIRS, "labels": TWO, "name": "dev"}),
    ("CEF1Evaluator", 3, {"sentence_pairs": PAIRS, "labels": THREE}),
    ("CESoftmaxAccuracyEvaluator", 3, {"sentence_pairs": PAIRS, "labels": THREE}),
    ("CERerankingEvaluator", 1, {"samples": SAMPLES, "name": "dev"}),
    ("CERerankingEvaluator", 1, {"samples": SAMPLES, "mrr_at_k": 2}),
]
"""The same, recorded with release 3.4.1."""
