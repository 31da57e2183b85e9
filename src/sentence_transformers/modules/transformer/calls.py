"""What there is to know about a transformers model before and after it is called. Nothing here calls one."""

from __future__ import annotations

import inspect
from functools import lru_cache
from typing import Any

from torch import nn

from sentence_transformers.backend.untouched import every_module


def recomputes(model: Any) -> bool:
    """Whether layers are computed again in the backward pass, to save memory."""
    newer = getattr(model, "is_activation_checkpointing", None)  # transformers 5.23 warns about the other
    return bool(model.is_gradient_checkpointing if newer is None else newer)


def forget_capturing(model: nn.Module) -> None:
    """Take off what transformers hangs on a model, for good, to collect the output of its layers.

    Left there, a model can neither be pickled nor compute packed rows (see `can_pack`). It comes back with
    the next call that asks for layers; seen with transformers 5.23.
    """
    for part in every_module(model):
        capturing = [
            number
            for number, hook in part._forward_hooks.items()
            if getattr(hook, "__module__", None) == "transformers.utils.output_capturing"
        ]
        for number in capturing:
            del part._forward_hooks[number]
            part._forward_hooks_with_kwargs.pop(number, None)
            part._forward_hooks_always_called.pop(number, None)
        part.__dict__.pop("_output_capturing_hooks_installed", None)


@lru_cache(maxsize=64)
def keeps_keys(kind: Any) -> bool:
    """Whether models of a class keep keys and values for generating on, which embedding never does."""
    return "past_key_values" in inspect.signature(kind.forward).parameters


def without_cache(model: Any) -> dict[str, bool]:
    """The argument that keeps a decoder from storing keys and values."""
    kind: Any = type(model)
    return {"use_cache": False} if keeps_keys(kind) else {}
