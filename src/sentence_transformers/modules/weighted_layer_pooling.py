"""One token embedding out of those of all layers of a transformer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sentence_transformers.arguments import accepts_older_names
from sentence_transformers.modules.dimensions import AnswersDimension
from sentence_transformers.modules.with_weights import ModuleWithWeights


class WeightedLayerPooling(AnswersDimension, ModuleWithWeights):
    """Replace the token embeddings by a weighted mean over the layers, with learned weights.

    The part before it has to hand on the embeddings of all its layers: a Transformer does when it is made
    with `config_kwargs={"output_hidden_states": True}`.

    Args:
        embedding_dimension: Width of the token embeddings (older name: `word_embedding_dimension`).
        num_hidden_layers: Layers of the transformer, without the embedding layer, which comes as number 0.
        layer_start: The first layer that counts.
        layer_weights: Weights to start from, one per layer from `layer_start` to `num_hidden_layers`
            (both included); None for equal weights.

    Raises:
        ValueError: If no layer counts, or if the number of weights is not the number of layers.
    """

    config_keys: list[str] = ["embedding_dimension", "layer_start", "num_hidden_layers"]
    config_key_renames: dict[str, str] = {"word_embedding_dimension": "embedding_dimension"}

    @accepts_older_names(word_embedding_dimension="embedding_dimension")
    def __init__(
        self,
        embedding_dimension: int,
        num_hidden_layers: int = 12,
        layer_start: int = 4,
        layer_weights: Tensor | Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        layers = num_hidden_layers + 1 - layer_start
        if layer_start < 0 or layers < 1:
            raise ValueError(
                f"layer_start={layer_start} leaves no layer of num_hidden_layers={num_hidden_layers}. "
                f"Pass 0 to {num_hidden_layers}."
            )
        weights = (
            torch.ones(layers) if layer_weights is None else torch.as_tensor(layer_weights).detach().float()
        )
        if weights.shape != (layers,):
            raise ValueError(
                f"layer_weights has the shape {tuple(weights.shape)}, but layers {layer_start} to "
                f"{num_hidden_layers} count: pass {layers} weights."
            )
        self.embedding_dimension = embedding_dimension
        self.num_hidden_layers = num_hidden_layers
        self.layer_start = layer_start
        self.layer_weights = nn.Parameter(weights.clone())

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        """Replace `token_embeddings` (B, T, D) by the weighted mean of `all_layer_embeddings`.

        Raises:
            ValueError: If the embeddings of all layers are not there, or are not as many as configured.
        """
        if "all_layer_embeddings" not in features:
            raise ValueError(
                "WeightedLayerPooling needs the embeddings of all layers, and the part before it gives only "
                "the last. Make the Transformer with config_kwargs={'output_hidden_states': True}."
            )
        layers = features["all_layer_embeddings"]
        if len(layers) != self.num_hidden_layers + 1:
            raise ValueError(
                f"WeightedLayerPooling is made for num_hidden_layers={self.num_hidden_layers}, but "
                f"the transformer gives {len(layers) - 1} and its embedding layer."
            )
        features["token_embeddings"] = weighted_mean(layers[self.layer_start :], self.layer_weights)
        return features

    def get_embedding_dimension(self) -> int:
        """Width of the token embeddings, which does not change here."""
        return self.embedding_dimension

    def get_config_dict(self) -> dict[str, Any]:
        """Configuration to save, under the keys that every release reads."""
        return {
            "word_embedding_dimension": self.embedding_dimension,
            "layer_start": self.layer_start,
            "num_hidden_layers": self.num_hidden_layers,
        }


def weighted_mean(layers: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Mean of L tensors of one shape, weighted by `weights` (L,)."""
    total = sum(weight * layer for weight, layer in zip(weights, layers, strict=True))
    return total / weights.sum()
