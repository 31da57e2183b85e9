"""Convolutions over the tokens of a row.

After Kim 2014, "Convolutional neural networks for sentence classification", of which this is the layer
before the pooling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sentence_transformers.arguments import accepts_older_names
from sentence_transformers.modules.dimensions import AnswersDimension
from sentence_transformers.modules.with_weights import ModuleWithWeights


class CNN(AnswersDimension, ModuleWithWeights):
    """Replace the token embeddings by what several convolutions see around each token.

    Args:
        in_embedding_dimension: Width of the incoming token embeddings (older name:
            `in_word_embedding_dimension`).
        out_channels: Width of what each convolution gives; the outgoing width is this times the number of
            convolutions.
        kernel_sizes: Tokens that each convolution sees. Odd sizes keep the number of tokens.
        stride_sizes: Tokens that each convolution moves on by; None for 1. With other strides the tokens
            become fewer, so all convolutions have to agree on it.

    Raises:
        ValueError: If there are not as many strides as kernels.
    """

    config_file_name: str = "cnn_config.json"
    config_keys: list[str] = ["in_embedding_dimension", "out_channels", "kernel_sizes", "stride_sizes"]
    config_key_renames: dict[str, str] = {"in_word_embedding_dimension": "in_embedding_dimension"}

    @accepts_older_names(in_word_embedding_dimension="in_embedding_dimension")
    def __init__(
        self,
        in_embedding_dimension: int,
        out_channels: int = 256,
        kernel_sizes: Sequence[int] = [1, 3, 5],
        stride_sizes: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.in_embedding_dimension = in_embedding_dimension
        self.out_channels = out_channels
        self.kernel_sizes = list(kernel_sizes)
        self.stride_sizes = [1] * len(self.kernel_sizes) if stride_sizes is None else list(stride_sizes)
        if len(self.stride_sizes) != len(self.kernel_sizes):
            raise ValueError(
                f"stride_sizes={self.stride_sizes} does not fit kernel_sizes={self.kernel_sizes}: "
                f"pass {len(self.kernel_sizes)} strides, or None for a stride of 1 everywhere."
            )
        self.embeddings_dimension = out_channels * len(self.kernel_sizes)
        self.convs = nn.ModuleList(
            nn.Conv1d(in_embedding_dimension, out_channels, kernel, stride=stride, padding=(kernel - 1) // 2)
            for kernel, stride in zip(self.kernel_sizes, self.stride_sizes)
        )

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        """Replace `token_embeddings` (B, T, D) by (B, T', out_channels x convolutions).

        What stands in padding is taken as zero, as is what stands before and after a row; so a row's result
        does not depend on the rows it shares a batch with. Where T' is not T, `attention_mask` and
        `sentence_lengths` follow.

        Raises:
            ValueError: If the convolutions give different numbers of tokens.
        """
        tokens, mask = features["token_embeddings"], features.get("attention_mask")
        if mask is not None:
            tokens = tokens * mask.unsqueeze(-1).to(tokens.dtype)  # (B, T, D)
        channels = tokens.transpose(1, 2)  # (B, D, T)
        seen = [convolution(channels) for convolution in self.convs]  # each (B, out_channels, T')
        lengths = [values.shape[-1] for values in seen]
        if len(set(lengths)) > 1:
            raise ValueError(
                f"The convolutions give {lengths} tokens for one row, which cannot be joined. "
                "Choose kernel_sizes "
                f"(now {self.kernel_sizes}) that are all odd or all even, and stride_sizes (now "
                f"{self.stride_sizes}) that are all the same."
            )
        features["token_embeddings"] = torch.cat(seen, dim=1).transpose(1, 2)  # (B, T', out_channels x convs)
        if mask is not None and lengths[0] != mask.shape[1]:
            features["attention_mask"] = shortened = mask_after(mask, self.stride_sizes[0], lengths[0])
            if "sentence_lengths" in features:
                features["sentence_lengths"] = shortened.sum(dim=1)
        return features

    def get_embedding_dimension(self) -> int:
        """Width of the outgoing token embeddings."""
        return self.embeddings_dimension

    def get_config_dict(self) -> dict[str, Any]:
        """Configuration to save, under the keys that every release reads."""
        return {
            "in_word_embedding_dimension": self.in_embedding_dimension,
            "out_channels": self.out_channels,
            "kernel_sizes": self.kernel_sizes,
            "stride_sizes": self.stride_sizes,
        }

    def tokenize(self, text: str, **kwargs: Any) -> list[int]:
        """Not possible here: the first part of a model tokenizes.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("CNN does not tokenize. Call tokenize of the model or of its first part.")


def mask_after(mask: Tensor, stride: int, length: int) -> Tensor:
    """Mask (B, length) of the tokens that a convolution leaves of those in `mask` (B, T)."""
    return mask[:, ::stride][:, :length]
