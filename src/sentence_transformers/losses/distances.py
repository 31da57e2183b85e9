"""How far apart the rows of two columns are, and what settings call such a distance.

Distances take two matrices of vectors, (B, D), and give one number of zero or more for each row, (B,), in
float32. They are the similarities of `tensors/similarity.py` turned round.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from torch import Tensor

from sentence_transformers.storage.importing import similarity_fct_name
from sentence_transformers.tensors.similarity import (
    pairwise_cos_sim,
    pairwise_euclidean_sim,
    pairwise_manhattan_sim,
)

Distance = Callable[..., Tensor]


def cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """One minus the cosine of each row of `a` and the same row of `b`, (B,)."""
    return 1 - pairwise_cos_sim(a, b)


def euclidean_distance(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distance of each row of `a` to the same row of `b`, (B,); its gradient at 0 is 0."""
    return -pairwise_euclidean_sim(a, b)


def manhattan_distance(a: Tensor, b: Tensor) -> Tensor:
    """Manhattan distance of each row of `a` to the same row of `b`, (B,)."""
    return -pairwise_manhattan_sim(a, b)


def distance_name(distance: Distance, metrics: type[Enum]) -> str:
    """What settings call a distance: its name in `metrics`, as in `TripletDistanceMetric.COSINE`, or its own."""
    for name, member in vars(metrics).items():
        if isinstance(member, staticmethod) and member.__func__ is distance:
            return f"{metrics.__name__}.{name}"
    return similarity_fct_name(distance)
