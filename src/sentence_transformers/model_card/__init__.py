"""What a saved model says about itself: its card data, and the README made of them.

The package is also a public path. Its names are resolved on first use, because the callbacks need
transformers; where they live stands in `compat/moved.py`.
"""

from __future__ import annotations

from typing import Any

from sentence_transformers.compat import moved

__all__ = moved.names_at(__name__)


def __getattr__(name: str) -> Any:
    return moved.find(__name__, name)


def __dir__() -> list[str]:
    return __all__
