"""How alike two embeddings are.

Each similarity comes as a matrix, every row of `a` against every row of `b`, and pairwise, row i against
row i. Higher is always more alike: distances are negated. `SimilarityFunction` names them for
configurations. Scores of token embeddings (one vector per token) stand in `late_interaction.py`.

All functions take tensors, arrays and (nested) lists; integers and half precision are computed in float32,
also under autocast. Tensors may be sparse, (N, D). Gradients flow through dense tensors.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
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
"""Rows of sparse embeddings that are made dense at once."""


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

    Close rows keep their digits: no distance is the difference of two rounded float32 products.
    """
    a, b = rows_of(a, b)
    with full_precision(a):
        if is_sparse(a) or is_sparse(b):
            return -sparse_euclidean_distances(a, b)
        if a.device.type == "cpu" and a.dtype == torch.float32:
            # By way of dot products this is many times faster, and in float64 nothing is lost by it.
            distances = torch.cdist(a.double(), b.double(), compute_mode="use_mm_for_euclid_dist")
            return -distances.float()
        return -torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def manhattan_sim(a: list | np.ndarray | Tensor, b: list | np.ndarray | Tensor) -> Tensor:
    """Negated Manhattan distance of every row of `a` to every row of `b`; as in `cos_sim`."""
    a, b = rows_of(a, b)
    with full_precision(a):
        if is_sparse(a) or is_sparse(b):
            return -sparse_manhattan_distances(a, b)
        return -torch.cdist(a, b, p=1.0)


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
    if is_sparse(a) and is_sparse(b):
        use_up_beta_warning()
        return torch.sparse.mm(as_coo(a), as_coo(b).t()).to_dense()
    if is_sparse(a):
        # With rows that are not contiguous this is several times slower.
        return torch.sparse.mm(as_coo(a), b.mT.contiguous())
    return products(b, a).mT if is_sparse(b) else a @ b.mT


def dots_of_places(a: Tensor, b: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Dot products (P,) of chosen rows of (N, D) and (M, D), which come in the order of `row`, then of `column`.

    Some ten times faster than to copy the rows and multiply them.
    """
    use_up_beta_warning()
    starts = torch.searchsorted(row, torch.arange(len(a) + 1))  # (N + 1,)
    wanted = torch.sparse_csr_tensor(
        starts, column, a.new_zeros(len(row)), (len(a), len(b)), check_invariants=False
    )
    return torch.sparse.sampled_addmm(wanted, a, b.mT, beta=0.0).values()


@functools.cache
def use_up_beta_warning() -> None:
    """Let torch say, unheard, what it says once per process at the first product of sparse matrices."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        one = torch.ones(1, 1).to_sparse()
        torch.sparse.mm(one, one)


def sparse_euclidean_distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances (N, M) of rows of which some are sparse, computed in float64."""
    dtype = a.dtype
    a, b = a.double(), b.double()
    squares = row_sums(a * a).unsqueeze(1) + row_sums(b * b).unsqueeze(0) - 2 * products(a, b)
    return squares.clamp(min=0).sqrt().to(dtype)


def sparse_manhattan_distances(a: Tensor, b: Tensor) -> Tensor:
    """Manhattan distances (N, M) of rows of which some are sparse.

    The distance of x to y is |x| + |y| in every column that not both of them use. So only the columns that y
    uses are looked at, for many rows of `a` at a time.
    """
    a, b = (as_coo(rows if is_sparse(rows) else rows.to_sparse_coo()) for rows in (a, b))
    lengths_a, lengths_b = row_sums(a.abs()), row_sums(b.abs())  # (N,), (M,)
    distances = lengths_a.unsqueeze(1) + lengths_b.unsqueeze(0)  # (N, M)
    columns, values = b.indices()[1], b.values()
    ends = torch.searchsorted(b.indices()[0].contiguous(), torch.arange(len(b) + 1, device=b.device)).tolist()
    for first in range(0, len(a), SPARSE_BLOCK_ROWS):
        rows = range(first, min(first + SPARSE_BLOCK_ROWS, len(a)))
        block = a.index_select(0, torch.tensor(rows, device=a.device)).t().to_dense()  # (D, n)
        for number in range(len(b)):
            used = slice(ends[number], ends[number + 1])
            x, y = block[columns[used]], values[used].unsqueeze(1)  # (k, n), (k, 1)
            distances[rows.start : rows.stop, number] += ((x - y).abs() - x.abs() - y.abs()).sum(dim=0)
    return distances


def row_sums(values: Tensor) -> Tensor:
    """Sums along the last dimension, as a dense tensor."""
    if not is_sparse(values):
        return values.sum(dim=-1)
    if values.dim() == 1:
        return as_coo(values).values().sum()
    return torch.sparse.sum(as_coo(values), dim=-1).to_dense()
