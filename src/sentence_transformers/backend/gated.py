"""The forward of ModernBERT and NomicBERT over packed rows.

Both have rotary positions and a gate in the feed-forward part, whose activated half is multiplied with the other.
ModernBERT normalises before each half of a layer and at the end, and in most layers a token sees only those near it;
NomicBERT normalises behind each half, as BERT does. A table says where each family keeps its parts. Whether a model
may be computed here at all is decided in `native.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from sentence_transformers.backend import fixed_shapes, rotary
from sentence_transformers.backend.activations import ACTIVATIONS, SILU, Activation, is_activation
from sentence_transformers.backend.gated_layers import IDENTITY, Forward, Layer, gate
from sentence_transformers.backend.linear import all_can_be_fixed
from sentence_transformers.backend.parts import class_path, first_tokens, norm, part_at
from sentence_transformers.backend.untouched import plain, untouched
from sentence_transformers.inputs.packing import PackedLayout


@dataclass(frozen=True, kw_only=True)
class Family:
    """Where an architecture keeps its parts: paths from the model, and from each layer."""

    words: str
    token_types: str | None = None
    embedded_norm: str
    layers: str = "layers"
    attention: str
    """Holds the window of a layer's attention, where it has one."""
    projected: tuple[str, ...]
    """One layer for queries, keys and values together, or one for each."""
    attended: str
    attention_norm: str
    gated: tuple[str, ...]
    """One layer for what is activated and what that is multiplied with, or one for each."""
    activation: str
    narrowed: str
    narrowed_norm: str
    norms_first: bool = False
    last_norm: str | None = None


MODERNBERT = Family(
    words="embeddings.tok_embeddings",
    embedded_norm="embeddings.norm",
    attention="attn",
    projected=("attn.Wqkv",),
    attended="attn.Wo",
    attention_norm="attn_norm",
    gated=("mlp.Wi",),
    activation="mlp.act",
    narrowed="mlp.Wo",
    narrowed_norm="mlp_norm",
    norms_first=True,
    last_norm="final_norm",
)
NOMICBERT = Family(
    words="embeddings.word_embeddings",
    token_types="embeddings.token_type_embeddings",
    embedded_norm="embeddings.LayerNorm",
    attention="self_attn",
    projected=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    attended="self_attn.o_proj",
    attention_norm="post_attention_layernorm",
    gated=("mlp.gate_proj", "mlp.up_proj"),
    activation="mlp.act_fn",
    narrowed="mlp.down_proj",
    narrowed_norm="post_mlp_layernorm",
)

FAMILIES: dict[str, Family] = {
    "modernbert.modeling_modernbert.ModernBertModel": MODERNBERT,
    "nomic_bert.modeling_nomic_bert.NomicBertModel": NOMICBERT,
}
"""The classes served, by their path below `transformers.models`."""

GATES: dict[str, Activation] = {**ACTIVATIONS, "silu": SILU}
"""Activations of the gate by transformers' name, each overwriting its argument."""

ROTATIONS = ("default", "linear", "yarn")
"""Kinds of rotary positions, by transformers' name, whose frequencies are the same for rows of any length."""


def family_of(model: nn.Module) -> Family:
    """The family of a model of a known class."""
    return FAMILIES[class_path(model)]


def serves(model: Any) -> bool:
    """Whether the configuration of a model of a known class is one that is computed here."""
    config: Any = model.config
    return activation_name(config) in GATES and all(kind in ROTATIONS for kind in rotations(config))


def activation_name(config: Any) -> str:
    """What transformers calls the activation of the gate; "" where the configuration names none."""
    return str(getattr(config, "hidden_activation", None) or getattr(config, "hidden_act", None) or "")


def rotations(config: Any) -> list[str | None]:
    """The kinds of rotary positions: of all layers, or of each type of layers."""
    settings = getattr(config, "rope_parameters", None) or {}
    each = [settings] if "rope_type" in settings else settings.values()
    return [kind.get("rope_type") if isinstance(kind, dict) else None for kind in each] or [None]


def layers_as_made(model: Any) -> list[Layer] | None:
    """The parts of each layer; None if anything is not what the model's class made it of, or has a hook."""
    if not untouched(model, beside=IDENTITY):
        return None
    try:
        layers = layers_of(model)
    except (KeyError, AttributeError):  # something else stands where a part should be
        return None
    family, name = family_of(model), activation_name(model.config)
    norms = [part_at(model, path.split(".")) for path in (family.embedded_norm, family.last_norm) if path]
    heads = model.config.num_attention_heads
    is_as_made = plain(norms) and all(
        plain((*layer.linear, layer.narrowed_norm))
        and (
            plain((layer.attention_norm,)) or (family.norms_first and type(layer.attention_norm) in IDENTITY)
        )
        and is_activation(layer.activation, name)
        and layer.heads == heads
        for layer in layers
    )
    return layers if is_as_made else None


