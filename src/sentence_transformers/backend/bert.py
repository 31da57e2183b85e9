"""The forward of BERT and its relatives over packed rows.

BERT, RoBERTa and its relatives, ELECTRA, DistilBERT and MPNet are one architecture with the parts under
different names: learned positions, and a norm behind each half of a layer. Tables say where each family keeps its
parts. Whether a model may be computed here at all is decided in `native.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sentence_transformers.backend import few_calls
from sentence_transformers.backend.activations import ACTIVATIONS, Activation, is_activation
from sentence_transformers.backend.attention import packed_attention
from sentence_transformers.backend.linear import (
    activation_can_be_fixed,
    all_can_be_fixed,
    in_blocks_if_fixed,
    linear_for,
    several_of,
)
from sentence_transformers.backend.parts import class_path, first_tokens, norm, part_at
from sentence_transformers.backend.relative_positions import MPNET_BUCKETS, distance_buckets
from sentence_transformers.backend.untouched import plain, untouched
from sentence_transformers.inputs.packing import PackedLayout


@dataclass(frozen=True)
class Family:
    """Where an architecture keeps its parts: paths from the model, and from each layer."""

    layers: str = "encoder.layer"
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    attended: str = "attention.output.dense"
    attended_norm: str = "attention.output.LayerNorm"
    widened: str = "intermediate.dense"
    narrowed: str = "output.dense"
    narrowed_norm: str = "output.LayerNorm"
    activation: str = "intermediate.intermediate_act_fn"

    @property
    def parts(self) -> tuple[str, ...]:
        return (
            self.query,
            self.key,
            self.value,
            self.attended,
            self.attended_norm,
            self.widened,
            self.narrowed,
            self.narrowed_norm,
        )


BERT = Family()
DISTILBERT = Family(
    layers="transformer.layer",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    attended="attention.out_lin",
    attended_norm="sa_layer_norm",
    widened="ffn.lin1",
    narrowed="ffn.lin2",
    narrowed_norm="output_layer_norm",
    activation="ffn.activation",
)
MPNET = Family(
    query="attention.attn.q",
    key="attention.attn.k",
    value="attention.attn.v",
    attended="attention.attn.o",
    attended_norm="attention.LayerNorm",
)

FAMILIES: dict[str, Family] = {
    "bert.modeling_bert.BertModel": BERT,
    "roberta.modeling_roberta.RobertaModel": BERT,
    "xlm_roberta.modeling_xlm_roberta.XLMRobertaModel": BERT,
    "camembert.modeling_camembert.CamembertModel": BERT,
    "electra.modeling_electra.ElectraModel": BERT,
    "distilbert.modeling_distilbert.DistilBertModel": DISTILBERT,
    "mpnet.modeling_mpnet.MPNetModel": MPNET,
}
"""The classes served, by their path below `transformers.models`."""


def family_of(model: nn.Module) -> Family:
    """The family of a model of a known class."""
    return FAMILIES[class_path(model)]


def serves(model: Any) -> bool:
    """Whether the configuration of a model of a known class is one that is computed here."""
    config: Any = model.config
    return getattr(config, "hidden_act", getattr(config, "activation", None)) in ACTIVATIONS and getattr(
        config, "position_embedding_type", "absolute"
    ) in ("absolute", None)


def layers_as_made(model: Any) -> list[tuple[Any, ...]] | None:
    """The parts of each layer; None if anything is not what the model's class made it of, or has a hook."""
    if not untouched(model):
        return None
    layers = layers_of(model)
    return layers if all(map(plain, layers)) and has_own_activations(model) else None


def has_own_activations(model: Any) -> bool:
    """Whether every layer has the activation that the configuration names; a lean model has nothing in its place."""
    if hasattr(model, "class_path"):
        return True
    family, name = family_of(model), activation_name(model.config)
    path = family.activation.split(".")
    layers = part_at(model, family.layers.split("."))
    return all(is_activation(part_at(layer, path), name) for layer in layers._modules.values())


