"""Rows of embeddings, read and scored a block at a time.

Whatever searches, mines or clusters reads its rows here: tensors, dense or sparse, arrays, memory-mapped ones
and lists, of any number type, on any device. What is done with the scores stands in `topk.py` (the best for each
query) and `pairs.py` (pairs of one set).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sentence_transformers.tensors.similarity import (
    Similarity,
    cos_sim,
    dot_score,
    products,
    pytorch_cos_sim,
)
from sentence_transformers.tensors.vectors import (
    as_coo,
    as_floats,
    as_tensor,
    full_precision,
    in_common_precision,
    is_sparse,
    unit_vectors,
)

DOTS_OF_UNIT_VECTORS = (cos_sim, pytorch_cos_sim)
"""Similarities that normalise first, which is then done once for each block."""

GROUP = 32
"""Neighbouring scores of which only the largest is looked at first."""

Rows = Any
"""Embeddings (N, D): a tensor, dense or sparse, an array, or a memory-mapped one. Or a list of N things of any
kind that the similarity takes."""


def is_dot_product(similarity: Similarity) -> bool:
    """Whether a similarity is a dot product of rows as they are, or of rows of length 1."""
    return similarity is dot_score or similarity in DOTS_OF_UNIT_VECTORS


class BlockScorer:
    """Scores of some rows with some others.

    Args:
        similarity: Takes two blocks of rows, gives scores (n, m). The rows of the cosine and the dot product may
            be half precision, and are scored in float32.
        device: Where to score.
    """

    def __init__(self, similarity: Similarity, device: torch.device) -> None:
        self.similarity = similarity
        self.device = device
        self.normalises = similarity in DOTS_OF_UNIT_VECTORS
        self.is_dot_product = is_dot_product(similarity)

    def prepared(self, values: Rows, rows: range) -> Any:
        """Some rows as the similarity takes them: on the device, and normalised for a cosine."""
        block = some_rows(values, rows)
        if not isinstance(block, Tensor):
            return block
        block = block.to(self.device)
        if not self.is_dot_product:
            return block
        return unit_vectors(as_floats(block)) if self.normalises else as_floats(block)

    def scores(self, own: Any, block: Any) -> Tensor:
        """Scores (n, m) of two prepared blocks."""
        if not self.is_dot_product:
            return as_floats(self.similarity(own, block)).to(self.device)
        own, block = in_common_precision(own, block)
        with full_precision(own):
            return products(own, block)


def readable(values: Rows) -> Rows:
    """Rows of which a range can be read: a single vector becomes one row, a list of vectors an array."""
    if isinstance(values, (list, tuple)) and len(values):
        is_ragged = getattr(values[0], "ndim", 1) > 1 or isinstance(values[0], (str, Mapping))
        values = values if is_ragged else as_tensor(list(values))
    if isinstance(values, Tensor) and is_sparse(values):
        values = as_coo(values.unsqueeze(0) if values.dim() == 1 else values)
    return values[None] if isinstance(values, (Tensor, np.ndarray)) and values.ndim == 1 else values


def row_count(values: Rows) -> int:
    return values.shape[0] if isinstance(values, (Tensor, np.ndarray)) else len(values)


def device_of(values: Rows) -> torch.device:
    """Where the rows are; arrays are on the CPU."""
    first = values[0] if isinstance(values, (list, tuple)) and len(values) else values
    return first.device if isinstance(first, Tensor) else torch.device("cpu")


def bytes_of_a_row(values: Rows) -> int:
    """Memory that a row takes when it is scored."""
    if isinstance(values, Tensor) and is_sparse(values):
        # A value, and where it stands.
        return 20 * values.values().numel() // max(1, values.shape[0])
    first = values[0] if row_count(values) else values
    size = first.numel() if isinstance(first, Tensor) else getattr(first, "size", 1)
    return 4 * int(size)


def some_rows(values: Rows, rows: range) -> Any:
    """A range of rows: a tensor for an array or a tensor, without a copy where possible, or a list."""
    if not isinstance(values, Tensor) or not is_sparse(values):
        part = values[rows.start : rows.stop]
        return as_tensor(part) if isinstance(part, np.ndarray) else part
    # Coordinates without duplicates are in the order of the rows.
    edges = torch.tensor([rows.start, rows.stop], device=values.device)
    start, stop = torch.searchsorted(values.indices()[0].contiguous(), edges).tolist()
    indices = values.indices()[:, start:stop].clone()
    indices[0] -= rows.start
    return torch.sparse_coo_tensor(
        indices,
        values.values()[start:stop],
        (len(rows), *values.shape[1:]),
        is_coalesced=True,
        check_invariants=False,
    )


def check_sizes(**sizes: int | None) -> None:
    """Check sizes by argument name; None stands for no limit.

    Raises:
        ValueError: If one is below 1.
    """
    for name, size in sizes.items():
        if size is not None and size < 1:
            raise ValueError(f"{name}={size} lets nothing be found. Pass 1 or more.")


def ranges(count: int, size: int) -> Iterator[range]:
    """0 to count, in ranges of a size."""
    return (range(start, min(start + size, count)) for start in range(0, count, size))


def is_dense(values: Rows) -> bool:
    """Whether rows are a plain matrix of numbers, (N, D)."""
    if isinstance(values, Tensor):
        return values.dim() == 2 and not is_sparse(values)
    return isinstance(values, np.ndarray) and values.ndim == 2


def picked_rows(values: Tensor | np.ndarray, numbers: Tensor) -> Tensor:
    """Some rows of a matrix by their numbers; of a memory-mapped one, only these are read."""
    if isinstance(values, np.ndarray):
        return as_tensor(np.ascontiguousarray(values[numbers.numpy()]))
    picked = values.index_select(0, numbers.to(values.device))
    return picked.coalesce() if is_sparse(picked) else picked


def grouped(scores: Tensor, *, at_least_groups: int) -> Tensor:
    """Scores (q, n) in groups of neighbours, (q, G, g), filled up with minus infinity.

    With fewer groups than are wanted, all scores are of interest: then each is a group of its own.
    """
    if scores.shape[1] < at_least_groups * GROUP:
        return scores.unsqueeze(-1)
    missing = -scores.shape[1] % GROUP
    if missing:
        scores = functional.pad(scores, (0, missing), value=-torch.inf)
    return scores.reshape(len(scores), -1, GROUP)
