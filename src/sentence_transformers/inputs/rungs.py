"""The ladder of lengths that rows are padded to where every new shape costs a compilation or a memory pool."""

from __future__ import annotations

RUNGS = (8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)
"""Lengths to pad to."""


def rung(length: int) -> int:
    """The next length on the ladder, so that few distinct shapes occur; beyond its end multiples of 1024."""
    return next((step for step in RUNGS if length <= step), -(-length // 1024) * 1024)
