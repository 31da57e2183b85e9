"""Weights arranged for oneDNN, on the CPU.

A few tokens times a weight matrix is bound by how fast the matrix is read. oneDNN reads one that it has
arranged in blocks faster than one in the usual order, at the price of a second copy; and where each call costs as
much as some of the arithmetic, layers that read the same states become one, and what follows a layer (an activation,
a sum) is computed with it. A copy is made once layers have met small batches repeatedly, and made anew when a weight
has changed. Large batches gain nothing and use the layer's own weight, but for processors on which PyTorch's usual
library for products is slow: there a batch of any size gains. Nothing here knows about models.
"""

from __future__ import annotations

import platform
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

LARGEST_BATCH = 192
"""Tokens up to which the arranged weight is faster everywhere."""

BATCHES_BEFORE = 3
"""Small batches a layer meets before it gets an arranged weight: loading and one call should not pay."""

ALONE = 32
"""Tokens up to which a batch is computed as it is: a text by itself should not wait for rows that are not there."""

ARRANGED_FOR = 16
"""Tokens for which oneDNN is told to arrange a weight: the order for one is slower for all others, and from eight on
there is but one. Always the same, so that results do not depend on which batch came first."""

BATCH_TOKENS = 640
"""Tokens of a batch where it always pays: larger ones are no faster, and have further numbers of rows and larger
results, which the system would have to give and take."""

MANY = 512
"""Rows of which a sixteenth takes longer than to make code, if such a batch comes a few times."""

LEAST_STEP = 4
"""Further rows are filled up to a multiple of this, or of a part of their number: oneDNN makes code for each number
of rows it meets, which takes milliseconds, and for each product keeps half a MiB of it."""

SAMPLES = 8
"""Values of a weight that are looked at in every call; each is one read from main memory."""


class Source(NamedTuple):
    """A tensor that something was made from, as it looked then."""

    values: np.ndarray  # a view; while it lives, no other tensor comes to lie at the same address
    looked_at: np.ndarray  # some of the values
    address: int
    version: int
    sample: bytes


class Made(NamedTuple):
    """The arranged weight of layers that stand below one another, (all their outputs, in); of several, their biases."""

    weight: Tensor
    bias: Tensor | None

    def bias_of(self, layers: Sequence[Any]) -> Tensor | None:
        """The bias that belongs to the weight."""
        return layers[0].bias if len(layers) == 1 else self.bias


class Arranged:
    """The arranged weights of some layers, and how often they have been asked for in vain."""

    def __init__(self) -> None:
        self.asked = 0
        self.made: list[Made] | None = None
        self.sources: list[Source] = []


_arranged: WeakKeyDictionary[nn.Module, dict[int, Arranged]] = WeakKeyDictionary()
"""By the first of the layers and by how many there are."""
_making = threading.Lock()
NEVER, AT_ONCE, IN_USE = "never", "at once", "in use"
"""When a layer gets an arranged weight; usually once it has met enough batches."""

_when: ContextVar[str] = ContextVar("when", default=IN_USE)


@contextmanager
def never_arranged() -> Iterator[None]:
    """Within the block, and in this thread, layers use their own weights.

    An arranged weight gives other last digits, and whether there is one depends on what was computed before.
    """
    with _arranged_when(NEVER):
        yield


@contextmanager
def without_memory() -> Iterator[None]:
    """Within the block, and in this thread, results do not depend on what was computed before.

    Layers get arranged weights at once where any batch gains by them, and elsewhere never.
    """
    with _arranged_when(AT_ONCE if pays_for_any_batch() else NEVER):
        yield


@contextmanager
def _arranged_when(when: str) -> Iterator[None]:
    token = _when.set(when)
    try:
        yield
    finally:
        _when.reset(token)


@lru_cache(maxsize=1)
def available() -> bool:
    """Whether this PyTorch can arrange weights."""
    return torch.backends.mkldnn.is_available() and all(
        hasattr(torch.ops.mkldnn, name) for name in ("_reorder_linear_weight", "_linear_pointwise")
    )


@lru_cache(maxsize=1)
def kernels() -> tuple[Any, Any]:
    """oneDNN's linear layer, alone or with an activation, and the one that adds its result to something."""
    both = torch.ops.mkldnn._linear_pointwise
    return both.default, both.binary


@lru_cache(maxsize=1)
def largest_batch() -> int:
    """Tokens up to which the arranged weight is faster here.

    MKL, with which PyTorch multiplies, uses registers of 512 bits on Intel's own processors alone. Others that have
    them compute twice as fast by oneDNN, however many the tokens are.
    """
    is_slow = (
        torch.backends.mkl.is_available()
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and "GenuineIntel" not in processor_maker()
    )
    return sys.maxsize if is_slow else LARGEST_BATCH


