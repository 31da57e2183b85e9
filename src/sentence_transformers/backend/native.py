"""A leaner forward for the encoders that make up most models in use.

BERT, RoBERTa and its relatives, ELECTRA, DistilBERT and MPNet are one architecture with the parts under
different names: tables below say where each family keeps them. The forward computes packed rows straight
from the transformers module's own weights (so a changed weight is simply used), without masks, and reuses
its buffers. It serves a model only when it is exactly of a known class, evaluated without
gradients, and nothing (a hook, an adapter, another layer type) has been put into it; `forward_of` says so
anew at every call, and everything else is left to transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sentence_transformers.backend import fixed_shapes
from sentence_transformers.backend.attention import packed_attention
from sentence_transformers.backend.linear import (
    activation_can_be_fixed,
    can_be_fixed,
    fixed_activation,
    linear_for,
)
from sentence_transformers.backend.relative_positions import MPNET_BUCKETS, distance_buckets
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

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": lambda states: torch.ops.aten.gelu_(states),
    "gelu_new": lambda states: torch.ops.aten.gelu_(states, approximate="tanh"),
    "gelu_pytorch_tanh": lambda states: torch.ops.aten.gelu_(states, approximate="tanh"),
    "relu": torch.relu_,
}
"""Activation functions by transformers' name, each overwriting its argument."""


def family_of(model: nn.Module) -> Family | None:
    """The family of a transformers model, or None when it is not exactly of a known class."""
    stands_for = getattr(model, "class_path", None)
    if stands_for is not None:  # opened without transformers, see lean.py
        return FAMILIES[stands_for]
    kind = type(model)
    return FAMILIES.get(f"{kind.__module__}.{kind.__qualname__}".removeprefix("transformers.models."))


def serves(model: nn.Module) -> bool:
    """Whether the model's class and configuration are ones that this forward computes."""
    config: Any = model.config
    return (
        family_of(model) is not None
        and getattr(config, "hidden_act", getattr(config, "activation", None)) in ACTIVATIONS
        and not getattr(config, "is_decoder", False)
        and getattr(config, "position_embedding_type", "absolute") in ("absolute", None)
        and not getattr(model, "hf_device_map", None)
    )


def runs(model: nn.Module) -> bool:
    """Whether this forward can run the model as it stands: evaluated, with plain layers and no hooks."""
    return not model.training and serves(model) and untouched(model) and all(map(plain, layers_of(model)))


def layers_of(model: nn.Module) -> list[tuple[Any, ...]]:
    """The parts of each layer, in the order of `Family.parts`."""
    family = family_of(model)
    assert family is not None
    paths = [path.split(".") for path in family.parts]
    layers = part_at(model, family.layers.split("."))
    return [tuple(part_at(layer, path) for path in paths) for layer in layers._modules.values()]


def part_at(module: Any, path: list[str]) -> Any:
    """A module inside another; as `get_submodule`, which takes ten times as long."""
    for name in path:
        module = module._modules[name]
    return module


