"""Principal components of embeddings: the directions in which they differ most.

Pearson (1901), "On lines and planes of closest fit to systems of points in space". Arithmetic on arrays alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Components:
    """Directions, the first with the largest variance.

    `directions` are orthonormal rows (D, D), `variances` what the embeddings vary along each, (D,), and `mean` their
    mean, (D,).
    """

    directions: np.ndarray
    variances: np.ndarray
    mean: np.ndarray

    def kept(self, width: int) -> float:
        """Share of the variance along the first directions."""
        return float(self.variances[:width].sum() / self.variances.sum())

    def projection(self, width: int, *, whiten: float = 0.0) -> np.ndarray:
        """The first directions as rows, (width, D).

        Args:
            width: How many.
            whiten: Each is divided by this power of its standard deviation, relative to the first.
        """
        if not whiten:
            return self.directions[:width]
        variances = self.variances[:width] / self.variances[0]
        # A direction in which nothing differs says nothing, and must not be blown up.
        scale = np.where(variances > 1e-12, variances.clip(min=1e-12) ** (-whiten / 2), 0.0)
        return self.directions[:width] * scale[:, None]


def principal_components(vectors: np.ndarray, rows_at_once: int = 65_536) -> Components:
    """The principal components of embeddings (N, D), which may lie on disk.

    Computed in double precision from their covariance. The sign of a direction is free; here its largest entry is
    positive, so that the same embeddings give the same directions.

    Raises:
        ValueError: If there are fewer than two embeddings, or they are all the same.
    """
    if len(vectors) < 2:
        raise ValueError(
            f"{len(vectors)} embeddings have no directions in which they differ. Pass more texts."
        )
    blocks = [slice(start, start + rows_at_once) for start in range(0, len(vectors), rows_at_once)]
    mean = sum(vectors[block].sum(axis=0, dtype=np.float64) for block in blocks) / len(vectors)
    covariance = np.zeros((vectors.shape[1],) * 2)
    for block in blocks:
        centred = vectors[block].astype(np.float64) - mean
        covariance += centred.T @ centred
    variances, directions = np.linalg.eigh(covariance / (len(vectors) - 1))
    variances, directions = variances[::-1].clip(min=0), directions.T[::-1]
    if not variances[0]:
        raise ValueError("The embeddings are all the same, and have no directions in which they differ.")
    largest = directions[np.arange(len(directions)), np.abs(directions).argmax(axis=1)]
    return Components(directions * np.sign(largest)[:, None], variances, np.asarray(mean))
