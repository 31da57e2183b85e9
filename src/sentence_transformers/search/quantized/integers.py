"""Dot products of whole numbers of eight bits, exact."""

from __future__ import annotations

import torch
from torch import Tensor

from sentence_transformers.tensors.vectors import full_precision

EXACT_WIDTH = 1024
"""So many products of up to 2**14 add up to 2**24 at most: float32 holds every whole number up to there."""

LARGEST_CODE = 127


def int8_products(a: Tensor, b: Tensor) -> Tensor:
    """Dot products (Q, N) of int8 rows (Q, D) and (N, D), exact: float32, or float64 if D is large."""
    with full_precision(a):
        parts = [
            left.float() @ right.float().mT
            for left, right in zip(a.split(EXACT_WIDTH, dim=1), b.split(EXACT_WIDTH, dim=1), strict=True)
        ]
    return parts[0] if len(parts) == 1 else torch.stack([part.double() for part in parts]).sum(dim=0)


def rounded_weights(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of floats (Q, D) as whole numbers from -127 to 127, int8, and what 1 stands for in each, (Q, 1)."""
    largest = weights.abs().amax(dim=1, keepdim=True)
    step = torch.where(largest > 0, largest / LARGEST_CODE, 1.0)
    return (weights / step).round().clamp(-LARGEST_CODE, LARGEST_CODE).to(torch.int8), step
