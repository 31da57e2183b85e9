"""How far apart two tokens are, told apart coarsely.

Some encoders add to an attention score what they have learned for the distance of its two tokens. Distances share
buckets, few where they are small and ever more of them where they are large. Nothing here knows about models.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MPNET_BUCKETS = 32
"""Distances are told apart by this many buckets, whatever the configuration says; it only sizes the table."""


def distance_buckets(length: int, buckets: int, device: torch.device, longest: int = 128) -> Tensor:
    """Bucket of the distance between each two positions, (L, L), after Raffel et al. 2020 (T5).

    Half of the buckets are for what lies before a token and half for what lies behind. In each half, near
    distances have a bucket each, and farther ones share buckets of logarithmically growing size.
    """
    position = torch.arange(length, device=device)
    distance = position[None, :] - position[:, None]
    half = buckets // 2
    near = half // 2
    # Computed for each size once, and for all sizes at once: the rounding of a logarithm depends on its place.
    sizes = torch.arange(longest + 1, device=device)
    far = near + (torch.log(sizes.clamp(min=1) / near) / math.log(longest / near) * (half - near)).long()
    of_size = torch.where(sizes < near, sizes, far.clamp(max=half - 1))
    return torch.where(distance > 0, half, 0) + of_size[distance.abs().clamp(max=longest)]
