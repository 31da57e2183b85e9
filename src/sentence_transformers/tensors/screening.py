"""Rule most pairs of rows out by fewer numbers than the rows have, without ever ruling out a wrong one.

Rows are turned so that their leading numbers hold as much as possible (principal axes of a sample). The dot
product of two rows is that of their leading numbers plus that of the rest, and the rest is at most the product
of its lengths (Cauchy-Schwarz). With the length of the rest as one more number, the dot product of the shortened
rows is an upper bound of the true one. It costs a fraction, and a pair whose bound does not reach the threshold
cannot reach it either. How many numbers to keep is judged by the sample; where nothing is saved, there is no
screen.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sentence_transformers.tensors.blocks import BlockScorer, Rows, is_dense, picked_rows, ranges, row_count

SAMPLED_ROWS = 1024
"""Rows that the axes are taken from, and the worth of a screen is judged by."""

SHARES_OF_WIDTH = (1 / 8, 1 / 6, 1 / 4, 1 / 3, 1 / 2)
"""How many of the numbers to keep, of which the best is chosen."""

ROWS_FOR_EACH_NUMBER = 40
"""With fewer rows than this times their width, finding the axes takes too large a part of the time."""

COST_OF_RESCORING = 40.0
"""What scoring one pair by itself costs, in scores of a matrix product."""

WORTHWHILE = 0.85
"""Largest estimated cost, relative to scoring all in full, at which a screen is used."""

MAX_BYTES = 2**28
"""Memory for the shortened rows."""

ROWS_AT_ONCE = 4096

ROUNDING = 2.0**-24
"""Largest relative error of rounding to float32."""


@dataclass(frozen=True)
class Screen:
    """Shortened rows whose dot products bound those of the rows."""

    rows: Tensor
    """(N, k + 1): leading numbers, and the length of the rest."""

    threshold: float
    """A pair with a smaller bound is ruled out; lower than the true threshold by what rounding may do."""

    def bounds(self, rows: range, columns: range) -> Tensor:
        """Upper bounds (n, m) of the scores of some rows with some others."""
        return self.rows[rows.start : rows.stop] @ self.rows[columns.start : columns.stop].mT


def screen_for(embeddings: Rows, scorer: BlockScorer, threshold: float) -> Screen | None:
    """A screen of rows for pairs that reach a threshold; None where it would not pay.

    Args:
        embeddings: One row each, (N, D).
        scorer: What scores them. Only dot products and cosines on a CPU are screened.
        threshold: The score that a pair must reach.
    """
    if not scorer.is_dot_product or not is_dense(embeddings) or scorer.device.type != "cpu":
        return None
    count, width = row_count(embeddings), embeddings.shape[1]
    if count < ROWS_FOR_EACH_NUMBER * width:
        return None
    picked = (
        torch.randperm(count, generator=torch.Generator().manual_seed(count))[:SAMPLED_ROWS].sort().values
    )
    sample = scorer.prepared(picked_rows(embeddings, picked), range(len(picked)))
    if sample.dtype != torch.float32 or not sample.isfinite().all():
        return None
    axes = principal_axes(sample.double())  # (D, D)
    kept = numbers_to_keep(sample.double() @ axes, threshold, count)
    if kept is None:
        return None
    rows = torch.empty(count, kept + 1)
    largest = 0.0
    for part in ranges(count, ROWS_AT_ONCE):
        exact = scorer.prepared(embeddings, part).double()
        rows[part.start : part.stop], squares = shortened(exact, axes[:, :kept])
        largest = max(largest, float(squares.max())) if squares.isfinite().all() else torch.inf
        if largest == torch.inf:
            return None
    # Both the bound and the score that is compared in the end are sums of rounded products.
    error = (kept + width + 32) * ROUNDING * largest
    return Screen(rows, threshold - error)


def principal_axes(sample: Tensor) -> Tensor:
    """Orthonormal axes (D, D), as columns, in which a sample (S, D) has its largest numbers first."""
    return torch.linalg.eigh(sample.mT @ sample).eigenvectors.flip(1)


def shortened(rows: Tensor, axes: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (n, D) of float64 along k axes with the length of the rest, (n, k + 1), and their squared lengths."""
    leading = rows @ axes  # (n, k)
    squares = rows.square().sum(dim=1)  # (n,)
    rest = (squares - leading.square().sum(dim=1)).clamp(min=0).sqrt()
    # float64 is exact enough; rounding to float32 must not make the rest shorter.
    return torch.cat([leading, rest.unsqueeze(1) * (1 + 4 * ROUNDING)], dim=1).float(), squares


def numbers_to_keep(turned: Tensor, threshold: float, count: int) -> int | None:
    """How many leading numbers make a screen of `count` rows the cheapest, judged by a turned sample (S, D)."""
    width = turned.shape[1]
    some, others = turned[::4], torch.cat([turned[1::4], turned[2::4], turned[3::4]])
    identity = torch.eye(width, dtype=turned.dtype)
    best, least = None, WORTHWHILE
    for share in SHARES_OF_WIDTH:
        kept = max(1, round(share * width))
        if 4 * count * (kept + 1) > MAX_BYTES:
            break
        bounds = shortened(some, identity[:, :kept])[0] @ shortened(others, identity[:, :kept])[0].mT
        passing = float((bounds >= threshold).double().mean())
        cost = (kept + 1) / width + COST_OF_RESCORING * passing
        if cost < least:
            best, least = kept, cost
    return best