def forward_of(model: nn.Module, *, first_tokens_only: bool = False) -> Callable[..., Tensor] | None:
    """Our forward over packed rows for a transformers model as it stands, or None.

    Args:
        model: The transformers model, or a lean one.
        first_tokens_only: Whether whoever reads the result looks at the first token of each row alone. The
            last layer then computes nothing else.

    Returns:
        A function of the layout, `input_ids` (1, T), `position_ids` (1, T) and perhaps `token_type_ids`
        (1, T), which gives the last hidden states (1, T, D), or (1, B, D) of first tokens only.
    """
    if torch.is_grad_enabled() or torch.is_autocast_enabled(model.device.type) or not runs(model):
        return None
    layers = layers_of(model)
    heads = getattr(model.config, "num_attention_heads", None) or model.config.n_heads

    def forward(
        layout: PackedLayout, input_ids: Tensor, position_ids: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        kinds = None if token_type_ids is None else token_type_ids[0]
        activation = activation_of(model)
        bias = position_bias(model, layout)
        if fixed_shapes.wanted():
            given = [input_ids[0], position_ids[0], *([] if kinds is None else [kinds])]
            states = embed(model, *map(fixed_shapes.filled_up, given))
            in_blocks = partial(fixed_activation, activation)
            states = run_layers(states, layers, heads, in_blocks, layout, bias)[: layout.total]
            return (first_tokens(states, layout) if first_tokens_only else states)[None]
        states = embed(model, input_ids[0], position_ids[0], kinds)
        if not first_tokens_only:
            return run_layers(states, layers, heads, activation, layout, bias)[None]
        states = run_layers(states, layers[:-1], heads, activation, layout, bias)
        if not layers:
            return first_tokens(states, layout)[None]
        return last_layer_of_first_tokens(states, layers[-1], heads, activation, layout, bias)[None]

    return forward


def activation_of(model: Any) -> Callable[[Tensor], Tensor]:
    """The activation function of a model, which overwrites its argument."""
    return ACTIVATIONS[getattr(model.config, "hidden_act", None) or model.config.activation]


def keeps_bits(model: Any) -> bool:
    """Whether our forward can give each row the same bits in any batch: where `fixed_shapes` are possible.

    Asks for a model that this forward runs, and tries the shapes of its layers where that was not done yet.
    """
    layers = layers_of(model)
    parts = [part for layer in layers for part in layer] + [getattr(model, "embeddings_project", None)]
    linear = [part for part in parts if type(part) is nn.Linear]
    return all(map(can_be_fixed, one_of_each_shape(linear))) and (
        not layers or activation_can_be_fixed(activation_of(model), layers[0][5])
    )


def one_of_each_shape(layers: list[nn.Linear]) -> Iterable[nn.Linear]:
    """Of layers that are computed in the same way, only one."""
    return {
        (part.weight.shape, part.weight.stride(), part.weight.device, part.bias is None): part
        for part in layers
    }.values()


def untouched(model: nn.Module) -> bool:
    """Whether the modules of a model are all of its own kind, without hooks and with their own forward."""
    modules = every_module(model)
    own = type(model).__module__
    return (
        not has_hooks(model, modules)
        and all(is_usual(kind, own) for kind in set(map(type, modules)))
        and not any("forward" in module.__dict__ for module in modules)
    )


def has_hooks(model: nn.Module, modules: list[nn.Module] | None = None) -> bool:
    """Whether anybody wants to be called when a part of the model runs."""
    if nn.modules.module._global_forward_hooks or nn.modules.module._global_forward_pre_hooks:
        return True
    modules = every_module(model) if modules is None else modules
    return any(module._forward_hooks or module._forward_pre_hooks for module in modules)


def every_module(model: nn.Module) -> list[nn.Module]:
    """A model and everything in it; as `Module.modules`, which takes five times as long."""
    found = [model]
    for module in found:
        if module._modules:
            found.extend(child for child in module._modules.values() if child is not None)
    return found


@lru_cache(maxsize=512)
def is_usual(kind: type, own: str) -> bool:
    """Whether a class is among those transformers builds these models of; `own` is the module that defines them."""
    where = kind.__module__
    return (
        where in (own, "transformers.activations", "torch.nn.modules.activation") or kind in BUILDING_BLOCKS
    )


BUILDING_BLOCKS = {nn.Module, nn.ModuleList, nn.Linear, nn.LayerNorm, nn.Embedding, nn.Dropout}


def plain(parts: tuple[nn.Module, ...]) -> bool:
    """Whether the parts of a layer are plain layers with plain weights (adapters and quantisers replace either)."""
    return all(
        type(part) in (nn.Linear, nn.LayerNorm) and type(part._parameters.get("weight")) is nn.Parameter
        for part in parts
    )


def embed(model: Any, tokens: Tensor, positions: Tensor, kinds: Tensor | None = None) -> Tensor:
    """Embeddings of packed tokens before the first layer, (T, D)."""
    parts = model.embeddings
    states = F.embedding(tokens, parts.word_embeddings.weight)
    if hasattr(parts, "token_type_embeddings"):
        table = parts.token_type_embeddings.weight
        states = states.add_(table[0]) if kinds is None else states.add_(F.embedding(kinds, table))
    states = states.add_(F.embedding(positions, parts.position_embeddings.weight))
    norm = parts.LayerNorm
    states = F.layer_norm(states, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
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
    activation: Callable[[Tensor], Tensor],
    layout: PackedLayout,
    bias: Tensor | None,
) -> Tensor:
    """Run packed states (T, D) through the layers, overwriting them."""
    total, width = states.shape
    size = width // heads
    linear = linear_for(states)
    # Buffers that are used in every layer: fresh ones of this size cost as much as some of the arithmetic.
    query, key, value = (states.new_empty(total, width) for _ in range(3))
    wide = states.new_empty(total, layers[0][5].out_features) if layers else states
    for q, k, v, attended, attended_norm, widened, narrowed, narrowed_norm in layers:
        asking, asked, given = (
            linear(states, part, buffer).view(1, total, heads, size).transpose(1, 2)
            for part, buffer in ((q, query), (k, key), (v, value))
        )
        seen = packed_attention(asking, asked, given, layout, bias=bias).view(total, width)
        states = norm(linear(seen, attended, query).add_(states), attended_norm)
        inner = activation(linear(states, widened, wide))
        states = norm(linear(inner, narrowed, query).add_(states), narrowed_norm)
    return states


def first_tokens(states: Tensor, layout: PackedLayout) -> Tensor:
    """Of packed states (T, D) those of the first token of each row, (B, D)."""
    return states[layout.cumulative(states.device)[:-1].long()]


def last_layer_of_first_tokens(
    states: Tensor,
    parts: tuple[Any, ...],
    heads: int,
    activation: Callable[[Tensor], Tensor],
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
    if states.device.type == "cpu":
        seen = attention_of_first_tokens(linear(own, q, buffer), states, k, v, heads, layout, bias)
    else:  # where each small step has to be started, one attention over all tokens is the better deal
        asking, asked, given = (
            F.linear(states, part.weight, part.bias).view(1, len(states), heads, -1).transpose(1, 2)
            for part in (q, k, v)
        )
        everything = packed_attention(asking, asked, given, layout, bias=bias)
        seen = first_tokens(everything.view(states.shape), layout)
    rows = norm(linear(seen, attended, buffer).add_(own), attended_norm)
    inner = activation(linear(rows, widened, wide))
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


def norm(states: Tensor, part: Any) -> Tensor:
    return F.layer_norm(states, part.normalized_shape, part.weight, part.bias, part.eps)