def layers_of(model: nn.Module) -> list[tuple[Any, ...]]:
    """The parts of each layer, in the order of `Family.parts`."""
    family = family_of(model)
    paths = [path.split(".") for path in family.parts]
    layers = part_at(model, family.layers.split("."))
    return [tuple(part_at(layer, path) for path in paths) for layer in layers._modules.values()]


def run(
    model: Any,
    layers: list[Any],
    layout: PackedLayout,
    tokens: Tensor,
    positions: Tensor,
    kinds: Tensor | None,
    *,
    first_tokens_only: bool,
) -> Tensor:
    """Last hidden states of packed tokens, (T, D), or (B, D); see `native.Architecture`."""
    heads = getattr(model.config, "num_attention_heads", None) or model.config.n_heads
    activation = activation_of(model)
    bias = position_bias(model, layout)
    states = embed(model, tokens, positions, kinds)
    if not first_tokens_only:
        return run_layers(states, layers, heads, activation, layout, bias)
    states = run_layers(states, layers[:-1], heads, activation, layout, bias)
    if not layers:
        return first_tokens(states, layout)
    return last_layer_of_first_tokens(states, layers[-1], heads, activation, layout, bias)


def activation_of(model: Any) -> Activation:
    """The activation function of a model, which overwrites its argument."""
    return ACTIVATIONS[activation_name(model.config)]


def activation_name(config: Any) -> str:
    """What transformers calls the activation of the layers; "" where the configuration names none."""
    return str(getattr(config, "hidden_act", None) or getattr(config, "activation", None) or "")


def keeps_bits(model: Any) -> bool:
    """Whether this forward can give each row the same bits in any batch; see `native.keeps_bits`."""
    layers = layers_of(model)
    parts = [part for layer in layers for part in layer] + [getattr(model, "embeddings_project", None)]
    return all_can_be_fixed(part for part in parts if type(part) is nn.Linear) and (
        not layers or activation_can_be_fixed(activation_of(model), layers[0][5])
    )


def embed(model: Any, tokens: Tensor, positions: Tensor, kinds: Tensor | None = None) -> Tensor:
    """Embeddings of packed tokens before the first layer, (T, D)."""
    parts = model.embeddings
    states = F.embedding(tokens, parts.word_embeddings.weight)
    if hasattr(parts, "token_type_embeddings"):
        table = parts.token_type_embeddings.weight
        states = states.add_(table[0]) if kinds is None else states.add_(F.embedding(kinds, table))
    states = states.add_(F.embedding(positions, parts.position_embeddings.weight))
    states = norm(states, parts.LayerNorm)
    if hasattr(model, "embeddings_project"):
        projection = model.embeddings_project
        states = linear_for(states)(
            states, projection, states.new_empty(len(states), projection.out_features)
        )
    return states


def position_bias(model: Any, layout: PackedLayout) -> Tensor | None:
    """What the positions add to the attention scores, (1, H, L, L) for the longest row; None for nothing."""
    if family_of(model) is not MPNET:
        return None
    # It depends on distances only, so shorter rows use its upper left corner.
    table = model.encoder.relative_attention_bias.weight  # (buckets, H)
    buckets = distance_buckets(layout.longest, MPNET_BUCKETS, table.device)
    return F.embedding(buckets, table).permute(2, 0, 1)[None].contiguous()


def run_layers(
    states: Tensor,
    layers: list[Any],
    heads: int,
    activation: Activation,
    layout: PackedLayout,
    bias: Tensor | None,
) -> Tensor:
    """Run packed states (T, D) through the layers, overwriting them."""
    total, width = states.shape
    size = width // heads
    made = few_calls.arranged_layers(layers, activation, states)
    if made is not None:
        return few_calls.run_layers(states, layers, made, heads, activation, layout, bias)
    linear = linear_for(states)
    # Buffers that are used in every layer: fresh ones of this size cost as much as some of the arithmetic.
    query, key, value = (states.new_empty(total, width) for _ in range(3))
    wide = states.new_empty(total, layers[0][5].out_features) if layers else states
    for q, k, v, attended, attended_norm, widened, narrowed, narrowed_norm in layers:
        asking, asked, given = (
            made.view(1, total, heads, size).transpose(1, 2)
            for made in several_of(states, (q, k, v), (query, key, value))
        )
        seen = packed_attention(asking, asked, given, layout, bias=bias).view(total, width)
        states = norm(linear(seen, attended, query).add_(states), attended_norm)
        inner = in_blocks_if_fixed(activation)(linear(states, widened, wide))
        states = norm(linear(inner, narrowed, query).add_(states), narrowed_norm)
    return states


