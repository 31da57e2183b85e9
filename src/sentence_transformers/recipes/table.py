"""The recipes there are. To add one, write its module and add its line; the command line follows.

A recipe is a module with a dataclass `Config` (see `config.py`), whose fields are its options, and a function
`run(config) -> Report`. The first line of `run`'s docstring is what the command line says of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType

RECIPES: Mapping[str, str] = {
    "tsdae": "sentence_transformers.recipes.tsdae",
}
"""Where each recipe stands, by its name."""


def recipe(name: str) -> ModuleType:
    """The module of a recipe.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in RECIPES:
        raise ValueError(f"There is no recipe {name!r}. There are: {', '.join(RECIPES)}.")
    return import_module(RECIPES[name])
