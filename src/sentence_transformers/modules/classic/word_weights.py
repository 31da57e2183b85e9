"""Weights of words on token embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from typing_extensions import Self

from sentence_transformers.arguments import accepts_older_names
from sentence_transformers.modules.base import Module, locate
from sentence_transformers.modules.classic.bow import weights_of
from sentence_transformers.storage.folder import PICKLED, SAFETENSORS


class WordWeights(Module):
    """Multiply each token embedding by the weight of its word, such as its inverse document frequency.

    Args:
        vocab: The words by token id, as in the tokenizer.
        word_weights: Weight of each word. A word that is not in it is looked up in lower case.
        unknown_word_weight: Weight of the words that have none in `word_weights`.
    """

    config_keys: list[str] = ["vocab", "word_weights", "unknown_word_weight"]

    def __init__(
        self, vocab: Sequence[str], word_weights: Mapping[str, float], unknown_word_weight: float = 1
    ) -> None:
        super().__init__()
        self.vocab = list(vocab)
        self.word_weights = dict(word_weights)
        self.unknown_word_weight = unknown_word_weight
        weights = torch.tensor(weights_of(self.vocab, self.word_weights, unknown_word_weight))  # (V,)
        self.emb_layer = nn.Embedding.from_pretrained(weights.unsqueeze(1), freeze=False)

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        """Replace `token_embeddings` (B, T, D) by the weighted ones, and those of padding by zeros.

        Adds `token_weights_sum` (B,), the sum of the weights in each row, by which mean pooling divides.
        """
        mask, tokens = features["attention_mask"], features["token_embeddings"]
        weights = self.emb_layer(features["input_ids"]).squeeze(-1) * mask.to(tokens.dtype)  # (B, T)
        features["token_embeddings"] = tokens * weights.unsqueeze(-1)  # (B, T, D)
        features["token_weights_sum"] = weights.sum(dim=1)  # (B,)
        return features

    def save(self, output_path: str, safe_serialization: bool = True, *args: Any, **kwargs: Any) -> None:
        """Write the configuration, and the weights as training has left them, into a folder."""
        del args, kwargs
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)

    @classmethod
    @accepts_older_names(input_path="model_name_or_path")
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        init_defaults: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load the part; the arguments are those of `Module.load`.

        Older folders have no weights file: then the weights are those of the configuration.
        """
        del kwargs
        where = locate(model_name_or_path, subfolder, token, cache_folder, revision, local_files_only)
        part = cls(**{**(init_defaults or {}), **cls.load_config(**where)})
        if any(cls.load_file_path(filename=name, **where) for name in (SAFETENSORS, PICKLED)):
            part = cls.load_torch_weights(model=part, **where)
        return part
