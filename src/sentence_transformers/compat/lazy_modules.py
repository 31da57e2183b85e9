"""Modules whose names are looked up elsewhere on first use.

A lazy module holds no values of its own: a table says for each of its names the home, written as
"module:attribute", and the home is imported when the name is first asked for. Which names there are
stands in `moved.py`; nothing here knows any.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def resolve(module: str, name: str, homes: Mapping[str, str]) -> Any:
    """The value of a module's lazy name; kept in the module, so that it is looked up once.

    Args:
        module: Full name of the module that is asked, which must be imported.
        name: The attribute that is asked for.
        homes: Home of each lazy name of this module.

    Raises:
        AttributeError: If the module has no such name, nor a submodule of that name.
    """
    if name in homes:
        home, _, attribute = homes[name].partition(":")
        value = getattr(importlib.import_module(home), attribute)
        setattr(sys.modules[module], name, value)
        return value
    if not name.startswith("__") and has_submodule(module, name):
        return importlib.import_module(f"{module}.{name}")
    raise AttributeError(f"module {module!r} has no attribute {name!r}")


def has_submodule(module: str, name: str) -> bool:
    """Whether `module.name` can be imported."""
    if f"{module}.{name}" in sys.modules:
        return True
    if not getattr(sys.modules[module], "__path__", None):
        return False
    spec = importlib.util.find_spec(f"{module}.{name}")
    # A folder without `__init__.py` (which Python takes for a package) is not one of ours.
    return spec is not None and spec.origin is not None


class LazyModule(ModuleType):
    """A module without a file, for a path that names once had.

    Args:
        name: Full name of the module.
        homes: Home of each of its names.
        is_package: Whether other modules stand below it.
        advice: What to tell, once, who uses a name of it; None to say nothing.
    """

    def __init__(self, name: str, homes: Mapping[str, str], *, is_package: bool, advice: str | None) -> None:
        super().__init__(name, "Names that have moved; see `sentence_transformers.compat.moved`.")
        self.__spec__ = ModuleSpec(name, None, is_package=is_package)
        self.__package__ = name if is_package else name.rpartition(".")[0]
        if is_package:
            self.__path__: list[str] = []
        self.__all__ = sorted(homes)
        self._homes = homes
        self._advice = advice

    def __getattr__(self, name: str) -> Any:
        if name in self._homes and self._advice is not None:
            advice, self._advice = self._advice, None
            warnings.warn(advice, DeprecationWarning, stacklevel=2)
        return resolve(self.__name__, name, self._homes)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._homes})

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return importlib.import_module, (self.__name__,)
