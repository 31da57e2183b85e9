"""Retrieval sets: documents, queries, and which documents answer which query; and how well they are found.

A folder holds `corpus.jsonl.gz` (_id, title, text), `queries.jsonl.gz` (_id, text) and `qrels.tsv.gz` (query_id,
doc_id, score); or `queries.test.jsonl.gz` and `qrels.test.tsv.gz`, and the same for other splits.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reading import read_table

TOP_K = 10


@dataclass(frozen=True)
class RetrievalSet:
    """Texts to find, questions to find them with, and which of them answer which question."""

    name: str
    documents: dict[str, str]
    queries: dict[str, str]
    relevant: dict[str, set[str]]
    """The documents that answer each query."""

    def with_queries(self, limit: int | None) -> RetrievalSet:
        """The same set with so many of its queries."""
        return replace(self, queries=dict(list(self.queries.items())[:limit]))


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


def read_folder(folder: Path, split: str = "test") -> RetrievalSet:
    """A retrieval set in the files that are described above; the split counts where there are several."""
    split = "" if (folder / "qrels.tsv.gz").is_file() else f".{split}"
    documents = {
        row["_id"]: f"{row.get('title', '')} {row['text']}".strip()
        for row in lines_of(folder / "corpus.jsonl.gz")
    }
    relevant: dict[str, set[str]] = {}
    for row in read_table(folder / f"qrels{split}.tsv.gz"):
        if float(row["score"]) > 0:
            relevant.setdefault(row["query_id"], set()).add(row["doc_id"])
    queries = {row["_id"]: row["text"] for row in lines_of(folder / f"queries{split}.jsonl.gz")}
    queries = {name: text for name, text in queries.items() if name in relevant}
    return RetrievalSet(folder.resolve().name, documents, queries, relevant)


def read_sample(path: Path) -> RetrievalSet:
    """The sample of questions and answers: the answers to a question are what it is to find."""
    rows = list(read_table(path))
    documents = {str(number): row["answer"] for number, row in enumerate(rows)}
    queries = {question: question for question in dict.fromkeys(row["question"] for row in rows)}
    relevant: dict[str, set[str]] = {question: set() for question in queries}
    for number, row in enumerate(rows):
        relevant[row["question"]].add(str(number))
    return RetrievalSet("examples/data", documents, queries, relevant)


def lines_of(path: Path) -> Iterator[Mapping[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from (json.loads(line) for line in file)
