"""Weights arranged for small batches on the CPU.

A few tokens times a weight matrix is bound by how fast the matrix is read. oneDNN reads one that it has
arranged in blocks about twice as fast as one in the usual order, at the price of a second copy. A copy is
made once a layer has met small batches repeatedly, and made anew when the layer's weight has changed.
Large batches gain nothing and use the layer's own weight. Nothing here knows about models.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

LARGEST_BATCH = 192
"""Tokens up to which the arranged weight is faster."""

BATCHES_BEFORE = 3
"""Small batches a layer meets before it gets an arranged weight: loading and one call should not pay."""


SAMPLES = 8
"""Values of a weight that are looked at in every call; each is one read from main memory."""


class Made(NamedTuple):
    """An arranged weight, and how its source looked when it was made."""

    weight: Tensor
    values: np.ndarray  # a view; while it lives, no other tensor comes to lie at the same address
    address: int
    version: int
    sample: bytes


class Arranged:
    """The arranged weight of one layer, and how often it has been asked for in vain."""

    def __init__(self) -> None:
        self.asked = 0
        self.made: Made | None = None


_arranged: WeakKeyDictionary[nn.Module, Arranged] = WeakKeyDictionary()
_making = threading.Lock()
_pays: ContextVar[bool] = ContextVar("pays", default=True)


@contextmanager
def never_arranged() -> Iterator[None]:
    """Within the block, and in this thread, layers use their own weights.

    An arranged weight gives other last digits, and whether there is one depends on what was computed before.
    """
    token = _pays.set(False)
    try:
        yield
    finally:
        _pays.reset(token)


@lru_cache(maxsize=1)
def available() -> bool:
    """Whether this PyTorch can arrange weights."""
    return torch.backends.mkldnn.is_available() and all(
        hasattr(torch.ops.mkldnn, name) for name in ("_reorder_linear_weight", "_linear_pointwise")
    )


def pays(states: Tensor) -> bool:
    """Whether a batch of states (T, D) is one for arranged weights."""
    return (
        len(states) <= LARGEST_BATCH
        and _pays.get()
        and states.device.type == "cpu"
        and states.dtype == torch.float32
        and torch.backends.mkldnn.enabled
        and available()
    )


def linear(states: Tensor, layer: Any, buffer: Tensor) -> Tensor:
    """A linear layer for a small batch, (T, out); `buffer` may be overwritten by the result."""
    weight = weight_of(layer, len(states))
    if weight is not None:
        return torch.ops.mkldnn._linear_pointwise(states, weight, layer.bias, "none", [], "none")
    if layer.bias is None:
        return torch.mm(states, layer.weight.t(), out=buffer)
    return torch.addmm(layer.bias, states, layer.weight.t(), out=buffer)


def weight_of(layer: Any, rows: int) -> Tensor | None:
    """The arranged weight of a layer, or None while it has not been asked for often enough."""
    weight: Tensor = layer.weight
    entry = _arranged.get(layer)
    if entry is None:
        entry = _arranged.setdefault(layer, Arranged())
    made = entry.made
    if made is not None and is_current(made, weight):
        return made.weight
    if weight.is_inference() or not weight.is_contiguous():
        return None  # the first kind has no version by which a change could be told
    entry.made = None
    entry.asked += 1
    if entry.asked <= BATCHES_BEFORE:
        return None
    with _making:
        values = weight.detach().numpy().reshape(-1)
        version, sample = weight._version, sample_of(values)
        arranged = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), rows)
        entry.made, entry.asked = Made(arranged, values, weight.data_ptr(), version, sample), 0
    return arranged


def is_current(made: Made, weight: Tensor) -> bool:
    """Whether a weight is still what an arranged one was made from.

    Changes through `weight.data` count no version; samples show those, unless only few values changed.
    """
    return (
        made.address == weight.data_ptr()
        and made.version == weight._version
        and made.sample == sample_of(made.values)
    )


def sample_of(values: np.ndarray) -> bytes:
    """Some values, spread over a flat array."""
    return values[:: max(1, values.size // SAMPLES)].tobytes()
