"""Score the candidates of a coarse search again, with more precise embeddings.

Only the candidates' rows are read, a few queries at a time, so that memory stays within a budget however
large the corpus is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from sentence_transformers.tensors.blocks import ranges as ranges_of_rows
from sentence_transformers.tensors.topk import Best, stable_topk

DEFAULT_BYTES = 2**25


def rescored(
    queries: np.ndarray,
    candidates: np.ndarray,
    read: Callable[[np.ndarray], np.ndarray],
    k: int,
    *,
    max_bytes: int = DEFAULT_BYTES,
) -> Best:
    """The best k of each query's candidates by their dot products; of equal ones the first of the corpus.

    Args:
        queries: Float embeddings, (Q, D).
        candidates: Row numbers, (Q, C), each once for a query; -1 where a query has fewer candidates.
        read: Takes row numbers, sorted and each once, (n,), gives their embeddings, float32 (n, D).
        k: How many rows to keep for each query.
        max_bytes: Memory for the embeddings that are read at once.

    Returns:
        Scores and rows, (Q, min(k, C)). Candidates whose score is NaN are left out.
    """
    count, width = candidates.shape
    scores = np.full((count, width), -np.inf, dtype=np.float32)
    candidates = np.sort(candidates, axis=1)
    # Codes, what they stand for, and both once more in the order of the queries.
    bytes_of_a_query = 16 * max(1, width * queries.shape[1])
    for block in ranges_of_rows(count, max(1, max_bytes // bytes_of_a_query)):
        part = slice(block.start, block.stop)
        needed, place = np.unique(candidates[part], return_inverse=True)
        is_missing = int(len(needed) > 0 and needed[0] < 0)
        values = read(needed[is_missing:])
        if is_missing:
            values = np.concatenate([np.zeros((1, values.shape[1]), dtype=values.dtype), values])
        values = values[place.reshape(-1)].reshape(len(block), width, -1)  # (q, C, D)
        # Unlike a matrix product this adds up every row alike, so equal rows score the same.
        np.einsum("qd,qcd->qc", queries[part], values, out=scores[part], casting="same_kind")
    scores[(candidates < 0) | np.isnan(scores)] = -np.inf
    found, order = stable_topk(torch.from_numpy(scores), min(k, width))
    rows = torch.from_numpy(candidates).gather(1, order)
    return Best(found, torch.where(found > -torch.inf, rows, -1))
