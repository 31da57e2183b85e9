"""Turn what callers hold into tensors, and shorten or normalise embeddings.

Callers pass lists, arrays and tensors of any number type, dense or sparse. `as_tensor` is the one place
that reads them; `in_common_precision` says in which number type two of them are compared. What is then
computed (similarities, quantisation) stands in other files.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

EmbeddingsT = TypeVar("EmbeddingsT", Tensor, np.ndarray, list)

SMALLEST_NORM = 1e-12
"""A vector that is shorter counts as zero, and stays zero when it is normalised."""


def as_tensor(values: Any) -> Tensor:
    """Read numbers as a tensor, without a copy where that is possible.

    Args:
        values: A tensor (returned as it is), an array, or a list of tensors, arrays or numbers. Tensors in
            a list must have one shape; they may be sparse.
    """
    if isinstance(values, Tensor):
        return values
    if isinstance(values, (list, tuple)) and values:
        if isinstance(values[0], Tensor):
            return torch.stack(list(values))
        if isinstance(values[0], np.ndarray):
            values = np.stack(values)
    if isinstance(values, np.ndarray):
        # torch warns about memory that it must not write to; the copy is only made then.
        return torch.from_numpy(values if values.flags.writeable else values.copy())
    return torch.tensor(values)


def as_floats(values: Any) -> Tensor:
    """Read numbers as a tensor of float32 or float64: integers and half precision become float32.

    Scores of half precision would round close values to ties, which reorders a ranking.
    """
    tensor = as_tensor(values)
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def in_common_precision(a: Any, b: Any) -> tuple[Tensor, Tensor]:
    """Read two sets of numbers as floats of the same type: float64 if one of them is, else float32."""
    a, b = as_floats(a), as_floats(b)
    dtype = torch.promote_types(a.dtype, b.dtype)
    return a.to(dtype), b.to(dtype)


def full_precision(tensor: Tensor) -> AbstractContextManager[Any]:
    """Autocast switched off, where it is on: it would multiply in half precision."""
    kind = tensor.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def as_coo(tensor: Tensor) -> Tensor:
    """A sparse tensor of any layout, as coordinates without duplicates."""
    return (tensor if tensor.layout == torch.sparse_coo else tensor.to_sparse_coo()).coalesce()


def is_sparse(tensor: Tensor) -> bool:
    """Whether a tensor has one of the sparse layouts."""
    return tensor.layout != torch.strided


def normalize_embeddings(embeddings: EmbeddingsT) -> EmbeddingsT:
    """Scale each vector to length 1.

    Args:
        embeddings: Vectors along the last dimension, (..., D); a tensor, which may be sparse, (B, D), or an
            array or list.

    Returns:
        The same shape and number type; integers become float32. A zero vector stays zero. An array for an
        array, otherwise a tensor.
    """
    tensor = as_tensor(embeddings)
    dtype = tensor.dtype if tensor.is_floating_point() else torch.float32
    normalized = unit_vectors(as_floats(tensor)).to(dtype)
    return normalized.numpy() if isinstance(embeddings, np.ndarray) else normalized


def unit_vectors(vectors: Tensor) -> Tensor:
    """`normalize_embeddings` for a tensor of float32 or float64."""
    if not is_sparse(vectors):
        return functional.normalize(vectors, p=2, dim=-1, eps=SMALLEST_NORM)
    if vectors.dim() == 1:
        return unit_vectors(vectors.unsqueeze(0))[0]
    vectors = as_coo(vectors)
    row = vectors.indices()[0]  # (nonzero,)
    values = vectors.values()  # (nonzero,)
    squares = values.new_zeros(vectors.shape[0]).index_add(0, row, values.square())  # (B,)
    scaled = values / squares.sqrt().clamp(min=SMALLEST_NORM)[row]
    # The coordinates are the old ones, so they need no second check.
    return torch.sparse_coo_tensor(
        vectors.indices(), scaled, vectors.shape, is_coalesced=True, check_invariants=False
    )


def truncate_embeddings(embeddings: EmbeddingsT, truncate_dim: int | None) -> EmbeddingsT:
    """Keep the leading dimensions of each vector, as Matryoshka embeddings allow.

    Kusupati et al. 2022, "Matryoshka Representation Learning". The result is not normalised again.

    Args:
        embeddings: Vectors along the last dimension, (..., D); a tensor, an array, or a list of them.
        truncate_dim: How many dimensions to keep. None, or more than there are, keeps all.

    Returns:
        A view of the same kind, (..., min(D, truncate_dim)); a sparse tensor is copied.

    Raises:
        ValueError: If `truncate_dim` is below 1.
    """
    if truncate_dim is None:
        return embeddings
    if truncate_dim < 1:
        raise ValueError(
            f"truncate_dim={truncate_dim} leaves no dimension. Pass 1 or more, or None to keep them all."
        )
    if isinstance(embeddings, Sequence):
        return [truncate_embeddings(embedding, truncate_dim) for embedding in embeddings]
    if isinstance(embeddings, Tensor) and is_sparse(embeddings):
        width = embeddings.shape[-1]
        return as_coo(embeddings).narrow_copy(embeddings.dim() - 1, 0, min(width, truncate_dim))
    return embeddings[..., :truncate_dim]
