"""Saving and loading the single parts of a model.

Parts may be custom classes that know only the older, shorter signatures; what each takes is asked once
from its signature. Nothing here knows which parts a model has.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from sentence_transformers.storage.module_types import CODE_OF_MODELS


def save_part(part: nn.Module, folder: Path, *, safe_serialization: bool) -> None:
    """Save one part of a model; a custom part may know nothing of formats."""
    save: Any = part.save
    parameters = inspect.signature(save).parameters
    if "safe_serialization" in parameters or takes_any(parameters):
        save(str(folder), safe_serialization=safe_serialization)
    else:
        save(str(folder))


def load_part(kind: type[Any], folder: Path, options: Mapping[str, Any]) -> nn.Module:
    """Load one part of a model from its own folder, passing those options that its `load` knows."""
    parameters = inspect.signature(kind.load).parameters
    # Parts from before release 5 call their one argument so, and expect no other.
    if "input_path" not in parameters and takes_any(parameters):
        return kind.load(str(folder), **options)
    return kind.load(str(folder), **{key: value for key, value in options.items() if key in parameters})


def takes_any(parameters: Mapping[str, inspect.Parameter]) -> bool:
    """Whether a callable with these parameters takes keyword arguments of any name."""
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


def save_code(part: nn.Module, folder: Path) -> None:
    """Copy the source of a part whose class came with a model, so that the saved model brings it, too."""
    if type(part).__module__.startswith(CODE_OF_MODELS):
        from transformers.dynamic_module_utils import custom_object_save

        custom_object_save(part, str(folder))


def inside(folder: Path, name: Any) -> Path:
    """A folder below the model's own.

    Raises:
        ValueError: If the name leads outside of it, or is none.
    """
    if not isinstance(name, str):
        raise ValueError(f"The model in {folder} names {name!r} as folder of a part. Is the model damaged?")
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"The model names the folder {name!r}, which lies outside of {folder}. It is not loaded."
        )
    return path
