"""Dropout on the sentence embedding."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from sentence_transformers.modules.base import Module


class Dropout(Module):
    """Set random values of the sentence embedding to zero while training; does nothing in eval mode.

    Args:
        dropout: Share of the values to drop, in [0, 1]. The others are scaled up by 1 / (1 - dropout).
    """

    config_keys: list[str] = ["dropout"]
    reads_packed: ClassVar[bool] = True

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.dropout = dropout
        self.dropout_layer = nn.Dropout(dropout)

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        """Apply dropout to `sentence_embedding` (B, D)."""
        features["sentence_embedding"] = self.dropout_layer(features["sentence_embedding"])
        return features
