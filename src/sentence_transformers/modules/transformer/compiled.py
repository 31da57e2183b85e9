"""A transformers model that torch compiles, for few shapes.

Every new shape is compiled anew, for seconds to minutes, and beyond a few torch gives up and runs the model as it is.
So batches are filled up: rows to a power of two, tokens to a rung of the ladder (`inputs/rungs.py`), and what was
added is cut off again. Nothing here knows how batches are planned.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from sentence_transformers.inputs.rungs import rung

MOST_SHAPES = 200
"""Shapes that are compiled at most; torch's own limit is 8, after which nothing new is compiled."""

FILLED_UP = ("input_ids", "attention_mask", "token_type_ids")
"""What a compiled model is given; with anything else a model is run as it is."""

COMPILERS = ("g++", "c++", "clang++", "cl")


class CompiledForward:
    """Runs a transformers model compiled.

    Args:
        options: For `torch.compile`.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = {"dynamic": False, **options}
        self._function: Callable[..., Any] | None = None

    def serves(self, given: Mapping[str, Any], kwargs: Mapping[str, Any]) -> bool:
        """Whether a call is one that is computed compiled: nothing unusual is asked, and by `encode`."""
        # Another mode, such as `no_grad`, would have every shape compiled again.
        return (
            torch.is_inference_mode_enabled()
            and not kwargs
            and set(given) <= set(FILLED_UP)
            and "attention_mask" in given
            and given["input_ids"].dim() == 2
        )

    def run(
        self,
        model: Any,
        given: Mapping[str, Tensor],
        settings: Mapping[str, Any],
        *,
        filler: int,
        limit: int | None,
    ) -> Tensor:
        """What a model makes of padded rows: the first of its outputs, (B, T, D) or (B, labels).

        Args:
            model: The transformers model.
            given: `input_ids` (B, T), `attention_mask`, and perhaps `token_type_ids`.
            settings: What else it is called with, the same at each call.
            filler: The token to fill rows up with.
            limit: Tokens that a row may have at most.
        """
        rows, width = given["input_ids"].shape
        filled = filled_up(given, filler=filler, limit=limit)
        if self._function is None:
            self._function = torch.compile(first_output, **self.options)
        with many_shapes():
            result: Tensor = self._function(model, filled, dict(settings))
        result = result[:rows, :width] if result.dim() == 3 else result[:rows]
        # With CUDA graphs the next call writes into the same memory.
        return result.clone() if result.device.type == "cuda" else result

    def __getstate__(self) -> dict[str, Any]:
        return {"options": self.options, "_function": None}


def first_output(model: Any, given: dict[str, Tensor], settings: dict[str, Any]) -> Any:
    return model(**given, **settings, return_dict=True)[0]


def filled_up(given: Mapping[str, Tensor], *, filler: int, limit: int | None) -> dict[str, Tensor]:
    """A batch whose shape is on the ladder: more tokens that no row looks at, and copies of the first row."""
    rows, width = given["input_ids"].shape
    tokens = rung(width) if limit is None else max(width, min(rung(width), limit))
    more_rows, more_tokens = (1 << (rows - 1).bit_length()) - rows, tokens - width
    filled = {}
    for name, value in given.items():
        value = pad(value, (0, more_tokens), value=filler if name == "input_ids" else 0)
        # Rows of nothing but padding would give NaN in some attentions.
        filled[name] = torch.cat([value, value[:1].expand(more_rows, -1)]) if more_rows else value
    return filled


def many_shapes() -> AbstractContextManager[Any]:
    """Within the block torch compiles as many shapes as there are on the ladder."""
    import torch._dynamo.config as settings

    patched: AbstractContextManager[Any] = settings.patch(cache_size_limit=MOST_SHAPES)
    return patched


def check_compiler(device: torch.device) -> None:
    """Check that there is what torch's usual compiler needs.

    Raises:
        RuntimeError: If it is a CPU that is compiled for, and there is no C++ compiler.
    """
    named = os.environ.get("CXX")
    if device.type == "cpu" and not any(map(shutil.which, [named] if named else COMPILERS)):
        raise RuntimeError(
            "Compiling for a CPU needs a C++ compiler, and none is on the PATH. Install g++ or clang++, or let the "
            "environment variable CXX name one."
        )