def processor_maker() -> str:
    """What the system says of the processor, with the name that its maker has given it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("vendor_id"):
                return line
    return platform.processor()


def rows_filled(rows: int) -> int:
    """How many rows are computed where there are `rows`: an eighth more at most, of many a sixteenth."""
    if rows <= ALONE:
        return rows
    step = max(LEAST_STEP, 1 << (rows.bit_length() - (5 if rows > MANY else 4)))
    return -(-rows // step) * step


def pays(states: Tensor) -> bool:
    """Whether a batch of states (T, D) is one for arranged weights."""
    return len(states) <= largest_batch() and _when.get() != NEVER and can_compute(states)


def pays_for_any_batch() -> bool:
    """Whether oneDNN is faster here however many the tokens are, and whether or not a weight is arranged."""
    return largest_batch() == sys.maxsize


def always_pays(states: Tensor) -> bool:
    """The same, for states (T, D) like these."""
    return pays_for_any_batch() and can_compute(states)


def can_compute(states: Tensor) -> bool:
    """Whether oneDNN takes states (T, D) as they are."""
    return (
        states.device.type == "cpu"
        and states.dtype == torch.float32
        and torch.backends.mkldnn.enabled
        and available()
    )


def several(states: Tensor, layers: Sequence[Any]) -> list[Tensor] | None:
    """What layers make of the same states, (T, out) each; None where no weight is arranged yet."""
    made = made_of([layers], len(states))
    if made is None:
        return None
    rows = len(states)
    missing = rows_filled(rows) - rows
    if missing:
        states = torch.cat((states, states.new_zeros(missing, states.shape[1])))
    together = kernels()[0](states, made[0].weight, made[0].bias_of(layers), "none", [], "none")[:rows]
    if len(layers) == 1:
        return [together]
    return list(together.split([layer.out_features for layer in layers], dim=1))


def made_of(groups: Sequence[Sequence[Any]], rows: int) -> list[Made] | None:
    """The arranged weight of each group of layers, or None while they have not been asked for often enough.

    Layers of a group read the same states, and become one. What is asked for together is checked and made together.
    """
    first, count = groups[0][0], sum(map(len, groups))
    entries = _arranged.get(first)
    if entries is None:
        entries = _arranged.setdefault(first, {})
    entry = entries.get(count)
    if entry is None:
        entry = entries.setdefault(count, Arranged())
    sources = [source for group in groups for source in sources_of(group)]
    if entry.made is not None and all(map(is_current, entry.sources, sources)):
        return entry.made
    if not all(map(can_be_watched, sources)) or not all(map(can_be_one, groups)):
        return None
    entry.made = None
    # A large batch is worth the copy by itself.
    entry.asked += 1 if rows <= LARGEST_BATCH and _when.get() != AT_ONCE else 1 + BATCHES_BEFORE
    if entry.asked <= BATCHES_BEFORE:
        return None
    with _making:
        entry.sources = [as_it_looks(source) for source in sources]
        made = entry.made = [arrange(group) for group in groups]
        entry.asked = 0
    return made


def arrange(layers: Sequence[Any]) -> Made:
    """Arrange the weights of layers that read the same states."""
    weight = torch.cat([layer.weight.detach() for layer in layers])
    biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
    together = torch.cat(biases) if biases and len(layers) > 1 else None
    return Made(torch.ops.mkldnn._reorder_linear_weight(weight, ARRANGED_FOR), together)


def sources_of(layers: Sequence[Any]) -> list[Tensor]:
    """The tensors whose values go into an arranged weight; the bias of a layer by itself is used as it stands."""
    if len(layers) == 1:
        return [layers[0].weight]
    return [part for layer in layers for part in (layer.weight, layer.bias) if part is not None]


def can_be_one(layers: Sequence[Any]) -> bool:
    """Whether layers that read the same states can become one: all have a bias, or none has."""
    return len({layer.bias is None for layer in layers}) == 1


def can_be_watched(source: Tensor) -> bool:
    """Whether a change of a tensor could be told: those made in inference mode have no version."""
    return not source.is_inference() and source.is_contiguous()


def as_it_looks(source: Tensor) -> Source:
    """A tensor as it looks now."""
    values = source.detach().numpy().reshape(-1)
    looked_at = values[:: max(1, values.size // SAMPLES)]
    return Source(values, looked_at, source.data_ptr(), source._version, looked_at.tobytes())


def is_current(then: Source, now: Tensor) -> bool:
    """Whether a tensor is still what it was.

    Changes through `weight.data` count no version; samples show those, unless only few values changed.
    """
    return (
        then.address == now.data_ptr()
        and then.version == now._version
        and then.sample == then.looked_at.tobytes()
    )
