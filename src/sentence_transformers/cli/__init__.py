"""The command line, `sentence-transformers` or `python -m sentence_transformers`."""

from __future__ import annotations

from sentence_transformers.cli.main import main

__all__ = ["main"]
