"""A leaner forward for the encoders that make up most models in use.

This is the door to it: which models are served, and when. BERT and its relatives are one architecture (`bert.py`),
ModernBERT and NomicBERT another (`gated.py`); tables there say where each family keeps its parts. A forward computes
packed rows straight from the transformers module's own weights (so a changed weight is simply used), without
padding, and reuses its buffers. It serves a model only when that is exactly of a known class, evaluated without
gradients, and nothing (a hook, an adapter, another layer type) has been put into it; `forward_of` says so anew at
every call, and everything else is left to transformers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from sentence_transformers.backend import bert, fixed_shapes, gated
from sentence_transformers.backend.parts import class_path, first_tokens
from sentence_transformers.inputs.packing import PackedLayout


class Architecture(Protocol):
    """What a file with the forward of an architecture has."""

    @property
    def FAMILIES(self) -> dict[str, Any]:
        """Where each class keeps its parts, by its path below `transformers.models`."""

    def serves(self, model: Any) -> bool:
        """Whether the configuration of a model of a known class is one that is computed here."""

    def layers_as_made(self, model: Any) -> list[Any] | None:
        """The parts of each layer; None if anything in the model is not what its class made it of, or has a hook."""

    def run(
        self,
        model: Any,
        layers: list[Any],
        layout: PackedLayout,
        tokens: Tensor,
        positions: Tensor,
        kinds: Tensor | None,
        *,
        first_tokens_only: bool,
    ) -> Tensor:
        """Last hidden states of packed tokens, (T, D); of the first token of each row alone, (B, D).

        Args:
            model: The model.
            layers: From `layers_as_made`.
            layout: Where the rows lie; with `fixed_shapes`, further tokens stand behind the last of them.
            tokens: Token ids, (T,).
            positions: The position of each, (T,).
            kinds: The token type of each, (T,); None for zeros.
            first_tokens_only: Whether nothing but first tokens is wanted; not together with `fixed_shapes`.
        """

    def keeps_bits(self, model: Any) -> bool:
        """Whether the forward of the model can give each row the same bits in any batch."""


ARCHITECTURES = cast("tuple[Architecture, ...]", (bert, gated))


def architecture_of(model: nn.Module) -> Architecture | None:
    """Whose forward computes a transformers model, or None when it is not exactly of a known class."""
    path = class_path(model)
    return next((known for known in ARCHITECTURES if path in known.FAMILIES), None)


def serves(model: nn.Module) -> bool:
    """Whether the model's class and configuration are ones that this forward computes."""
    found = architecture_of(model)
    return (
        found is not None
        and found.serves(model)
        and not getattr(model.config, "is_decoder", False)
        and not getattr(model, "hf_device_map", None)
    )


def runs(model: nn.Module) -> bool:
    """Whether this forward can run the model as it stands: evaluated, with plain layers and no hooks."""
    return layers_to_run(model) is not None


def layers_to_run(model: nn.Module) -> list[Any] | None:
    """The parts of each layer of a model that this forward can run as it stands; None for another."""
    if model.training or not serves(model):
        return None
    return known_architecture(model).layers_as_made(model)


def known_architecture(model: nn.Module) -> Architecture:
    """The architecture of a model that is of a known class."""
    found = architecture_of(model)
    assert found is not None
    return found


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
    if torch.is_grad_enabled() or torch.is_autocast_enabled(model.device.type):
        return None
    layers = layers_to_run(model)
    if layers is None:
        return None
    architecture = known_architecture(model)

    def forward(
        layout: PackedLayout, input_ids: Tensor, position_ids: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        given = [input_ids[0], position_ids[0], None if token_type_ids is None else token_type_ids[0]]
        if not fixed_shapes.wanted():
            return architecture.run(model, layers, layout, *given, first_tokens_only=first_tokens_only)[None]
        whole = [None if ids is None else fixed_shapes.filled_up(ids) for ids in given]
        states = architecture.run(model, layers, layout, *whole, first_tokens_only=False)[: layout.total]
        return (first_tokens(states, layout) if first_tokens_only else states)[None]

    return forward


def keeps_bits(model: Any) -> bool:
    """Whether our forward can give each row the same bits in any batch: where `fixed_shapes` are possible.

    Asks for a model that this forward runs, and tries the shapes of its layers where that was not done yet.
    """
    return known_architecture(model).keeps_bits(model)
