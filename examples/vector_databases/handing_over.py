"""What the examples of databases share: the passages, questions to ask, and the comparison with exact search.

How a database is filled and asked stands in the program of each.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path
from typing import Protocol

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))

from reading import options_parser, questions_and_answers

from sentence_transformers import SentenceTransformer, util

QUESTIONS = [
    "My big toe is suddenly swollen and hurts a lot. What could it be?",
    "How do I keep stones from forming in my kidneys again?",
    "What can older people do so that they hear better?",
]
TOP = 10
Rows = list[dict[str, str]]


class Database(Protocol):
    def fill(self, rows: Rows, embeddings: np.ndarray) -> None:
        """Store passages by their row number, with their embeddings (N, D)."""

    def find(self, embedding: np.ndarray, k: int, source: str | None) -> list[tuple[float, int]]:
        """Score and row number of the k nearest passages, of one source if it is given, best first."""


def parse_options(description: str | None, *, url: str | None) -> argparse.Namespace:
    parser = options_parser(description, limit=2000)
    parser.add_argument("--source", default=None, help="only passages of this source, such as NIDDK")
    if url is not None:
        parser.add_argument("--url", default=url, help=f"where the server answers ({url})")
    return parser.parse_args()


def fill_and_ask(database: Database, options: argparse.Namespace) -> None:
    """Put passages into a database, ask it questions, and print what it finds."""
    rows = questions_and_answers(options.data, options.limit)
    model = SentenceTransformer(options.model)
    embeddings = model.encode_document([row["answer"] for row in rows], normalize_embeddings=True)  # (N, D)
    database.fill(rows, embeddings)
    print(f"Stored {len(rows):,} passages with embeddings of {embeddings.shape[1]} numbers.")

    queries = model.encode_query(QUESTIONS, normalize_embeddings=True)  # (Q, D)
    for question, embedding in zip(QUESTIONS, queries, strict=True):
        print(question)
        for score, row in database.find(embedding, 3, options.source):
            answer = textwrap.shorten(rows[row]["answer"], 90, placeholder=" ...")
            print(f"  {score:.4f}  {rows[row]['source']}: {answer}")

    queries = model.encode_query([row["question"] for row in rows[:100]], normalize_embeddings=True)
    exact = util.semantic_search(queries, embeddings, top_k=TOP)
    shared = [
        len({row for _, row in database.find(embedding, TOP, None)} & {hit["corpus_id"] for hit in hits})
        for embedding, hits in zip(queries, exact, strict=True)
    ]
    wanted = sum(len(hits) for hits in exact)
    print(f"{len(queries)} questions: the database finds {sum(shared) / wanted:.1%} of the {TOP} nearest.")
