"""Take the padding out of a batch before a transformer computes it, and put it back afterwards.

Training is handed padded batches, and a third of the work in them is often padding. Rows are laid one
after another, the shortest first, so that neighbours are of like length. Nothing here runs a model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sentence_transformers.inputs.packing import ROW_LENGTHS, PackedLayout

UNDERSTOOD = {"input_ids", "attention_mask", "token_type_ids"}
READ_BY_TRANSFORMERS = UNDERSTOOD | {"inputs_embeds", "position_ids"}


def applies_to(features: dict[str, Any], kwargs: dict[str, Any]) -> bool:
    """Whether the features are padded token ids and nothing else that a transformer reads."""
    mask = features.get("attention_mask")
    return (
        kwargs.keys() <= {"output_hidden_states"}
        and isinstance(mask, Tensor)
        and mask.dim() == 2
        and "input_ids" in features
        and READ_BY_TRANSFORMERS & features.keys() <= UNDERSTOOD
        and not torch.jit.is_tracing()
        and not torch.compiler.is_compiling()
    )


def pack(features: dict[str, Any], *, offset: int) -> tuple[dict[str, Any], PackedLayout, Tensor]:
    """Lay the tokens that the mask keeps one after another.

    Args:
        features: `input_ids` and `attention_mask` (B, T), perhaps `token_type_ids`.
        offset: Number of the first position in a row.

    Returns:
        Packed features, where the rows lie in them, and the place of each of their tokens among the B × T.
    """
    mask = features["attention_mask"].bool()
    lengths, order = mask.sum(dim=1).sort(stable=True)
    rows, columns = mask[order].nonzero(as_tuple=True)
    places = order[rows] * mask.shape[1] + columns  # (sum of lengths,)
    layout = PackedLayout.of(lengths.tolist())
    packed = {
        "input_ids": features["input_ids"].flatten()[places][None],
        "position_ids": layout.positions(offset).to(mask.device),
        "cu_seq_lens_q": layout.cumulative(mask.device),
        ROW_LENGTHS: list(layout.lengths),
    }
    if "token_type_ids" in features:
        packed["token_type_ids"] = features["token_type_ids"].flatten()[places][None]
    return packed, layout, places


def spread(tokens: Tensor, places: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Put packed tokens (sum of lengths, D) back to their places; the rest of (B, T, D) is zero."""
    batch, length = shape
    padded = tokens.new_zeros(batch * length, tokens.shape[-1])
    return padded.index_copy(0, places, tokens).view(batch, length, -1)
