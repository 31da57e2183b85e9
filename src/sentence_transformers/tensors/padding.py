"""Move batches between devices, and between padded, joined and packed forms.

Padded means (B, T, ...) with a mask (B, T); packed means all rows one after another, (1, sum of T, ...),
with `cu_seq_lens_q` (B + 1,) saying where each row starts. Nothing here computes with the values.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

PACKED_ROWS = ("input_ids", "token_type_ids", "token_embeddings", "all_layer_embeddings")
"""Features that hold one entry per token, and so become padded."""

PACKED_ONLY = (
    "row_lengths",
    "cu_seq_lens_q",
    "cu_seq_lens_k",
    "max_length_q",
    "max_length_k",
    "position_ids",
    "seq_idx",
)
"""Features that only packed rows have."""


def batch_to_device(batch: dict[str, Any], target_device: torch.device) -> dict[str, Any]:
    """Move the tensors of a batch to a device.

    Args:
        batch: Features or columns; other values than tensors stay as they are. Changed in place.
        target_device: Where the tensors shall be.

    Returns:
        The same batch.
    """
    for key, value in batch.items():
        if isinstance(value, Tensor):
            batch[key] = value.to(target_device)
    return batch


def cat_padded_token_embeddings(embeddings: list[Tensor], masks: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Join batches of token embeddings that were padded to different lengths, along the rows.

    Args:
        embeddings: Token embeddings, (B_i, T_i, D) each.
        masks: Their masks, (B_i, T_i) each.

    Returns:
        Token embeddings (sum of B_i, T, D), where T is the largest T_i, and their mask. Padding is zero.

    Raises:
        ValueError: If there is no batch at all.
    """
    embeddings, masks = pad_to_longest(embeddings, masks)
    return torch.cat(embeddings), torch.cat(masks)


def stack_padded_token_embeddings(embeddings: list[Tensor], masks: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Put batches of token embeddings that were padded to different lengths side by side: n per row.

    Args:
        embeddings: n batches of token embeddings with the same number of rows, (B, T_i, D) each.
        masks: Their masks, (B, T_i) each.

    Returns:
        Token embeddings (B, n, T, D), where T is the largest T_i, and their mask (B, n, T). Padding is zero.

    Raises:
        ValueError: If there is no batch, or if the batches have different numbers of rows.
    """
    embeddings, masks = pad_to_longest(embeddings, masks)
    rows = [len(batch) for batch in embeddings]
    if len(set(rows)) > 1:
        raise ValueError(
            f"Batches with different numbers of rows cannot be stacked: {rows}. "
            "Use cat_padded_token_embeddings to join them along the rows."
        )
    return torch.stack(embeddings, dim=1), torch.stack(masks, dim=1)


def pad_to_longest(embeddings: list[Tensor], masks: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Pad token embeddings (B_i, T_i, D) and masks (B_i, T_i) with zeros to the largest T_i."""
    if not embeddings or len(embeddings) != len(masks):
        raise ValueError(
            f"Need token embeddings and as many masks, got {len(embeddings)} of the first and {len(masks)} "
            "of the second."
        )
    longest = max(batch.shape[1] for batch in embeddings)
    # `bool` and `int64` masks may come together, which `torch.stack` would refuse.
    mask_type = masks[0].dtype
    for mask in masks:
        mask_type = torch.promote_types(mask_type, mask.dtype)
    return (
        [functional.pad(batch, (0, 0, 0, longest - batch.shape[1])) for batch in embeddings],
        [functional.pad(mask.to(mask_type), (0, longest - mask.shape[1])) for mask in masks],
    )


def repad_flattened_features(features: dict[str, Any]) -> dict[str, Any]:
    """Turn packed features into padded ones.

    Args:
        features: Features with `cu_seq_lens_q` (B + 1,). Changed in place. Features that are not packed are
            left alone.

    Returns:
        The same dictionary: `input_ids` and `token_type_ids` are (B, T), `token_embeddings` (B, T, D), each
        padded with zeros to the longest row; `attention_mask` (B, T) is true where there is a token; what
        only packed rows have is gone.
    """
    if "cu_seq_lens_q" not in features:
        return features
    starts = features["cu_seq_lens_q"].long()  # (B + 1,)
    lengths = starts.diff()  # (B,)
    mask = torch.arange(int(lengths.max()) if len(lengths) else 0, device=starts.device) < lengths.unsqueeze(
        1
    )
    for key in PACKED_ROWS:
        value = features.get(key)
        if isinstance(value, Tensor):
            features[key] = pad_packed(value, mask)
        elif isinstance(value, (list, tuple)):
            features[key] = type(value)(pad_packed(layer, mask) for layer in value)
    features["attention_mask"] = mask
    for key in PACKED_ONLY:
        features.pop(key, None)
    return features


def pad_packed(packed: Tensor, mask: Tensor) -> Tensor:
    """Spread packed rows (1, sum of T, ...) over (B, T, ...), at the places where the mask (B, T) is true."""
    mask = mask.to(packed.device)
    padded = packed.new_zeros((*mask.shape, *packed.shape[2:]))
    # Not in place on a tensor that is then used again, so that gradients flow through.
    return padded.index_put(tuple(mask.nonzero(as_tuple=True)), packed[0])
