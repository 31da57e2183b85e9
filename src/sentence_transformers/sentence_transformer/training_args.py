"""Arguments for training models that make one vector of each input."""

from __future__ import annotations

from dataclasses import dataclass

from sentence_transformers.training.arguments import BaseTrainingArguments


@dataclass
class SentenceTransformerTrainingArguments(BaseTrainingArguments):
    """Arguments of a training run; see `BaseTrainingArguments`."""
