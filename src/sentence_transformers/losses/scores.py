"""Score the embeddings of two columns, whatever their kind.

A similarity function takes matrices of vectors, or, for token embeddings, (B, T, D) with masks as
`tensors/late_interaction.py` has them. Losses call these two and need not know which.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from sentence_transformers.tensors.embeddings import Embeddings


def score(similarity: Callable[..., Tensor], a: Embeddings, b: Embeddings) -> Tensor:
    """Similarity of every row of `a` with every row of `b`, (A, B).

    Pairwise functions of one row each with one row, called with columns of equal length, give (B,).
    """
    if a.mask is None and b.mask is None:
        return similarity(a.values, b.values)
    return similarity(a.values, b.values, a.mask, b.mask)
