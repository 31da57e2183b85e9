"""Embeddings as wide as a vocabulary, of which only few dimensions are active (not zero).

Nothing here knows what a dimension stands for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sentence_transformers.tensors.vectors import as_coo, as_floats, as_tensor, is_sparse

if TYPE_CHECKING:
    from scipy.sparse import coo_matrix


def compute_count_vector(embeddings: torch.Tensor) -> torch.Tensor:
    """In how many embeddings each dimension is active.

    Args:
        embeddings: Embeddings (B, V), dense or sparse, or one, (V,).

    Returns:
        Counts, (V,), int32.
    """
    embeddings = as_tensor(embeddings)
    if not is_sparse(embeddings):
        return (embeddings != 0).reshape(-1, embeddings.shape[-1]).sum(dim=0, dtype=torch.int32)
    embeddings = as_coo(embeddings)
    # A sparse tensor may hold zeros explicitly, which are not active.
    active = embeddings.indices()[-1][embeddings.values() != 0]
    return torch.bincount(active, minlength=embeddings.shape[-1]).to(torch.int32)


def select_max_active_dims(
    embeddings: np.ndarray | torch.Tensor, max_active_dims: int | None
) -> np.ndarray | torch.Tensor:
    """Keep the strongest dimensions of each embedding, by absolute value, and set the others to zero.

    Args:
        embeddings: Embeddings (B, V), or one, (V,). Left unchanged; gradients flow to what is kept.
        max_active_dims: How many dimensions to keep. More than there are keeps all.

    Returns:
        A tensor of the same shape, sparse if the input is. With None, the input itself.

    Raises:
        ValueError: If `max_active_dims` is below 1.
    """
    if max_active_dims is None:
        return embeddings
    if max_active_dims < 1:
        raise ValueError(
            f"max_active_dims={max_active_dims} leaves nothing of an embedding. Pass 1 or more, or None to "
            "keep all."
        )
    tensor = as_tensor(embeddings)
    if is_sparse(tensor):
        return strongest(tensor.to_dense(), max_active_dims).to_sparse()
    return strongest(tensor, max_active_dims)


def strongest(embeddings: Tensor, count: int) -> Tensor:
    """Dense embeddings (..., V) with all but the `count` largest values by magnitude set to zero."""
    if count >= embeddings.shape[-1]:
        return embeddings
    kept = embeddings.detach().abs().topk(count, dim=-1, sorted=False).indices  # (..., count)
    is_kept = torch.zeros_like(embeddings, dtype=torch.bool).scatter(-1, kept, True)
    return embeddings.masked_fill(~is_kept, 0)


def to_scipy_coo(x: Tensor) -> coo_matrix:
    """Embeddings as a scipy matrix in coordinate format, (B, V); one embedding (V,) becomes one row.

    Args:
        x: A sparse or dense tensor. Half precision, which scipy lacks, becomes float32.

    Raises:
        ImportError: If scipy is not installed.
    """
    try:
        from scipy.sparse import coo_matrix
    except ImportError as error:
        raise ImportError("Sparse matrices need scipy. Install it with: pip install -U scipy") from error
    x = as_floats(x.detach().cpu())
    x = (
        as_coo(x.unsqueeze(0) if x.dim() == 1 else x)
        if is_sparse(x)
        else torch.atleast_2d(x).to_sparse().coalesce()
    )
    row, column = x.indices().numpy()
    return coo_matrix((x.values().numpy(), (row, column)), shape=tuple(x.shape))
