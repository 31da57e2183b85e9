"""What the server's process does with its memory: what was freed goes back to the system."""

from __future__ import annotations

import ctypes
import gc
import time
from pathlib import Path

import pytest

from sentence_transformers.serve.memory import flat_memory, glibc, nothing_to_collect
from sentence_transformers.serve.metrics import resident_memory

SIZE, COUNT = 100_000, 600


@pytest.mark.skipif(glibc() is None or not Path("/proc/self/statm").exists(), reason="needs glibc and /proc")
def test_holes_between_what_lives_go_back_to_the_system():
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    library.malloc.argtypes = [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    pieces = [library.malloc(SIZE) for _ in range(COUNT)]
    for piece in pieces:
        ctypes.memset(piece, 1, SIZE)
    for piece in pieces[::2]:
        library.free(piece)
    full = resident_memory()[()]
    with flat_memory(seconds=0.05):
        until = time.monotonic() + 10
        while resident_memory()[()] > full - 0.8 * SIZE * COUNT / 2 and time.monotonic() < until:
            time.sleep(0.05)
    left = resident_memory()[()]
    for piece in pieces[1::2]:
        library.free(piece)
    assert full - left >= 0.8 * SIZE * COUNT / 2


def test_what_there_was_before_is_not_looked_at_again():
    before = gc.get_freeze_count()
    with nothing_to_collect():
        assert gc.get_freeze_count() > 1000
    assert gc.get_freeze_count() <= before
