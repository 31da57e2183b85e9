"""What a saved model says about itself: its card data, and the README made of them."""

from __future__ import annotations

import importlib
from typing import Any

HOME_OF = {
    "BaseModelCardCallback": "callbacks",
    "BaseModelCardData": "data",
    "ModelCardCallback": "callbacks",
    "SentenceTransformerModelCardCallback": "callbacks",
    "SentenceTransformerModelCardData": "data",
    "format_duration": "markdown",
    "format_log": "markdown",
    "generate_model_card": "card",
    "get_losses": "loss_facts",
    "get_versions": "versions",
}
"""The file of each public name. Resolved on first use, because the callbacks need transformers."""

__all__ = sorted(HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *HOME_OF})
