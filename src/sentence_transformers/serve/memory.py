"""What keeps the memory of a server's process as it is once it is warm. Nothing here serves."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MAPPED_BYTES = 4 * 2**20
"""What is larger, glibc takes from the system and gives back, each by itself; otherwise it does so up to 32 MiB less
and less, and large tensors lie among small ones."""

KEPT_BYTES = 32 * 2**20
"""What glibc keeps at the end of the memory of a thread: to take it from the system for each batch costs more."""

GIVEN_BACK_EVERY = 5.0
"""Seconds. It takes some milliseconds each time."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""As `malloc.h` has it."""


@contextmanager
def flat_memory(seconds: float = GIVEN_BACK_EVERY) -> Iterator[None]:
    """Within the block, memory that was freed goes back to the system, where the C library is glibc.

    Batches are of many sizes, and each result lives on until its caller has it: in between, holes are left that
    larger tensors do not fit into. Without end they grow slowly, to about as much again as what is used.

    Args:
        seconds: How often to look for holes.
    """
    library = glibc()
    if library is None:
        yield
        return
    library.mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES)
    library.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
    is_over = threading.Event()

    def give_back() -> None:
        while not is_over.wait(seconds):
            library.malloc_trim(0)

    giver = threading.Thread(target=give_back, daemon=True, name="memory")
    giver.start()
    try:
        yield
    finally:
        is_over.set()
        giver.join()


@contextmanager
def nothing_to_collect() -> Iterator[None]:
    """Within the block, Python's collector leaves alone what there was before: models and modules, which stay."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def glibc() -> Any:
    """The C library of this process, where it has glibc's functions for memory; otherwise None."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    try:
        library = ctypes.CDLL(None)
        return library if library.mallopt and library.malloc_trim else None
    except (AttributeError, OSError):
        return None
