"""Packed states through layers with rotary positions and a gated feed-forward part.

The steps of one layer, over buffers that all layers of a forward share. Where the layers come from, and what stands
before and behind them, is in `gated.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sentence_transformers.backend import fixed_shapes, rotary
from sentence_transformers.backend.activations import Activation
from sentence_transformers.backend.attention import packed_attention
from sentence_transformers.backend.linear import in_blocks_if_fixed, several_of
from sentence_transformers.backend.parts import first_tokens, norm
from sentence_transformers.inputs.packing import PackedLayout

IDENTITY: frozenset[type] = frozenset({nn.Identity})
"""What ModernBERT has in place of the first norm, and of a dropout that drops nothing."""


class Layer(NamedTuple):
    """The parts of a layer, and which tokens see each other in it."""

    projected: tuple[Any, ...]
    attended: Any
    attention_norm: Any
    """An `nn.Identity` in the first layer of ModernBERT, whose input comes from a norm."""
    gated: tuple[Any, ...]
    activation: Any
    narrowed: Any
    narrowed_norm: Any
    frequencies: Tensor
    """Of its rotary positions, (size of a head / 2,); layers of a kind share them."""
    scaling: float
    window: int | None
    """A token sees those less than this many positions away."""

    @property
    def linear(self) -> tuple[Any, ...]:
        return (*self.projected, self.attended, *self.gated, self.narrowed)

    @property
    def heads(self) -> int:
        """Number of heads."""
        return self.attended.in_features // (2 * len(self.frequencies))


def gate(activation: Activation, both: Tensor, out: Tensor) -> Tensor:
    """The first half of states (T, 2 × I), activated in place, times the second, into `out` (T, I)."""
    activated, factor = both.chunk(2, dim=-1)
    return torch.mul(activation(activated), factor, out=out)


@dataclass(kw_only=True)
class Forward:
    """One forward through the layers, which share buffers: fresh ones cost as much as some of the arithmetic."""

    layout: PackedLayout
    norms_first: bool
    activation: Activation
    turns: dict[int, rotary.Turns]
    """How far each token is turned, by the identity of the layer's frequencies."""
    buffers: dict[str, Tensor] = field(default_factory=dict)

    def buffer(self, name: str, states: Tensor, *shape: int) -> Tensor:
        """Room for numbers like those of `states`, whose contents last until it is asked for again."""
        found = self.buffers.get(name)
        if found is None or found.shape != shape:
            found = self.buffers[name] = states.new_empty(shape)
        return found

    def layer(self, states: Tensor, layer: Layer) -> Tensor:
        """Run packed states (T, D) through a layer; they may be overwritten."""
        seen = self.attended(*self.projected(states, layer), layer)
        return self.behind_attention(states, seen.flatten(1), layer)

    def first_tokens(self, states: Tensor, layer: Layer) -> Tensor:
        """What a layer makes of the first token of each row, (B, D), from packed states (T, D). No row is empty."""
        query, key, value = self.projected(states, layer)
        if states.device.type == "cpu":
            asking = first_tokens(query, self.layout)
            seen = attention_of_first_tokens(asking, key, value, self.layout, layer.window)
        else:  # where each small step has to be started, one attention over all tokens is the better deal
            seen = first_tokens(self.attended(query, key, value, layer), self.layout)
        return self.behind_attention(first_tokens(states, self.layout), seen.flatten(1), layer)

    def projected(self, states: Tensor, layer: Layer) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of states (T, D), the first two turned; (T, H, size of a head) each."""
        given = self.normalised(states, layer.attention_norm)
        made = self.products(given, layer.projected, "query", "key", "value")
        heads = layer.heads
        if len(made) == 3:
            query, key, value = (part.view(len(part), heads, -1) for part in made)
            self.turn(query, layer)
            self.turn(key, layer)
        else:
            together = made[0].view(len(given), 3 * heads, -1)
            self.turn(together[:, : 2 * heads], layer)
            query, key, value = together.split(heads, dim=1)
        return query, key, value

    def products(self, states: Tensor, parts: tuple[Any, ...], *names: str) -> list[Tensor]:
        """What linear layers make of states (N, in), into the buffers of these names."""
        rooms = [
            self.buffer(name, states, len(states), part.out_features) for name, part in zip(names, parts)
        ]
        return several_of(states, parts, rooms)

    def attended(self, query: Tensor, key: Tensor, value: Tensor, layer: Layer) -> Tensor:
        """What each token has seen, (T, H, size of a head)."""
        asking, asked, given = (part.transpose(0, 1)[None] for part in (query, key, value))
        return packed_attention(asking, asked, given, self.layout, window=layer.window)[0]

    def turn(self, states: Tensor, layer: Layer) -> None:
        """Turn queries or keys (T, H, size of a head) in place."""
        total, heads, size = states.shape
        spare = self.buffer("turned", states, 2, total, heads, size // 2)
        rotary.turn(states, self.turns[id(layer.frequencies)], spare)

    def behind_attention(self, states: Tensor, seen: Tensor, layer: Layer) -> Tensor:
        """The rest of a layer, (N, D), for states (N, D) before it and what their attention has seen, (N, H × size)."""
        change = self.products(seen, (layer.attended,), "change")[0]
        states = self.added(states, change, layer.attention_norm)
        inner = self.gated(self.normalised(states, layer.narrowed_norm), layer)
        change = self.products(inner, (layer.narrowed,), "change")[0]
        return self.added(states, change, layer.narrowed_norm)

    def gated(self, given: Tensor, layer: Layer) -> Tensor:
        """The inner states of the feed-forward part, (N, I)."""
        wide, *further = self.products(given, layer.gated, "wide", "factor")
        if further:
            return in_blocks_if_fixed(self.activation)(wide).mul_(further[0])
        inner = self.buffer("inner", given, len(given), layer.narrowed.in_features)
        compute = partial(gate, self.activation)
        if fixed_shapes.wanted():
            return fixed_shapes.by_blocks(compute, wide, out=inner, key=("gate", self.activation))
        return compute(wide, inner)

    def normalised(self, states: Tensor, part: Any) -> Tensor:
        """What half a layer is given."""
        return norm(states, part) if self.norms_first and type(part) not in IDENTITY else states

    def added(self, states: Tensor, change: Tensor, part: Any) -> Tensor:
        """What half a layer gives, where it makes `change` of the states."""
        return states.add_(change) if self.norms_first else norm(change.add_(states), part)


def attention_of_first_tokens(
    query: Tensor, key: Tensor, value: Tensor, layout: PackedLayout, window: int | None
) -> Tensor:
    """Attention in which only the first token of each row asks.

    Args:
        query: Of the first tokens, (B, H, size of a head).
        key: Of all tokens, packed, (T, H, size of a head).
        value: As the keys.
        layout: Where the rows lie; none is empty.
        window: The first token sees this many tokens of its row at most; None for all.

    Returns:
        (B, H, size of a head).
    """
    seen = torch.empty_like(query)
    row = 0
    for start, count, length in layout.groups:
        keys, values = (
            part[start : start + count * length]
            .unflatten(0, (count, length))[:, :window]
            .transpose(1, 2)  # (rows, H, length, size)
            for part in (key, value)
        )
        asking = query[row : row + count, :, None]
        seen[row : row + count] = F.scaled_dot_product_attention(asking, keys, values)[:, :, 0]
        row += count
    return seen
