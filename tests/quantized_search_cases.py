"""Searches whose results another release recorded in `tests/data/quantized_search.json`.

`tools/record_quantized_search.py` runs them there, `tests/search/quantized/test_engines.py` here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

RECORDED = Path(__file__).parent / "data" / "quantized_search.json"

WIDTH, ROWS = 48, 90

PRECISIONS = {
    "semantic_search_faiss": ("float32", "uint8", "ubinary"),
    "semantic_search_usearch": ("float32", "int8", "ubinary", "binary"),
}


@dataclass(frozen=True)
class Case:
    """One search."""

    function: str
    precision: str
    rescore: bool
    has_code_queries: bool
    calibrated_by: str
    top_k: int
    multiplier: int

    @property
    def name(self) -> str:
        return "-".join(str(value) for value in asdict(self).values())


def cases() -> Iterator[Case]:
    for function, precisions in PRECISIONS.items():
        for precision in precisions:
            for rescore, has_codes, calibrated_by, top_k, multiplier in (
                # Every entry is a candidate, so that what is compared are the scores.
                (True, False, "ranges", ROWS, 1),
                (True, False, "calibration_embeddings", 5, ROWS // 5),
                (True, False, "ranges", 5, 3),
                (False, False, "ranges", ROWS, 1),
                (False, True, "ranges", ROWS, 1),
                (True, True, "ranges", ROWS, 2),
            ):
                if precision != "float32" or not has_codes:
                    yield Case(function, precision, rescore, has_codes, calibrated_by, top_k, multiplier)


def embeddings() -> tuple[np.ndarray, np.ndarray]:
    """Queries and corpus, of length 1."""
    generator = np.random.default_rng(0)
    # Dimensions differ in their spread and their mean, as those of models do.
    scale, mean = generator.uniform(0.2, 1.5, WIDTH), generator.normal(0, 0.3, WIDTH)
    values = (generator.standard_normal((ROWS + 4, WIDTH)) * scale + mean).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return values[:4], values[4:]


def found_by(case: Case, quantization: Any) -> list[dict[int, float]]:
    """Scores by row number for each query, with the functions of a module, best first."""
    queries, corpus = embeddings()
    ranges = np.stack([corpus.min(axis=0), corpus.max(axis=0)])
    quantize: Callable[..., np.ndarray] = quantization.quantize_embeddings
    codes = quantize(corpus, case.precision, ranges=ranges)
    if case.has_code_queries:
        queries = quantize(queries, case.precision, ranges=ranges)
    calibrated = {case.calibrated_by: ranges if case.calibrated_by == "ranges" else corpus}
    hits, _ = getattr(quantization, case.function)(
        queries,
        codes,
        corpus_precision=case.precision,
        top_k=case.top_k,
        rescore=case.rescore,
        rescore_multiplier=case.multiplier,
        **calibrated,
    )
    return [{hit["corpus_id"]: hit["score"] for hit in line} for line in hits]