def layers_of(model: Any) -> list[Layer]:
    """The layers of a model.

    Raises:
        KeyError: If a part is not where the model's class puts it.
        AttributeError: Likewise.
    """
    family = family_of(model)

    def parts(layer: nn.Module, *paths: str) -> tuple[Any, ...]:
        return tuple(part_at(layer, path.split(".")) for path in paths)

    return [
        Layer(
            projected=parts(layer, *family.projected),
            gated=parts(layer, *family.gated),
            **{name: parts(layer, getattr(family, name))[0] for name in SINGLE_PARTS},
            **rotation_of(model, layer),
            window=window_of(layer, parts(layer, family.attention)[0]),
        )
        for layer in part_at(model, family.layers.split("."))._modules.values()
    ]


SINGLE_PARTS = ("attended", "attention_norm", "activation", "narrowed", "narrowed_norm")


def rotation_of(model: Any, layer: nn.Module) -> dict[str, Any]:
    """Frequencies and scaling of a layer's rotary positions; ModernBERT has them by the layer's type."""
    kind = layer.__dict__.get("attention_type")
    start = "" if kind is None else f"{kind}_"
    rotation = model._modules["rotary_emb"]
    return {
        "frequencies": rotation._buffers[f"{start}inv_freq"],
        "scaling": getattr(rotation, f"{start}attention_scaling"),
    }


def window_of(layer: Any, attention: Any) -> int | None:
    """Less than how many positions away a token sees others; None for all of its row."""
    is_local = layer.__dict__.get("attention_type") == "sliding_attention"
    return int(attention.sliding_window) if is_local else None


def keeps_bits(model: Any) -> bool:
    """Whether this forward can give each row the same bits in any batch; see `native.keeps_bits`."""
    layers = layers_of(model)
    activation = GATES[activation_name(model.config)]
    linear = [part for layer in layers for part in layer.linear if type(part) is nn.Linear]
    return all_can_be_fixed(linear) and all(
        rotary.can_be_fixed(layer.frequencies) and gate_can_be_fixed(activation, layer)
        for layer in layers[:1]  # what is tried for one holds for all, which have the same shapes
    )


def gate_can_be_fixed(activation: Activation, layer: Layer) -> bool:
    """The same for the gate of a layer."""
    wide = layer.narrowed_norm.weight.new_empty(0, layer.gated[0].out_features)
    if len(layer.gated) == 2:
        return fixed_shapes.possible(activation, out=wide, key=activation)
    narrow = wide.new_empty(0, layer.narrowed.in_features)
    return fixed_shapes.possible(partial(gate, activation), wide, out=narrow, key=("gate", activation))


def run(
    model: Any,
    layers: list[Layer],
    layout: PackedLayout,
    tokens: Tensor,
    positions: Tensor,
    kinds: Tensor | None,
    *,
    first_tokens_only: bool,
) -> Tensor:
    """Last hidden states of packed tokens, (T, D), or (B, D); see `native.Architecture`."""
    family = family_of(model)
    states = embed(model, family, tokens, kinds)
    rotations = {id(layer.frequencies): (layer.frequencies, layer.scaling) for layer in layers}
    forward = Forward(
        layout=layout,
        norms_first=family.norms_first,
        activation=GATES[activation_name(model.config)],
        turns={
            key: rotary.turns_of(positions, *rotation, dtype=states.dtype)
            for key, rotation in rotations.items()
        },
    )
    for layer in layers[:-1] if first_tokens_only else layers:
        states = forward.layer(states, layer)
    if first_tokens_only:
        states = forward.first_tokens(states, layers[-1]) if layers else first_tokens(states, layout)
    return states if family.last_norm is None else norm(states, part_at(model, family.last_norm.split(".")))


def embed(model: Any, family: Family, tokens: Tensor, kinds: Tensor | None) -> Tensor:
    """Embeddings of packed tokens before the first layer, (T, D)."""
    states = F.embedding(tokens, part_at(model, family.words.split(".")).weight)
    if family.token_types is not None:
        table = part_at(model, family.token_types.split(".")).weight
        states = states.add_(table[0]) if kinds is None else states.add_(F.embedding(kinds, table))
    return norm(states, part_at(model, family.embedded_norm.split(".")))
