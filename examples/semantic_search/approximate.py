"""What the examples of approximate search share: the texts, the exact search beside it, and the report.

How an index is built and asked stands in `ann_faiss.py`, `ann_usearch.py` and `ann_hnswlib.py`.
"""

from __future__ import annotations

import gzip
import re
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))

from reading import options_parser, questions_and_answers, some_of

from sentence_transformers import SentenceTransformer, util

TOP = 10
Search = Callable[[np.ndarray, int], np.ndarray]
"""Takes queries (Q, D) and k, gives the numbers of the rows found, (Q, k)."""


def compare(description: str | None, build: Callable[[np.ndarray], Search]) -> None:
    """Search sentences about health with an index and exactly, and print how the two differ.

    Args:
        description: The docstring of the program.
        build: Takes the embeddings of the sentences, unit vectors (N, D), and gives the search.
    """
    options = options_parser(description, limit=5000).parse_args()
    sentences = some_of(sentences_of(options.data), options.limit)
    questions = list(
        dict.fromkeys(row["question"] for row in questions_and_answers(options.data, options.limit))
    )[:500]
    model = SentenceTransformer(options.model)
    corpus = model.encode(sentences, normalize_embeddings=True)  # (N, D)
    queries = model.encode(questions, normalize_embeddings=True)  # (Q, D)

    started = time.perf_counter()
    search = build(corpus)
    seconds_to_build = time.perf_counter() - started
    seconds, found = timed(lambda: search(queries, TOP))
    exact_seconds, hits = timed(
        lambda: util.semantic_search(
            torch.from_numpy(queries),
            torch.from_numpy(corpus),
            top_k=TOP,
            score_function=util.dot_score,  # Of unit vectors, it is the cosine.
        )
    )
    exact = [[hit["corpus_id"] for hit in line] for line in hits]
    recall = np.mean([len({*a} & {*b}) / len(b) for a, b in zip(found.tolist(), exact, strict=True)])

    print(questions[0])
    for row in found[0, :3]:
        score = float(queries[0] @ corpus[row])
        print(f"  {score:.4f}  {textwrap.shorten(sentences[row], 100, placeholder=' ...')}")
    print(f"{len(sentences):,} sentences, {len(questions):,} questions, the first {TOP} of each")
    print(f"  exact search  {exact_seconds * 1000:8.1f} ms")
    print(f"  the index     {seconds * 1000:8.1f} ms, built in {seconds_to_build * 1000:.1f} ms")
    print(f"  recall        {recall:8.2%} of what exact search finds")


def timed(work: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    """How long work takes that was done once before, in seconds, and its result."""
    work()
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def sentences_of(folder: Path | None) -> list[str]:
    """Sentences of answers about health, each once."""
    if folder is not None:
        lines = gzip.decompress((folder / "text" / "medical.txt.gz").read_bytes()).decode("utf-8")
        return list(dict.fromkeys(lines.splitlines()))
    answers = " ".join(row["answer"] for row in questions_and_answers(None, 10**6))
    return list(dict.fromkeys(re.split(r"(?<=[.!?])\s+(?=[A-Z])", answers)))
