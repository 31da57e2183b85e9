"""Build the modules of a model from a folder.

Reads `modules.json` and `config_sentence_transformers.json` of every release, checks what they name, and
loads the parts; a folder without `modules.json` is a plain transformers checkpoint. Nothing here knows
what a model does with its parts.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from sentence_transformers.modules.parts import inside, load_part
from sentence_transformers.storage.folder import read_json
from sentence_transformers.storage.module_types import class_of

logger = logging.getLogger(__name__)

MODULES_FILE = "modules.json"
CONFIG_FILE = "config_sentence_transformers.json"


@dataclass
class LoadedModel:
    """What a folder held: parts by name, the `encode` arguments each wants, and the model's settings."""

    modules: OrderedDict[str, nn.Module]
    module_kwargs: dict[str, list[str]] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)


def has_modules(folder: Path) -> bool:
    """Whether a folder lists the parts of a model; otherwise it is a plain transformers checkpoint."""
    return (folder / MODULES_FILE).is_file()


def load_model(folder: Path, options: dict[str, Any]) -> LoadedModel:
    """Load all parts that `modules.json` lists.

    Args:
        folder: The model's folder.
        options: Passed to those parts whose `load` knows them (`trust_remote_code`, `model_kwargs`, …).

    Raises:
        ValueError: If the listing is malformed, names an unknown type, or leads outside of the folder.
        FileNotFoundError: If a part with weights has no folder.
    """
    listing = read_json(folder / MODULES_FILE)
    if not isinstance(listing, list) or not listing:
        raise ValueError(f"{folder / MODULES_FILE} lists no modules. Is the model folder damaged?")
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    module_kwargs: dict[str, list[str]] = {}
    for number, entry in enumerate(listing):
        if not isinstance(entry, dict) or "type" not in entry:
            raise ValueError(f"{folder / MODULES_FILE}: entry {number} has no 'type': {entry!r}.")
        name = str(entry.get("name", number))
        if name in modules:
            raise ValueError(
                f"{folder / MODULES_FILE} lists two parts named {name!r}. Is the model folder damaged?"
            )
        kind = class_of(
            entry["type"], folder=folder, trust_remote_code=bool(options.get("trust_remote_code", False))
        )
        place = inside(folder, entry.get("path", ""))
        if not place.is_dir() and needs_folder(kind):
            raise FileNotFoundError(
                f"The model in {folder} lists the part {entry.get('path')!r} ({entry['type']}), but that folder is "
                "missing. Save or download the model again."
            )
        modules[name] = load_part(kind, place, options)
        module_kwargs[name] = list(entry.get("kwargs") or [])
    return LoadedModel(modules, module_kwargs, read_model_config(folder))


def needs_folder(kind: type) -> bool:
    """Whether a part cannot be made from nothing: those without settings are saved without a folder."""
    return kind.__name__ not in ("Normalize", "Dropout")


def read_model_config(folder: Path) -> dict[str, Any]:
    """The model's settings; empty for models from before they were saved."""
    path = folder / CONFIG_FILE
    config = read_json(path) if path.is_file() else {}
    if not isinstance(config, dict):
        raise ValueError(
            f"{path} holds no settings but {type(config).__name__}. Is the model folder damaged?"
        )
    return config


def without_missing(values: dict[str, Any]) -> dict[str, Any]:
    """The entries that are not None."""
    return {key: value for key, value in values.items() if value is not None}
