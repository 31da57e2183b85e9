"""Quantisation: embeddings of fewer bytes, and weights of fewer bytes, and what of a retrieval set is kept.

Embeddings as in `quantize_embeddings`: int8 cuts the range of each dimension into 255 steps, binary keeps the signs.
Candidates found by signs can be scored once more by int8 embeddings, which need no place in memory (Yamada, Asai,
Hajishirzi 2021, "Efficient Passage Retrieval with Hashing for Open-domain Question Answering",
https://arxiv.org/abs/2106.00882). Weights as int8 through ONNX Runtime. Nothing is trained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sentence_transformers.recipes.config import RecipeConfig, option
from sentence_transformers.recipes.extras import need
from sentence_transformers.recipes.report import Report
from sentence_transformers.recipes.running import Run, only_run
from sentence_transformers.recipes.speeds import measured_speeds, megabytes
from sentence_transformers.recipes.tables import RetrievalSet, read_retrieval_set
from sentence_transformers.recipes.training import load
from sentence_transformers.search.quantized import semantic_search_quantized
from sentence_transformers.tensors.precision import quantize_embeddings

TOP_K = 10
ROUNDS = 5
DOCUMENTS, QUERIES, RANGES = "documents.npy", "queries.npy", "ranges.npy"


@dataclass(frozen=True)
class Way:
    """One way to store and to search a corpus."""

    precision: Literal["float32", "int8", "uint8", "binary", "ubinary"]
    rescored_by: str | None = None
    """Precision of the embeddings that candidates are scored by; None for no second scoring."""


WAYS: Mapping[str, Way] = {
    "int8": Way("int8"),
    "binary": Way("binary"),
    "binary, rescored": Way("binary", "binary"),
    "binary, rescored by int8": Way("binary", "int8"),
    "ubinary": Way("ubinary"),
    "ubinary, rescored by int8": Way("ubinary", "int8"),
}
"""Ways to store embeddings, by their line in the table."""

PRECISIONS = tuple(dict.fromkeys(way.precision for way in WAYS.values()))


@dataclass(kw_only=True)
class Config(RecipeConfig):
    """What is quantised, and where it is tried."""

    data: Path = option(help="Folder with a retrieval set: corpus, queries and qrels.")
    split: str = option("test", help="Which queries of it.")
    precision: list[str] = option(
        ["int8", "binary"], help=f"Of embeddings; of {', '.join(PRECISIONS)}. Several times."
    )
    rescore_multiplier: float = option(
        4.0, help="Candidates that are scored twice, in multiples of 10.", least=1
    )
    weights: Literal["none", "arm64", "avx2", "avx512", "avx512_vnni"] = option(
        "none", help="Also make the weights int8 for such a processor, by ONNX Runtime."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = [precision for precision in self.precision if precision not in PRECISIONS]
        if unknown:
            raise ValueError(
                f"There is no precision {unknown[0]!r} here. There are: {', '.join(PRECISIONS)}."
            )


def run(config: Config) -> Report:
    """Store embeddings, and weights if asked, in fewer bytes, and find out what of retrieval is kept."""
    if config.weights != "none":
        for package in ("onnx", "onnxruntime"):
            need(package, to="make weights int8", extra="onnx")
    data = read_retrieval_set(config.data, config.split)
    with only_run("quantization", config) as run:
        model = load(config.model, config)

        def embed(folder: Path) -> None:
            for name, vectors in zip((DOCUMENTS, QUERIES), embedded(model, data, config), strict=True):
                np.save(folder / name, vectors)
            documents = np.load(folder / DOCUMENTS)
            # A service keeps the ranges that the codes were made with.
            np.save(folder / RANGES, np.stack([documents.min(axis=0), documents.max(axis=0)]))

        folder = run.step("embeddings", embed)
        documents, queries, ranges = (np.load(folder / name) for name in (DOCUMENTS, QUERIES, RANGES))

        def figures(name: str, way: Way) -> dict[str, Any]:
            found = searched(way, data, documents, queries, ranges, config.rescore_multiplier)
            return compared(run, config, found)

        run.measure("start", lambda: figures("start", Way("float32")))
        for name, way in WAYS.items():
            if way.precision in config.precision:
                run.measure(name, lambda name=name, way=way: figures(name, way))
        if config.weights != "none":
            measure_weights(run, config, model, data)
        return run.finish()


def compared(run: Run, config: Config, found: dict[str, Any]) -> dict[str, Any]:
    """Figures with the share of the start's nDCG@10 that is kept."""
    label = f"{config.data.absolute().name} nDCG@10"
    ndcg = found.pop("nDCG@10")
    whole = run.rows["start"][label] if "start" in run.rows else ndcg
    return {label: ndcg, "% of start": round(100 * ndcg / whole, 2) if whole else 100.0, **found}


