"""A server that speaks OpenAI's protocol for embeddings, and reranks: `create_app` makes it, `serve` runs it.

pip install 'sentence-transformers[serve]'
sentence-transformers serve all-MiniLM-L6-v2 --reranker cross-encoder/ms-marco-MiniLM-L6-v2
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sentence_transformers.serve.app import create_app
    from sentence_transformers.serve.run import serve
    from sentence_transformers.serve.settings import Settings

__all__ = ["Settings", "create_app", "serve"]

HOMES = {"Settings": "settings", "create_app": "app", "serve": "run"}


def __getattr__(name: str) -> Any:
    # FastAPI is imported when a server is wanted, not before.
    if name in HOMES:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
