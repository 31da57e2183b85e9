"""Attention in which a token sees only those near it, on the CPU.

Of a long row nearly all scores lie outside the window. So some queries at a time are computed, against the keys that
any of them sees: the work grows with the length of a row, not with its square.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

LEAST_BLOCK = 64
"""Queries computed at a time with a narrow window."""

LARGEST_BLOCK = 512
"""The same with a wide one: a mask of it is kept."""


def attention_within_window(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    *,
    window: int,
    is_causal: bool,
    scale: float | None,
) -> None:
    """Attention within rows of one length, (B, H, T, D) each, into `out` (B, T, H, D).

    Args:
        query: Queries.
        key: Keys.
        value: Values.
        out: Gets the result.
        window: A token sees those less than this many positions away.
        is_causal: Whether it sees none behind it.
        scale: Factor on the scores; None for 1 / sqrt(D).
    """
    length, reach = query.shape[2], window - 1
    block = min(max(LEAST_BLOCK, reach), LARGEST_BLOCK)
    mask = band(block, reach, is_causal, query.dtype)  # of all blocks; those at an end of the row use a part
    for start in range(0, length, block):
        stop = min(start + block, length)
        first, last = max(0, start - reach), min(length, stop if is_causal else stop + reach)
        left = first - (start - reach)
        seen = F.scaled_dot_product_attention(
            query[:, :, start:stop],
            key[:, :, first:last],
            value[:, :, first:last],
            attn_mask=mask[: stop - start, left : left + last - first],
            scale=scale,
        )
        out[:, start:stop] = seen.transpose(1, 2)


@lru_cache(maxsize=4)
def band(block: int, reach: int, is_causal: bool, dtype: torch.dtype) -> Tensor:
    """What is added to the scores of a block of queries, (block, block + 2 × reach): 0 for the near, else -inf.

    The first key lies `reach` positions before the first query.
    """
    with torch.inference_mode(False):  # it is kept, and may be needed outside of the mode
        distance = torch.arange(block + 2 * reach)[None, :] - reach - torch.arange(block)[:, None]
        is_near = (distance >= -reach) & (distance <= (0 if is_causal else reach))
        return torch.zeros(is_near.shape, dtype=dtype).masked_fill_(~is_near, -torch.inf)
