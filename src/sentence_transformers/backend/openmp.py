"""The threads by which PyTorch spreads one operation over a processor's cores, and when they are let go.

GNU's OpenMP, with which PyTorch is built for Linux, keeps helpers for every thread that ever computed. As long as all
of them together are no more than there are cores, they stay awake between one operation and the next. Where they are
more, they sleep at once and have to be woken for each of the hundreds of operations of a forward: a single text then
takes more than twice as long, though nobody else computes at the time. So a thread that may compute no more lets its
helpers go; it gets new ones when it does, at once. Elsewhere than with GNU's OpenMP nothing here does anything.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

FIRST_CALLS = 2
"""After so many calls of its own a thread is taken for one that goes on to compute; programs often try a model once
and then leave it to other threads."""

REMEMBERED = 60.0
"""Seconds for which threads are taken to share the work, since a different one computed than before."""

SOFT = 1
"""`omp_pause_soft`, with which OpenMP keeps its settings."""


class _Seen:
    """Who computed: the thread that did last, and when that last changed, on the monotonic clock."""

    thread: int | None = None
    changed = -REMEMBERED


_seen = _Seen()
_own = threading.local()


def release_helpers() -> None:
    """Let go of the helpers of the calling thread, which gets new ones with its next large operation."""
    pause = _pause()
    if pause is not None:
        pause(SOFT)


def keep_helpers() -> None:
    """Say that the calling thread computes for the others, and so keeps its helpers between calls."""
    _own.keeps = True


@contextmanager
def helpers_let_go() -> Iterator[None]:
    """Around what a thread computes for a caller: its helpers go afterwards, unless it computes again and again alone."""
    try:
        yield
    finally:
        if _may_end_here():
            release_helpers()


def _may_end_here() -> bool:
    """Whether another thread may be the next to compute."""
    now, thread = time.monotonic(), threading.get_ident()
    # Without a lock: at worst a thread keeps its helpers for one call more.
    if _seen.thread != thread:
        if _seen.thread is not None:
            _seen.changed = now
        _seen.thread = thread
    if getattr(_own, "keeps", False):
        return False
    _own.calls = getattr(_own, "calls", 0) + 1
    return _own.calls <= FIRST_CALLS or now - _seen.changed < REMEMBERED


@cache
def _pause() -> Callable[[int], int] | None:
    """OpenMP's function that ends a thread's helpers; None where it is another OpenMP than GNU's, or none."""
    maps, folder = Path("/proc/self/maps"), Path(torch.__file__).resolve().parent
    if not maps.exists():
        return None
    for line in maps.read_text(errors="replace").splitlines():
        path = line.partition("/")[2]
        if "libgomp" in path and Path("/" + path).is_relative_to(folder):
            try:
                # What is loaded already, and nothing else.
                return ctypes.CDLL("/" + path, mode=os.RTLD_NOW | os.RTLD_NOLOAD).omp_pause_resource_all
            except (OSError, AttributeError):  # older than GCC 9
                return None
    return None
