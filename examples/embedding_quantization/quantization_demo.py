"""Search real text with embeddings of fewer bytes: what it costs in quality, and what it saves.

    python examples/embedding_quantization/quantization_demo.py [--data FOLDER] [--model NAME] [--repeats N]

Embeds a corpus once, quantises it in every way, and prints for each the bytes of a vector, nDCG@10, how much
of the float embeddings' nDCG@10 is kept, and how many queries are searched in a second.

FOLDER holds a retrieval set, in the files that `examples/retrieval_sets.py` describes. Without it, the questions and
answers of `examples/data` are searched.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))

from reading import SAMPLE
from retrieval_sets import TOP_K, RetrievalSet, mean_ndcg, read_folder, read_sample

from sentence_transformers import SentenceTransformer
from sentence_transformers.quantization import quantize_embeddings, semantic_search_quantized


@dataclass(frozen=True)
class Way:
    """One way to store and to search a corpus."""

    label: str
    precision: str
    rescore: bool = False
    rescored_by: str | None = None
    """Precision of the embeddings that candidates are scored by; None for the codes that were searched."""


WAYS = (
    Way("float32", "float32"),
    Way("int8", "int8"),
    Way("int8, rescored", "int8", rescore=True),
    Way("binary", "binary"),
    Way("binary, rescored", "binary", rescore=True),
    Way("binary, rescored by int8 on disk", "binary", rescore=True, rescored_by="int8"),
    Way("binary, rescored by float32 on disk", "binary", rescore=True, rescored_by="float32"),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Measure what quantised embeddings cost, and what they save."
    )
    parser.add_argument("--data", type=Path, default=None, help="folder of a retrieval set")
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--repeats", type=int, default=5, help="searches of which the fastest is reported")
    options = parser.parse_args()

    data = read_folder(options.data) if options.data else read_sample(SAMPLE)
    model = SentenceTransformer(options.model)
    queries = model.encode(list(data.queries.values()), normalize_embeddings=True)  # (Q, D)
    corpus = model.encode(list(data.documents.values()), normalize_embeddings=True)  # (N, D)
    print(f"{data.name}: {len(corpus):,} documents, {len(queries):,} queries, {corpus.shape[1]} dimensions\n")
    print("| corpus | bytes of a vector | nDCG@10 | kept | queries/s |")
    print("| --- | ---: | ---: | ---: | ---: |")
    float_ndcg = None
    with tempfile.TemporaryDirectory() as folder:
        for way in WAYS:
            ndcg, stored, seconds = measure(way, data, queries, corpus, Path(folder), options.repeats)
            float_ndcg = float_ndcg or ndcg
            print(
                f"| {way.label} | {stored} | {100 * ndcg:.2f} | {100 * ndcg / float_ndcg:.1f} % "
                f"| {len(queries) / seconds:,.0f} |"
            )


def measure(
    way: Way, data: RetrievalSet, queries: np.ndarray, corpus: np.ndarray, folder: Path, repeats: int = 1
) -> tuple[float, str, float]:
    """nDCG@10, the bytes of a vector, and the seconds of the fastest of some searches."""
    # A service keeps the ranges that the codes were made with.
    ranges = np.stack([corpus.min(axis=0), corpus.max(axis=0)])
    codes = quantize_embeddings(corpus, way.precision, ranges=ranges)
    stored = f"{codes[0].nbytes:,}"
    on_disk = None
    if way.rescored_by is not None:
        np.save(folder / "vectors.npy", quantize_embeddings(corpus, way.rescored_by, ranges=ranges))
        # Only the rows of candidates are read.
        on_disk = np.load(folder / "vectors.npy", mmap_mode="r")
        stored += f" and {on_disk[0].nbytes:,} on disk"
    seconds = math.inf
    for _ in range(repeats):
        hits, duration = semantic_search_quantized(
            queries,
            codes,
            corpus_precision=way.precision,
            top_k=TOP_K,
            ranges=ranges,
            rescore=way.rescore,
            rescore_embeddings=on_disk,
        )
        seconds = min(seconds, duration)
    return mean_ndcg(data, hits), stored, seconds


if __name__ == "__main__":
    main()
