"""Batches for models that make one vector of each input."""

from __future__ import annotations

from sentence_transformers.training.collator import BaseDataCollator


class SentenceTransformerDataCollator(BaseDataCollator):
    """Collates rows for a trainer; see `BaseDataCollator`."""
