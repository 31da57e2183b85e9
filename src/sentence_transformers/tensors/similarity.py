"""How alike two embeddings are.

Each similarity comes as a matrix, every row of `a` against every row of `b`, and pairwise, row i against
row i. Higher is always more alike: distances are negated. `SimilarityFunction` names them for
configurations. Scores of token embeddings (one vector per token) stand in `late_interaction.py`.

All functions take tensors, arrays and (nested) lists; integers and half precision are computed in float32,
also under autocast. Tensors may be sparse, (N, D). Gradients flow through dense tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sentence_transformers.tensors.late_interaction import (
    maxsim,
    maxsim_pairwise,
    mean_maxsim,
    mean_maxsim_pairwise,
)
from sentence_transformers.tensors.vectors import (
    as_coo,
    full_precision,
    in_common_precision,
    is_sparse,
    unit_vectors,
)

Similarity = Callable[[Any, Any], Tensor]

SPARSE_BLOCK_ROWS = 512
"""Rows of sparse embeddings that are made dense at once for a distance."""


def cos_sim(a: list | np.ndarray | Tensor, b: list | np.ndarray | Tensor) -> Tensor:
    """Cosine similarity of every row of `a` with every row of `b`.

    Args:
        a: Embeddings, (N, D), or one, (D,).
        b: Embeddings, (M, D), or one, (D,).

    Returns:
        Scores in [-1, 1], (N, M). A zero vector scores 0 with everything.
    """
    a, b = rows_of(a, b)
    with full_precision(a):
        return products(unit_vectors(a), unit_vectors(b))


def pytorch_cos_sim(a: Tensor, b: Tensor) -> Tensor:
    """Older name of `cos_sim`."""
    return cos_sim(a, b)


def dot_score(a: list | np.ndarray | Tensor, b: list | np.ndarray | Tensor) -> Tensor:
    """Dot product of every row of `a` with every row of `b`; arguments and shape as in `cos_sim`."""
    a, b = rows_of(a, b)
    with full_precision(a):
        return products(a, b)


def euclidean_sim(a: list | np.ndarray | Tensor, b: list | np.ndarray | Tensor) -> Tensor:
    """Negated Euclidean distance of every row of `a` to every row of `b`; as in `cos_sim`.

    Computed from the differences, not from dot products, so that close rows keep their digits.
    """
    return negated_distances(a, b, order=2.0)


def manhattan_sim(a: list | np.ndarray | Tensor, b: list | np.ndarray | Tensor) -> Tensor:
    """Negated Manhattan distance of every row of `a` to every row of `b`; as in `cos_sim`."""
    return negated_distances(a, b, order=1.0)


def pairwise_cos_sim(a: Tensor, b: Tensor) -> Tensor:
    """Cosine similarity of each row of `a` with the same row of `b`.

    Args:
        a: Embeddings, (N, D), or one, (D,).
        b: Embeddings of the same shape, or one row for all.

    Returns:
        Scores in [-1, 1], (N,); a scalar tensor for two single embeddings. A zero vector scores 0.
    """
    a, b = in_common_precision(a, b)
    return row_sums(unit_vectors(a) * unit_vectors(b))


def pairwise_dot_score(a: Tensor, b: Tensor) -> Tensor:
    """Dot product of each row of `a` with the same row of `b`; as in `pairwise_cos_sim`."""
    a, b = in_common_precision(a, b)
    return row_sums(a * b)


def pairwise_euclidean_sim(a: list | np.ndarray | Tensor, b: list | np.ndarray | Tensor) -> Tensor:
    """Negated Euclidean distance of each row of `a` to the same row of `b`; as in `pairwise_cos_sim`."""
    a, b = in_common_precision(a, b)
    difference = a - b
    if is_sparse(difference):
        return -row_sums(difference * difference).sqrt()
    # Unlike a square root, the norm has a finite gradient where the rows are equal.
    return -torch.linalg.vector_norm(difference, dim=-1)


def pairwise_manhattan_sim(a: list | np.ndarray | Tensor, b: list | np.ndarray | Tensor) -> Tensor:
    """Negated Manhattan distance of each row of `a` to the same row of `b`; as in `pairwise_cos_sim`."""
    a, b = in_common_precision(a, b)
    return -row_sums((a - b).abs())


def pairwise_angle_sim(x: Tensor, y: Tensor) -> Tensor:
    """How close in angle each row of `x` is to the same row of `y`, in complex space.

    The first half of a vector is read as real parts, the second as imaginary parts. The similarity is
    |sum(re + im)| of the quotient x / y of these complex vectors, divided by the ratio of their norms.
    Li and Li 2023, "AnglE-optimized Text Embeddings". The loss of that name is built on it.

    Args:
        x: Embeddings, (N, D) with an even D, or one, (D,). Sparse ones are made dense.
        y: Embeddings of the same shape.

    Returns:
        Scores of zero or more, (N,). A zero vector scores 0.

    Raises:
        ValueError: If D is odd, which leaves a real part without its imaginary part.
    """
    x, y = in_common_precision(x, y)
    if x.shape[-1] % 2:
        raise ValueError(
            f"pairwise_angle_sim got embeddings of width {x.shape[-1]}, which cannot be halved into real and "
            "imaginary parts. Pass embeddings of an even width."
        )
    # Dividing by |y|² and by the ratio |x| / |y| leaves 1 / (|x| |y|): the product of unit vectors.
    x, y = (unit_vectors(vectors.to_dense() if is_sparse(vectors) else vectors) for vectors in (x, y))
    x_real, x_imaginary = x.chunk(2, dim=-1)  # (N, D / 2) each
    y_real, y_imaginary = y.chunk(2, dim=-1)
    real = x_real * y_real + x_imaginary * y_imaginary
    imaginary = x_imaginary * y_real - x_real * y_imaginary
    return (real + imaginary).sum(dim=-1).abs()


class SimilarityFunction(Enum):
    """The similarities a model can be configured with; the values stand in saved configurations."""

    COSINE = "cosine"
    DOT_PRODUCT = "dot"
    EUCLIDEAN = "euclidean"
    MANHATTAN = "manhattan"
    MAXSIM = "maxsim"
    MEAN_MAXSIM = "meanmaxsim"

    @staticmethod
    def to_similarity_fn(similarity_function: str | SimilarityFunction) -> Similarity:
        """The function that scores every row of one input against every row of another.

        Raises:
            ValueError: If there is no similarity of that name.
        """
        return SIMILARITIES[similarity_named(similarity_function)][0]

    @staticmethod
    def to_similarity_pairwise_fn(similarity_function: str | SimilarityFunction) -> Similarity:
        """The function that scores row i of one input against row i of another.

        Raises:
            ValueError: If there is no similarity of that name.
        """
        return SIMILARITIES[similarity_named(similarity_function)][1]

    @staticmethod
    def possible_values() -> list[str]:
        """The names that configurations may use."""
        return [function.value for function in SimilarityFunction]


SIMILARITIES: dict[SimilarityFunction, tuple[Similarity, Similarity]] = {
    SimilarityFunction.COSINE: (cos_sim, pairwise_cos_sim),
    SimilarityFunction.DOT_PRODUCT: (dot_score, pairwise_dot_score),
    SimilarityFunction.EUCLIDEAN: (euclidean_sim, pairwise_euclidean_sim),
    SimilarityFunction.MANHATTAN: (manhattan_sim, pairwise_manhattan_sim),
    SimilarityFunction.MAXSIM: (maxsim, maxsim_pairwise),
    SimilarityFunction.MEAN_MAXSIM: (mean_maxsim, mean_maxsim_pairwise),
}
"""The matrix and the pairwise form of each similarity."""


def similarity_named(name: str | SimilarityFunction) -> SimilarityFunction:
    try:
        return SimilarityFunction(name)
    except ValueError as error:
        known = ", ".join(repr(value) for value in SimilarityFunction.possible_values())
        raise ValueError(f"There is no similarity function {name!r}. Known: {known}.") from error


def rows_of(a: Any, b: Any) -> tuple[Tensor, Tensor]:
    """Two inputs as rows of floats of the same type: (N, D) and (M, D)."""
    a, b = in_common_precision(a, b)
    return (a.unsqueeze(0) if a.dim() == 1 else a), (b.unsqueeze(0) if b.dim() == 1 else b)


def products(a: Tensor, b: Tensor) -> Tensor:
    """Dot products (N, M) of the rows of (N, D) and (M, D), dense or sparse."""
    if is_sparse(b):
        if not is_sparse(a):
            return products(b, a).mT
        # A product of two sparse matrices is barely sparse, and torch has it in beta only.
        b = as_coo(b)
        used = torch.unique(b.indices()[1])
        a = in_columns(as_coo(a), used)
        blocks = [torch.sparse.mm(a, block.mT) for _, block in dense_blocks(b, used)]
        return torch.cat(blocks, dim=1) if blocks else a.values().new_zeros((a.shape[0], 0))
    return torch.sparse.mm(as_coo(a), b.mT) if is_sparse(a) else a @ b.mT


def in_columns(rows: Tensor, columns: Tensor) -> Tensor:
    """Sparse rows (N, D) without any but the given columns, which are numbered anew: (N, len(columns))."""
    row, column = rows.indices()
    kept = torch.isin(column, columns)
    place = torch.stack([row[kept], torch.searchsorted(columns, column[kept])])
    shape = (rows.shape[0], len(columns))
    return torch.sparse_coo_tensor(
        place, rows.values()[kept], shape, is_coalesced=True, check_invariants=False
    )


def negated_distances(a: Any, b: Any, *, order: float) -> Tensor:
    """Negated Minkowski distances (N, M) of the rows of `a` to the rows of `b`."""
    a, b = rows_of(a, b)
    with full_precision(a):
        if not is_sparse(a) and not is_sparse(b):
            return -torch.cdist(a, b, p=order, compute_mode="donot_use_mm_for_euclid_dist")
        a, b = (as_coo(rows) if is_sparse(rows) else rows.to_sparse_coo().coalesce() for rows in (a, b))
        distances = a.new_zeros((a.shape[0], b.shape[0]), layout=torch.strided)
        # Only columns that some row uses matter; a vocabulary has tens of thousands, most of them unused.
        used = torch.unique(torch.cat([a.indices()[1], b.indices()[1]]))
        for first_a, block_a in dense_blocks(a, used):
            for first_b, block_b in dense_blocks(b, used):
                block = torch.cdist(block_a, block_b, p=order, compute_mode="donot_use_mm_for_euclid_dist")
                distances[first_a : first_a + len(block_a), first_b : first_b + len(block_b)] = block
        return -distances


def dense_blocks(rows: Tensor, columns: Tensor) -> Iterator[tuple[int, Tensor]]:
    """The first row's number and the dense values of some rows at a time, in the given columns only."""
    row, column = rows.indices()
    place = torch.searchsorted(columns, column)
    for first in range(0, rows.shape[0], SPARSE_BLOCK_ROWS):
        last = min(first + SPARSE_BLOCK_ROWS, rows.shape[0])
        inside = (row >= first) & (row < last)
        block = rows.values().new_zeros((last - first, len(columns)))
        block[row[inside] - first, place[inside]] = rows.values()[inside]
        yield first, block


def row_sums(values: Tensor) -> Tensor:
    """Sums along the last dimension, as a dense tensor."""
    if not is_sparse(values):
        return values.sum(dim=-1)
    if values.dim() == 1:
        return as_coo(values).values().sum()
    return torch.sparse.sum(values, dim=-1).to_dense()
