"""Layer normalisation of the sentence embedding."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from sentence_transformers.modules.dimensions import AnswersDimension
from sentence_transformers.modules.with_weights import ModuleWithWeights


class LayerNorm(AnswersDimension, ModuleWithWeights):
    """Shift and scale each sentence embedding to mean 0 and variance 1, with learned weight and bias.

    After Ba et al. 2016, "Layer normalization".

    Args:
        dimension: Width of the sentence embedding.
    """

    config_keys: list[str] = ["dimension"]
    reads_packed: ClassVar[bool] = True

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.dimension = dimension
        self.norm = nn.LayerNorm(dimension)

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        """Replace `sentence_embedding` (B, D) by its normalised form."""
        features["sentence_embedding"] = self.norm(features["sentence_embedding"])
        return features

    def get_embedding_dimension(self) -> int:
        """Width of the sentence embedding, which does not change here."""
        return self.dimension