def last_layer_of_first_tokens(
    states: Tensor,
    parts: tuple[Any, ...],
    heads: int,
    activation: Activation,
    layout: PackedLayout,
    bias: Tensor | None,
) -> Tensor:
    """What a layer makes of the first token of each row, (B, D), from the packed states (T, D) of all tokens.

    No row may be empty.
    """
    q, k, v, attended, attended_norm, widened, narrowed, narrowed_norm = parts
    linear = linear_for(states)
    own = first_tokens(states, layout)  # (B, D)
    buffer, wide = torch.empty_like(own), own.new_empty(len(own), widened.out_features)
    if states.device.type == "cpu" and type(k) is type(v) is nn.Linear:
        seen = attention_of_first_tokens(linear(own, q, buffer), states, k, v, heads, layout, bias)
    else:  # where each small step has to be started, one attention over all tokens is the better deal
        asking, asked, given = (
            made.view(1, len(states), heads, -1).transpose(1, 2)
            for made in several_of(states, (q, k, v), [torch.empty_like(states) for _ in range(3)])
        )
        everything = packed_attention(asking, asked, given, layout, bias=bias)
        seen = first_tokens(everything.view(states.shape), layout)
    rows = norm(linear(seen, attended, buffer).add_(own), attended_norm)
    inner = in_blocks_if_fixed(activation)(linear(rows, widened, wide))
    return norm(linear(inner, narrowed, buffer).add_(rows), narrowed_norm)


def attention_of_first_tokens(
    query: Tensor, states: Tensor, k: Any, v: Any, heads: int, layout: PackedLayout, bias: Tensor | None
) -> Tensor:
    """Attention in which only the first token of each row asks, without a key or value for any token.

    A score is `query · (K state + b)`. With few queries it is cheaper to compute `Kᵀ query` once for each of
    them and to multiply that with the states; `query · b` is the same for all tokens, which a softmax does not
    see. Likewise the values are `V` times the weighted mean of the states, plus their bias.

    Args:
        query: Of the first tokens, (B, D).
        states: Of all tokens, packed, (T, D).
        k: The layer that makes keys.
        v: The layer that makes values.
        heads: Into how many heads D is divided.
        layout: Where the rows lie.
        bias: Added to the scores, (1, H, L, L) with L at least the longest row.

    Returns:
        (B, D).
    """
    count, width = query.shape
    size = width // heads
    by_head = query.view(count, heads, size).transpose(0, 1) * size**-0.5  # (H, B, size)
    turned = torch.bmm(by_head, k.weight.view(heads, size, -1)).transpose(0, 1).contiguous()  # (B, H, D)
    means = torch.empty_like(turned)
    row = 0
    for start, rows, length in layout.groups:
        tokens = states[start : start + rows * length].view(rows, length, -1)
        scores = torch.bmm(turned[row : row + rows], tokens.transpose(1, 2))  # (rows, H, length)
        if bias is not None:
            scores += bias[:, :, 0, :length]
        torch.bmm(scores.softmax(dim=-1), tokens, out=means[row : row + rows])
        row += rows
    values = torch.bmm(means.transpose(0, 1), v.weight.view(heads, size, -1).transpose(1, 2))  # (H, B, size)
    seen = values.transpose(0, 1).reshape(count, width)
    return seen if v.bias is None else seen.add_(v.bias)
