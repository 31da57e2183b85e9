"""Where results go: allocated once, filled in place by row number.

A sink learns the width of the rows from the first batch, allocates room for all rows, and writes each
batch to its places, so that nothing has to be joined or reordered in the end. Nothing here computes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor


class Sink(Protocol):
    """Takes results of rows, in any order."""

    def put(self, numbers: Sequence[int], results: Any) -> None:
        """Write the results of the rows with these numbers."""

    def repeat(self, first: np.ndarray) -> None:
        """Give row i what row `first[i]` got, where the two differ."""


class ArraySink:
    """Rows of one NumPy array, (n, D) or (n,)."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.array: np.ndarray | None = None

    def put(self, numbers: Sequence[int], results: Tensor) -> None:
        values = results.detach()
        if values.dtype == torch.bfloat16:  # NumPy has no such type
            values = values.float()
        block = values.cpu().numpy()
        if self.array is None:
            self.array = np.empty((self.rows, *block.shape[1:]), dtype=block.dtype)
        self.array[numbers] = block

    def repeat(self, first: np.ndarray) -> None:
        if self.array is not None:
            for some in _copies(first):
                self.array[some] = self.array[first[some]]


class TensorSink:
    """Rows of one tensor, (n, D) or (n,), on the device the results come from."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.tensor: Tensor | None = None

    def put(self, numbers: Sequence[int], results: Tensor) -> None:
        # Tensors made in inference mode could never take part in training.
        with torch.inference_mode(False):
            if self.tensor is None:
                self.tensor = torch.empty(
                    (self.rows, *results.shape[1:]), dtype=results.dtype, device=results.device
                )
        places = torch.as_tensor(np.asarray(numbers), device=results.device)
        with torch.inference_mode():
            self.tensor[places] = results

    def repeat(self, first: np.ndarray) -> None:
        if self.tensor is not None:
            for some in _copies(first):
                places = torch.as_tensor(some, device=self.tensor.device)
                sources = torch.as_tensor(first[some], device=self.tensor.device)
                self.tensor[places] = self.tensor[sources]


class ListSink:
    """A list with one entry for each row: results of different shapes, dictionaries."""

    def __init__(self, rows: int) -> None:
        self.items: list[Any] = [None] * rows

    def put(self, numbers: Sequence[int], results: Sequence[Any]) -> None:
        for number, result in zip(numbers, results):
            self.items[number] = _outside_inference_mode(result)

    def repeat(self, first: np.ndarray) -> None:
        for number in np.flatnonzero(first != np.arange(len(first))):
            self.items[number] = copy.deepcopy(self.items[first[number]])


def _copies(first: np.ndarray) -> Iterator[np.ndarray]:
    """Numbers of the rows that repeat another, some at a time: one indexing would double the memory."""
    copies = np.flatnonzero(first != np.arange(len(first)))
    for start in range(0, len(copies), 65536):
        yield copies[start : start + 65536]


def _outside_inference_mode(result: Any) -> Any:
    if isinstance(result, Tensor) and result.is_inference():
        with torch.inference_mode(False):
            return result.clone()
    if isinstance(result, dict):
        return {key: _outside_inference_mode(value) for key, value in result.items()}
    if isinstance(result, list):
        return [_outside_inference_mode(value) for value in result]
    return result
