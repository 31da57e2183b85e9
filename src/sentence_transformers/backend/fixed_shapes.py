"""Arithmetic that gives a row the same bits whatever stands beside it.

A matrix product on the CPU chooses its code by the number of rows, and code for the last few rows may add up in
another order: the last digits of a row then depend on how many others there are and on where it stands. Here rows
are computed in blocks of a few sizes, each of which has been tried on this machine: copies of one row at every
place of the block must give the same bits as in the smallest block. A size that fails is not used. What works on
its rows one by one (adding, normalising, looking up) needs none of this. Nothing here knows about models.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

LEAST_TOKENS = 16
"""Tokens of the smallest block; below eight, matrix products have code of their own for almost every number."""

STEP = 64
"""More tokens than this are filled up to a multiple of it: fewer sizes to try, and fewer blocks."""

LARGEST_BLOCK = 4096

FEWEST_DIFFERENT = 0.25
"""Share of different numbers in a result below which a trial shows nothing, as with weights that are all zero."""

_wanted: ContextVar[bool] = ContextVar("fixed_shapes", default=False)
_tried: dict[Hashable, bool] = {}


@contextmanager
def fixed_shapes() -> Iterator[None]:
    """Within the block, and in this thread, compute so that each row's bits are its own."""
    token = _wanted.set(True)
    try:
        yield
    finally:
        _wanted.reset(token)


def wanted() -> bool:
    """Whether this thread is within `fixed_shapes`."""
    return _wanted.get()


def filled_up(tokens: Tensor) -> Tensor:
    """Token ids or the like (T,) with zeros behind them, as many as whole blocks need."""
    count = len(tokens)
    least = STEP if count > STEP else LEAST_TOKENS
    return F.pad(tokens, (0, -count % least))


def by_blocks(
    compute: Callable[..., Any], *inputs: Tensor, out: Tensor, key: Hashable, least: int = LEAST_TOKENS
) -> Tensor:
    """Let `compute(*inputs, out)` fill `out`, some rows at a time.

    Args:
        compute: Makes each row of `out` of the same row of the inputs, or of what is in `out` already.
        *inputs: Tensors with as many rows as `out`.
        out: What to fill; a multiple of `least` rows.
        key: Names what is computed; what has been tried for a key and shapes is not tried again.
        least: Rows of the smallest block, which must have been found to be `possible` if there are several.

    Returns:
        `out`.
    """
    start, count = 0, out.shape[0]
    while start < count:
        size = least
        while size * 2 <= min(count - start, LARGEST_BLOCK):
            size *= 2
        while size > least and not holds(compute, *inputs, out=out, key=key, size=size, least=least):
            size //= 2
        stop = start + size
        compute(*(given[start:stop] for given in inputs), out[start:stop])
        start = stop
    return out


def possible(compute: Callable[..., Any], *inputs: Tensor, out: Tensor, key: Hashable) -> bool:
    """Whether places do not matter in the smallest block of tokens; arguments as in `by_blocks`."""
    return holds(compute, *inputs, out=out, key=key, size=LEAST_TOKENS, least=LEAST_TOKENS)


def holds(
    compute: Callable[..., Any], *inputs: Tensor, out: Tensor, key: Hashable, size: int, least: int
) -> bool:
    """Whether a row has the same bits at each place among `size` rows as at the first among `least`."""
    shapes = tuple((given.shape[1:], given.dtype) for given in (*inputs, out))
    trial = (key, shapes, size, least, torch.get_num_threads())
    found = _tried.get(trial)
    if found is None:
        few, many = (copies_computed(compute, inputs, out, count) for count in (least, size))
        found = torch.equal(many, few[:1].expand_as(many))
        if len(few[0].unique()) >= FEWEST_DIFFERENT * few[0].numel():
            _tried[trial] = found
    return found


def copies_computed(
    compute: Callable[..., Any], inputs: tuple[Tensor, ...], out: Tensor, count: int
) -> Tensor:
    """What becomes of so many copies of one row, as bits that can be compared, (count, …)."""
    generator = torch.Generator().manual_seed(0)
    *given, filled = (
        torch.randn(1, *one.shape[1:], generator=generator)
        .to(one.dtype)
        .expand(count, *one.shape[1:])
        .contiguous()
        for one in (*inputs, out)
    )
    compute(*given, filled)
    return filled.view(torch.int16 if filled.itemsize == 2 else torch.int32)
