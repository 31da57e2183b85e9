"""The layers of BERT and its relatives in few calls, with arranged weights (`arranged.py`), on the CPU.

Where there are few tokens, such as in a query by itself, each call costs as much as some of the arithmetic. So queries,
keys and values come from one product, the activation and the sums are computed with the products before them, and
the weights of all layers are checked at once. The order of a layer's parts is that of `bert.Family.parts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sentence_transformers.backend import arranged
from sentence_transformers.backend.activations import Activation
from sentence_transformers.backend.arranged import Made
from sentence_transformers.backend.attention import packed_attention
from sentence_transformers.inputs.packing import PackedLayout


def arranged_layers(
    layers: Sequence[tuple[Any, ...]], activation: Activation, states: Tensor
) -> list[Made] | None:
    """The arranged weights of layers, four for each; None where a batch of states (T, D) is computed otherwise."""
    if not layers or not arranged.pays(states) or activation.fused is None:
        return None
    groups = [
        group
        for query, key, value, attended, _, widened, narrowed, _ in layers
        for group in ((query, key, value), (attended,), (widened,), (narrowed,))
    ]
    if any(type(part) is not nn.Linear for group in groups for part in group):
        return None
    return arranged.made_of(groups, len(states))


def run_layers(
    states: Tensor,
    layers: Sequence[tuple[Any, ...]],
    made: Sequence[Made],
    heads: int,
    activation: Activation,
    layout: PackedLayout,
    bias: Tensor | None,
) -> Tensor:
    """Run packed states (T, D) through the layers with their arranged weights."""
    total, width = states.shape
    size = width // heads
    missing = arranged.rows_filled(total) - total
    if missing:
        states = torch.cat((states, states.new_zeros(missing, width)))
        whole = states.new_zeros(total + missing, width)
    product, product_and_sum = arranged.kernels()
    name, variant = activation.fused or ("none", "none")
    weights = iter(made)
    for _, _, _, attended, attended_norm, widened, narrowed, narrowed_norm in layers:
        first, second, third, fourth = (next(weights) for _ in range(4))
        together = product(states, first.weight, first.bias, "none", [], "none")
        # (H, T, size) each
        asking, asked, given = together[:total].view(total, 3, heads, size).permute(1, 2, 0, 3)
        seen = packed_attention(asking[None], asked[None], given[None], layout, bias=bias).view(total, width)
        if missing:
            whole[:total] = seen
            seen = whole
        states = normalised(product_and_sum(seen, states, second.weight, attended.bias, "add"), attended_norm)
        inner = product(states, third.weight, widened.bias, name, [], variant)
        states = normalised(
            product_and_sum(inner, states, fourth.weight, narrowed.bias, "add"), narrowed_norm
        )
    return states[:total]


def normalised(states: Tensor, part: Any) -> Tensor:
    """Layer normalisation, without the checks around it."""
    return torch.layer_norm(states, part.normalized_shape, part.weight, part.bias, part.eps)
