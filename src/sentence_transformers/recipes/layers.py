"""Models with fewer layers: which to keep, how to take the others out, and how to make some anew.

Works on the transformers model inside; everything around it (tokens, pooling, what follows) stays. Nothing here
trains.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


def evenly_spaced(count: int, of: int) -> list[int]:
    """Numbers of so many layers, spread from the first to the last; the first one, if it is to be one.

    The last layers of a sentence model do the most of what makes it one, and the first read its word vectors, so
    both are kept: of six layers three are 0, 3 and 5.

    Raises:
        ValueError: If there are not so many.
    """
    if not 1 <= count <= of:
        raise ValueError(f"{count} layers cannot be kept of {of}. Pass 1 to {of}.")
    if count == 1:
        return [0]
    return [int(place * (of - 1) / (count - 1) + 0.5) for place in range(count)]


def layers_of(model: Any) -> nn.ModuleList:
    """The layers of the transformers model inside a model.

    Raises:
        ValueError: If there is none, or its layers cannot be told.
    """
    return getattr(*place_of_layers(transformers_model(model)))


def with_layers(model: Any, keep: Sequence[int], *, reset_last: int = 0, seed: int = 42) -> Any:
    """A model with some of its layers only.

    Args:
        model: A `SentenceTransformer`; it is changed.
        keep: Numbers of the layers, from 0, in the order they shall have.
        reset_last: So many of those that are kept, from the end, get new random weights, as their architecture
            draws them: what they knew of sentences is gone.
        seed: Of these weights.

    Returns:
        The model. Saved and loaded, it has these layers.

    Raises:
        ValueError: If there is no such layer, or a layer is kept where it cannot stand.
    """
    encoder = transformers_model(model)
    holder, name = place_of_layers(encoder)
    layers = list(getattr(holder, name))
    check_layers(keep, len(layers), reset_last)
    # In some architectures the first layer holds what the others use too.
    for place, layer in enumerate(keep):
        if layers[layer].state_dict().keys() != layers[place].state_dict().keys():
            raise ValueError(
                f"Layer {layer} has other parts than layer {place}, and cannot stand in its place. Keep layer {place}."
            )
    kept = [layers[layer] for layer in keep]
    adjust_config(encoder.config, len(layers), keep)
    if reset_last:
        kept[-reset_last:] = new_layers(encoder, seed)[-reset_last:]
    for place, layer in enumerate(kept):
        for part in layer.modules():
            if hasattr(part, "layer_idx"):
                part.layer_idx = place
            if isinstance(getattr(part, "config", None), type(encoder.config)):
                part.config = encoder.config
    setattr(holder, name, nn.ModuleList(kept).to(encoder.device, encoder.dtype).train(encoder.training))
    return model


def check_layers(keep: Sequence[int], count: int, reset_last: int = 0) -> None:
    """Check which of so many layers are to be kept, and how many of these to be made anew.

    Raises:
        ValueError: If that cannot be.
    """
    wrong = [layer for layer in keep if not 0 <= layer < count]
    if wrong or not keep or len(set(keep)) < len(keep):
        raise ValueError(
            f"These layers cannot be kept: {list(keep)}. Choose different ones from 0 to {count - 1}."
        )
    if not 0 <= reset_last <= len(keep):
        raise ValueError(
            f"reset_last={reset_last} of {len(keep)} layers cannot be made anew. Pass 0 to {len(keep)}."
        )


def transformers_model(model: Any) -> nn.Module:
    """The transformers model inside.

    Raises:
        ValueError: If there is none.
    """
    found = getattr(model, "transformers_model", None)
    if found is None:
        raise ValueError("The model has no transformer inside, and so no layers to take out.")
    return found


def place_of_layers(encoder: Any) -> tuple[nn.Module, str]:
    """What holds the list of layers, and under which name.

    Raises:
        ValueError: If no list is as long as the configuration says, or several are.
    """
    count = encoder.config.num_hidden_layers
    places: dict[str, tuple[nn.Module, str]] = {}
    for path, module in encoder.named_modules():
        # A layer may itself hold a list of so many parts.
        if isinstance(module, nn.ModuleList) and len(module) == count and not path.startswith(tuple(places)):
            holder, _, name = path.rpartition(".")
            places[path + "."] = (encoder.get_submodule(holder), name)
    if len(places) != 1:
        raise ValueError(
            f"Cannot tell which are the {count} layers of {type(encoder).__name__}: it holds {len(places)} lists of so "
            "many. Its layers cannot be taken out here."
        )
    return next(iter(places.values()))


def adjust_config(config: Any, before: int, keep: Sequence[int]) -> None:
    """Let a configuration say that only these layers are there."""
    # Some architectures say of each layer what it is.
    types = getattr(config, "layer_types", None)
    if types is not None and len(types) == before:
        config.layer_types = [types[layer] for layer in keep]
    config.num_hidden_layers = len(keep)


def new_layers(encoder: Any, seed: int) -> list[nn.Module]:
    """Layers as of a model that has never been trained, with the configuration of this one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(encoder)(copy.deepcopy(encoder.config))
    return list(getattr(*place_of_layers(fresh)))
