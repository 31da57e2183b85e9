"""Find the texts that are most alike: to queries (semantic search), or among themselves (paraphrase mining).

Results come as plain lists and dictionaries. How the best of many scores are found in bounded memory stands
in `tensors/topk.py`; models are known by their `encode` alone.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from sentence_transformers.tensors.blocks import check_sizes, device_of, is_dot_product, readable
from sentence_transformers.tensors.pairs import best_pairs
from sentence_transformers.tensors.similarity import cos_sim
from sentence_transformers.tensors.topk import MAX_QUERIES, Best
from sentence_transformers.tensors.topk import top_k as best_rows

Hit = dict[str, int | float]


def semantic_search(
    query_embeddings: Tensor,
    corpus_embeddings: Tensor,
    query_chunk_size: int = 100,
    corpus_chunk_size: int = 500000,
    top_k: int = 10,
    score_function: Callable[[Tensor, Tensor], Tensor] = cos_sim,
) -> list[list[Hit]]:
    """Find the entries of a corpus that are most alike to each query, exactly.

    The corpus is read block by block, so it may be a memory-mapped array larger than memory. Of entries that
    score the same, the first of the corpus comes first.

    Args:
        query_embeddings: One row per query, (Q, D), or one query, (D,): a tensor, dense or sparse, an array or
            a list. Scored where the corpus is.
        corpus_embeddings: One row per entry, (N, D).
        query_chunk_size: Queries that a function of yours scores at once at most. For the cosine and the dot
            product, and wherever memory would become large, sizes that suit the machine are taken.
        corpus_chunk_size: Entries that are scored at once at most.
        top_k: How many entries to find for each query.
        score_function: Takes rows of both, gives scores (q, n); higher is more alike.

    Returns:
        For each query a list of up to `top_k` dictionaries with `corpus_id`, the entry's number, and `score`,
        best first. Entries with a score that is NaN are left out.

    Raises:
        ValueError: If the widths of queries and corpus differ, or a size is below 1.

    Example:
        >>> hits = semantic_search(model.encode(["What flies?"]), model.encode(["Birds fly.", "Stones lie."]))
        >>> hits[0][0]["corpus_id"]
        0
    """
    check_sizes(query_chunk_size=query_chunk_size, corpus_chunk_size=corpus_chunk_size, top_k=top_k)
    queries, corpus = readable(query_embeddings), readable(corpus_embeddings)
    if len(queries) and len(corpus):
        check_widths(queries, corpus)
    best = best_rows(
        queries,
        corpus,
        top_k,
        similarity=score_function,
        max_queries=max(query_chunk_size, MAX_QUERIES)
        if is_dot_product(score_function)
        else query_chunk_size,
        max_rows=corpus_chunk_size,
        device=device_of(corpus),
    )
    return hits_of(best)


def information_retrieval(*args: Any, **kwargs: Any) -> list[list[Hit]]:
    """Older name of `semantic_search`; takes its arguments."""
    return semantic_search(*args, **kwargs)


def paraphrase_mining(
    model: Any,
    sentences: list[str],
    show_progress_bar: bool = False,
    batch_size: int = 32,
    query_chunk_size: int = 5000,
    corpus_chunk_size: int = 100000,
    max_pairs: int = 500000,
    top_k: int = 100,
    score_function: Callable[[Tensor, Tensor], Tensor] = cos_sim,
    truncate_dim: int | None = None,
    prompt_name: str | None = None,
    prompt: str | None = None,
) -> list[list[float | int]]:
    """Find the pairs of sentences that are most alike.

    Args:
        model: A model; its `encode` is called.
        sentences: The sentences.
        show_progress_bar: Whether to show progress while embedding.
        batch_size: Sentences of a batch at most.
        query_chunk_size: See `paraphrase_mining_embeddings`, as for the next four.
        corpus_chunk_size: See there.
        max_pairs: See there.
        top_k: See there.
        score_function: See there.
        truncate_dim: Keep this many leading dimensions of the embeddings; None for the model's own setting.
        prompt_name: Name of a prompt of the model.
        prompt: Put in front of each sentence.

    Returns:
        As of `paraphrase_mining_embeddings`.
    """
    optional = {"truncate_dim": truncate_dim, "prompt_name": prompt_name, "prompt": prompt}
    embeddings = model.encode(
        sentences,
        show_progress_bar=show_progress_bar,
        batch_size=batch_size,
        convert_to_tensor=True,
        # Models of other packages need not know what is not asked for.
        **{name: value for name, value in optional.items() if value is not None},
    )
    return paraphrase_mining_embeddings(
        embeddings,
        query_chunk_size=query_chunk_size,
        corpus_chunk_size=corpus_chunk_size,
        max_pairs=max_pairs,
        top_k=top_k,
        score_function=score_function,
    )


def paraphrase_mining_embeddings(
    embeddings: Tensor,
    query_chunk_size: int = 5000,
    corpus_chunk_size: int = 100000,
    max_pairs: int = 500000,
    top_k: int = 100,
    score_function: Callable[[Tensor, Tensor], Tensor] = cos_sim,
) -> list[list[float | int]]:
    """Find the pairs of embeddings that are most alike.

    A pair counts if one of the two is among the `top_k` others that are most alike to the other.

    Args:
        embeddings: One row each, (N, D).
        query_chunk_size: Rows whose neighbours are kept in memory at once.
        corpus_chunk_size: Rows that they are scored against at once at most.
        max_pairs: How many pairs to return at most: exactly the best ones.
        top_k: How many others each row is paired with at most.
        score_function: Takes rows twice, gives scores (n, m); higher is more alike, and the order of the two
            must not matter.

    Returns:
        Lists `[score, i, j]` with the numbers of two rows, i < j. Best first, then by i and j; each pair once.

    Raises:
        ValueError: If a size is below 1.
    """
    check_sizes(query_chunk_size=query_chunk_size, corpus_chunk_size=corpus_chunk_size, top_k=top_k)
    pairs = best_pairs(
        embeddings,
        max_pairs=max_pairs,
        neighbours=top_k,
        similarity=score_function,
        rows_at_once=query_chunk_size,
        max_rows=corpus_chunk_size,
    )
    return lists_of(pairs.scores, pairs.first, pairs.second)


def hits_of(best: Best) -> list[list[Hit]]:
    """The best rows as dictionaries, without the places of matches that are missing."""
    return [
        [{"corpus_id": row, "score": score} for row, score in zip(rows, scores, strict=True) if row >= 0]
        for rows, scores in zip(best.rows.tolist(), best.scores.tolist(), strict=True)
    ]


def lists_of(*columns: Tensor) -> list[list[float | int]]:
    """The rows of some columns, (P,) each, as lists of plain numbers."""
    # Every few hundred new lists, all lists are searched for cycles, which takes most of the time.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return list(map(list, zip(*(column.tolist() for column in columns), strict=True)))
    finally:
        if was_enabled:
            gc.enable()


def check_widths(queries: Any, corpus: Any) -> None:
    widths = [rows.shape[-1] for rows in (queries, corpus) if isinstance(rows, (Tensor, np.ndarray))]
    if len(set(widths)) > 1:
        raise ValueError(
            f"The queries are {widths[0]} numbers wide, and the corpus {widths[1]}. Pass embeddings of one model, "
            "truncated to the same width."
        )
