"""Search real text with embeddings of fewer bytes: what it costs in quality, and what it saves.

    python examples/embedding_quantization/quantization_demo.py [--data FOLDER] [--model NAME] [--repeats N]

Embeds a corpus once, quantises it in every way, and prints for each the bytes of a vector, nDCG@10, how much
of the float embeddings' nDCG@10 is kept, and how many queries are searched in a second.

FOLDER holds a retrieval set: `corpus.jsonl.gz` (_id, title, text), `queries.jsonl.gz` (_id, text) and
`qrels.tsv.gz` (query_id, doc_id, score); or `queries.test.jsonl.gz` and `qrels.test.tsv.gz`. Without it, the
questions and answers of `examples/data` are searched.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sentence_transformers import SentenceTransformer
from sentence_transformers.quantization import quantize_embeddings, semantic_search_quantized

SAMPLE = Path(__file__).parents[1] / "data" / "medquad-sample.tsv.gz"

TOP_K = 10


@dataclass(frozen=True)
class RetrievalSet:
    """Texts to find, questions to find them with, and which of them answer which question."""

    name: str
    documents: dict[str, str]
    queries: dict[str, str]
    relevant: dict[str, set[str]]
    """The documents that answer each query."""


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


def mean_ndcg(data: RetrievalSet, hits: list[list[dict[str, Any]]]) -> float:
    """nDCG@10 over all queries, where each relevant document counts the same."""
    documents = list(data.documents)
    discounts = [1 / math.log2(rank + 2) for rank in range(TOP_K)]
    values = []
    for query, found in zip(data.queries, hits, strict=True):
        relevant = data.relevant[query]
        reached = [
            discount
            for discount, hit in zip(discounts, found, strict=False)
            if documents[hit["corpus_id"]] in relevant
        ]
        values.append(sum(reached) / sum(discounts[: len(relevant)]))
    return sum(values) / len(values)


def read_folder(folder: Path) -> RetrievalSet:
    """A retrieval set in the files that the docstring above describes."""
    split = "" if (folder / "qrels.tsv.gz").is_file() else ".test"
    documents = {
        row["_id"]: f"{row.get('title', '')} {row['text']}".strip()
        for row in lines_of(folder / "corpus.jsonl.gz")
    }
    relevant: dict[str, set[str]] = {}
    for row in rows_of(folder / f"qrels{split}.tsv.gz"):
        if float(row["score"]) > 0:
            relevant.setdefault(row["query_id"], set()).add(row["doc_id"])
    queries = {row["_id"]: row["text"] for row in lines_of(folder / f"queries{split}.jsonl.gz")}
    queries = {name: text for name, text in queries.items() if name in relevant}
    return RetrievalSet(folder.resolve().name, documents, queries, relevant)


def read_sample(path: Path) -> RetrievalSet:
    """The sample of questions and answers: the answers to a question are what it is to find."""
    rows = list(rows_of(path))
    documents = {str(number): row["answer"] for number, row in enumerate(rows)}
    queries = {question: question for question in dict.fromkeys(row["question"] for row in rows)}
    relevant: dict[str, set[str]] = {question: set() for question in queries}
    for number, row in enumerate(rows):
        relevant[row["question"]].add(str(number))
    return RetrievalSet("examples/data", documents, queries, relevant)


def lines_of(path: Path) -> Iterator[Mapping[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from (json.loads(line) for line in file)


def rows_of(path: Path) -> Iterator[Mapping[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)


if __name__ == "__main__":
    main()
