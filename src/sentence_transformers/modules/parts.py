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


def save_part(part: nn.Module, folder: Path, *, safe_serialization: bool) -> None:
    """Save one part of a model; a custom part may know nothing of formats."""
    save: Any = part.save
    parameters = inspect.signature(save).parameters
    takes_format = "safe_serialization" in parameters or any(
        parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()
    )
    if takes_format:
        save(str(folder), safe_serialization=safe_serialization)
    else:
        save(str(folder))


def load_part(kind: type[Any], folder: Path, options: Mapping[str, Any]) -> nn.Module:
    """Load one part of a model from its own folder, passing those options that its `load` knows."""
    parameters = inspect.signature(kind.load).parameters
    return kind.load(str(folder), **{key: value for key, value in options.items() if key in parameters})


def inside(folder: Path, name: str) -> Path:
    """A folder below the model's own.

    Raises:
        ValueError: If the name leads outside of it.
    """
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"The model names the folder {name!r}, which lies outside of {folder}. It is not loaded."
        )
    return path