def embedded(model: Any, data: RetrievalSet, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of documents (N, D) and queries (Q, D), of length one."""
    documents = model.encode_document(list(data.documents.values()), show_progress_bar=not config.quiet)
    queries = model.encode_query(list(data.queries.values()), show_progress_bar=False)
    return to_length_one(documents), to_length_one(queries)


def to_length_one(vectors: np.ndarray) -> np.ndarray:
    """The same directions, (N, D); zeros stay zeros."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-12)


def searched(
    way: Way,
    data: RetrievalSet,
    documents: np.ndarray,
    queries: np.ndarray,
    ranges: np.ndarray,
    rescore_multiplier: float,
) -> dict[str, Any]:
    """nDCG@10 in per cent, what the corpus takes, and the queries searched in a second, of the fastest round."""
    codes = quantize_embeddings(documents, way.precision, ranges=ranges)
    second = None
    if way.rescored_by not in (None, way.precision):
        second = quantize_embeddings(documents, way.rescored_by, ranges=ranges)  # type: ignore[arg-type]
    best = math.inf
    hits: Any = []
    for _ in range(ROUNDS):
        hits, seconds = semantic_search_quantized(
            queries,
            codes,
            corpus_precision=way.precision,
            top_k=TOP_K,
            ranges=ranges,
            rescore=way.rescored_by is not None,
            rescore_multiplier=rescore_multiplier,
            rescore_embeddings=second,
        )
        best = min(best, seconds)
    return {
        "nDCG@10": round(100 * mean_ndcg(data, [[hit["corpus_id"] for hit in found] for found in hits]), 2),
        "bytes": codes[0].nbytes,
        "MB in memory": round(codes.nbytes / 1e6, 3),
        "MB on disk": round(second.nbytes / 1e6, 3) if second is not None else None,
        "queries/s": round(len(queries) / best, 1),
    }


def mean_ndcg(data: RetrievalSet, found: list[list[int]]) -> float:
    """nDCG@10 over all queries, where each relevant document counts the same.

    Args:
        data: The retrieval set.
        found: Numbers of the documents found for each query, best first.
    """
    names = list(data.documents)
    discounts = [1 / math.log2(rank + 2) for rank in range(TOP_K)]
    values = []
    for query, numbers in zip(data.queries, found, strict=True):
        relevant = data.relevant[query]
        reached = sum(
            discount
            for discount, number in zip(discounts, numbers, strict=False)
            if names[number] in relevant
        )
        values.append(reached / sum(discounts[: len(relevant)]))
    return sum(values) / len(values)


def measure_weights(run: Run, config: Config, model: Any, data: RetrievalSet) -> None:
    """Lines for the weights as they are, and as int8: float embeddings of either, and how fast they are made."""

    def export(folder: Path) -> None:
        from sentence_transformers.backend.onnx_optimize import export_dynamic_quantized_onnx_model
        from sentence_transformers.sentence_transformer.model import SentenceTransformer

        model.save_pretrained(str(folder))
        graph = SentenceTransformer(str(folder), backend="onnx", device="cpu")
        graph.save_pretrained(str(folder))
        export_dynamic_quantized_onnx_model(graph, config.weights, str(folder), file_suffix="int8")

    folder = run.step("weights", export)

    from sentence_transformers.sentence_transformer.model import SentenceTransformer

    file = Path("onnx", "model_int8.onnx")
    smaller = SentenceTransformer(
        str(folder), backend="onnx", device="cpu", model_kwargs={"file_name": file.as_posix()}
    )
    models = {"float32 weights": model, "int8 weights": smaller}
    sizes = {
        "float32 weights": megabytes(model),
        "int8 weights": round((folder / file).stat().st_size / 1e6, 1),
    }
    speeds = measured_speeds(run, models, list(data.documents.values()))

    def figures(name: str) -> dict[str, Any]:
        documents, queries = embedded(models[name], data, config)
        ranges = np.stack([documents.min(axis=0), documents.max(axis=0)])
        found = searched(Way("float32"), data, documents, queries, ranges, 1)
        return {
            **compared(run, config, found),
            "MB of weights": sizes[name],
            "texts/s": speeds[name].texts_per_second,
            "speed-up": speeds[name].times_of_start,
        }

    for name in models:
        run.measure(name, lambda name=name: figures(name))
