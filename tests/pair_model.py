"""A small classifier of pairs, for losses and evaluators that know models by their methods alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

WIDTH = 6


class PairModel(nn.Module):
    """Scores pairs by the letters of their texts: the mean of their vectors, dropout, and a linear head.

    Args:
        num_labels: Scores of a pair.
        dropout: Share of the numbers that are dropped while training.
    """

    def __init__(self, num_labels: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.num_labels = num_labels
        self.calls: list[int] = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.letters = nn.Embedding(256, WIDTH)
            self.head = nn.Linear(WIDTH, num_labels)
        self.dropout = nn.Dropout(dropout)
        self.double()

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    def preprocess(
        self, pairs: Sequence[tuple[str, str]], prompt: str = "", task: str | None = None
    ) -> dict[str, Any]:
        rows = [torch.tensor(list(f"{prompt}{a}|{b}".encode())) for a, b in pairs]
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return {"input_ids": ids, "attention_mask": (ids > 0).long(), "task": task}

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        mask = features["attention_mask"].unsqueeze(-1).double()
        self.calls.append(len(mask))
        means = (self.letters(features["input_ids"]).tanh() * mask).sum(1) / mask.sum(1)
        features["scores"] = self.head(self.dropout(means * 4))  # (P, num_labels)
        return features

    def scores(self, pairs: Sequence[tuple[str, str]]) -> Tensor:
        """Logits (P,) or (P, num_labels), with gradients."""
        return self(self.preprocess(pairs))["scores"].squeeze(1)
