"""What a batch of outputs becomes before it goes into a sink.

Vectors cut and scaled as asked, token embeddings without padding, or one dictionary for each row. Pure
functions over a model's output; nothing here knows models or how batches are made.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sentence_transformers.inference.options import EncodeOptions
from sentence_transformers.inputs.packing import PackedLayout

NEVER_PER_ROW = frozenset({"cu_seq_lens_q", "row_lengths", "position_ids"})
"""Entries that describe a packed batch as a whole."""


def empty_result(options: EncodeOptions) -> Any:
    """What encoding nothing gives."""
    if options.output_value != "sentence_embedding":
        return []
    if options.convert_to_tensor:
        return torch.Tensor()
    return np.asarray([]) if options.convert_to_numpy else []


def finished(outputs: dict[str, Any], options: EncodeOptions) -> Any:
    """Results of a batch's rows: vectors (B, D), or a list of tensors or dictionaries."""
    if options.output_value == "token_embeddings":
        return token_rows(outputs)
    if "sentence_embedding" not in outputs:
        raise KeyError(
            f"The model gave no 'sentence_embedding', only {sorted(outputs)}. Does it end with a pooling module?"
        )
    vectors = outputs["sentence_embedding"]
    if options.truncate_dim is not None:
        vectors = vectors[..., : options.truncate_dim]
    if options.output_value is None:
        return dictionary_rows({**outputs, "sentence_embedding": vectors})
    if options.normalize:
        vectors = nn.functional.normalize(vectors.float(), p=2, dim=-1).to(vectors.dtype)
    return vectors


def token_rows(outputs: dict[str, Any]) -> list[Tensor]:
    """Token embeddings of each row without its padding, (tokens, D)."""
    tokens = outputs["token_embeddings"]
    layout = PackedLayout.read(outputs)
    if layout is not None:
        return list(tokens[0].split(list(layout.lengths)))
    mask = outputs.get("attention_mask")
    if mask is None:
        return list(tokens)
    return [row[kept.bool()] for row, kept in zip(tokens, mask)]


def dictionary_rows(outputs: dict[str, Any]) -> list[dict[str, Any]]:
    """The features of each row by themselves; what belongs to the whole batch goes to every row."""
    rows = len(outputs["sentence_embedding"])

    def share(value: Any, row: int) -> Any:
        if isinstance(value, Tensor):
            return value[row] if value.ndim and len(value) == rows else value
        if isinstance(value, (list, tuple)) and value:
            # One tensor for each layer, or one entry for each row.
            if all(isinstance(layer, Tensor) for layer in value):
                return [share(layer, row) for layer in value]
            return value[row] if len(value) == rows else value
        return value

    return [
        {name: share(value, row) for name, value in outputs.items() if name not in NEVER_PER_ROW}
        for row in range(rows)
    ]
