"""Rotary positions: queries and keys turned by angles that grow with the position.

After Su et al. 2021, "RoFormer". The score of two tokens then depends on how far apart they are. A head's numbers are
taken in pairs, each of the first half with one of the second half, and a pair is a point in the plane that is turned.
Nothing here knows about models.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from sentence_transformers.backend import fixed_shapes

_KEY = "rotary"


class Turns(NamedTuple):
    """How far each token is turned: cosine and sine for each pair of numbers, (T, 1, D / 2)."""

    cosine: Tensor
    sine: Tensor


def turns_of(positions: Tensor, frequencies: Tensor, scaling: float, dtype: torch.dtype) -> Turns:
    """How far tokens are turned.

    Args:
        positions: Of the tokens, (T,).
        frequencies: The angle from one position to the next for each pair of numbers, (D / 2,).
        scaling: Factor on what is turned.
        dtype: Of the states to turn; angles are computed in float32.
    """
    angles = frequencies.float()
    places = positions.float()[:, None]
    found = places.new_empty(len(positions), 2 * len(frequencies))
    compute = partial(cosine_and_sine, angles)
    if fixed_shapes.wanted():
        fixed_shapes.by_blocks(compute, places, out=found, key=_KEY)
    else:
        compute(places, found)
    if scaling != 1:
        found *= scaling
    cosine, sine = found.to(dtype)[:, None].chunk(2, dim=-1)
    return Turns(cosine, sine)


def cosine_and_sine(frequencies: Tensor, positions: Tensor, out: Tensor) -> None:
    """Of the angle of each pair (D / 2,) at positions (T, 1), into `out` (T, D): first cosines, then sines."""
    half = len(frequencies)
    angles = positions * frequencies
    torch.cos(angles, out=out[:, :half])
    torch.sin(angles, out=out[:, half:])


def can_be_fixed(frequencies: Tensor) -> bool:
    """Whether places can be made not to matter for `turns_of`, see `fixed_shapes`."""
    places = torch.empty(0, 1, device=frequencies.device)
    return fixed_shapes.possible(
        partial(cosine_and_sine, frequencies.float()),
        places,
        out=places.new_empty(0, 2 * len(frequencies)),
        key=_KEY,
    )


def turn(states: Tensor, turns: Turns, spare: Tensor) -> None:
    """Turn each head's states (T, H, D) in place.

    Products and sums are separate steps: fused into one, they may be rounded otherwise at the end of a row.

    Args:
        states: Of any strides.
        turns: For its tokens.
        spare: Room for as many numbers, (2, T, H, D / 2).
    """
    first, second = states.chunk(2, dim=-1)
    torch.mul(first, turns.sine, out=spare[0])
    torch.mul(second, turns.sine, out=spare[1])
    first.mul_(turns.cosine).sub_(spare[1])
    second.mul_(turns.cosine).add_(spare[0])
