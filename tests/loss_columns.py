"""Columns of random vectors for losses, without a model: what `parts` says is all that counts.

Computed in float64, so that a definition written out in plain numbers is met to many digits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sentence_transformers.tensors.embeddings import Embeddings

ROWS, WIDTH = 6, 4


def made(columns: int, *, rows: int = ROWS, seed: int = 0) -> list[Tensor]:
    """Random vectors, (rows, WIDTH), for each column."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, WIDTH, generator=generator, dtype=torch.float64) for _ in range(columns)]


def value_of(loss: Any, columns: list[Tensor], labels: Any = None, **options: Any) -> Tensor:
    """The loss of these embeddings; `options` go to `parts`."""
    labels = None if labels is None else torch.as_tensor(labels)
    (part,) = loss.parts([Embeddings(column) for column in columns], labels, **options)
    return part.value


def gradients_are_those_of_small_differences(loss: Any, columns: list[Tensor], labels: Any = None) -> bool:
    leaves = [column.clone().requires_grad_() for column in columns]
    return torch.autograd.gradcheck(lambda *given: value_of(loss, list(given), labels), leaves)
