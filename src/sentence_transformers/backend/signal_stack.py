"""The stack that signal handlers run on, kept as it was while a library is at work that replaces it.

OpenVINO gives the calling thread a stack of its own when it compiles a graph, and takes it back, with its memory,
when the compiled graph is freed. Where several are freed in another order than they were made, the thread is left
with a stack that is gone: the next signal that has a handler, such as the end of a data loader's worker, kills the
process without a word.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class SignalStack(ctypes.Structure):
    """`stack_t` of signal.h, as Linux lays it out."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Give this thread the signal stack back that it had before. Does nothing but on Linux."""
    if sys.platform != "linux":
        yield
        return
    before = signal_stack()
    try:
        yield
    finally:
        ctypes.CDLL(None).sigaltstack(ctypes.byref(before), None)


def signal_stack() -> SignalStack:
    """Where this thread's signal handlers run."""
    found = SignalStack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found))
    return found
