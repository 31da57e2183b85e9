"""Ways to run a transformer, and to export one.

A front door: the names and their homes stand in `compat/moved.py`, and are resolved on first use.
"""

from __future__ import annotations

from typing import Any

from sentence_transformers.compat import moved

__all__ = moved.names_at(__name__)


def __getattr__(name: str) -> Any:
    return moved.find(__name__, name)


def __dir__() -> list[str]:
    return __all__
