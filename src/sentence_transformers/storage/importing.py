"""From names to classes and back.

Configurations name classes and functions by dotted paths. Here such a path becomes the object, and an
object its path. The names of module types in saved models, past and present, stand in `module_types.py`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

from sentence_transformers.arguments import accepts_older_names
from sentence_transformers.storage.module_types import SPELLINGS


@accepts_older_names(obj="o")
def fullname(o: Any) -> str:
    """Dotted path of a class or function, or of an object's class; without the module for builtins."""
    named = o if isinstance(o, type) or inspect.isroutine(o) else type(o)
    module = getattr(named, "__module__", None)
    return named.__qualname__ if module in (None, "builtins") else f"{module}.{named.__qualname__}"


def import_from_string(dotted_path: str) -> type:
    """Import the object with a dotted path, such as `torch.nn.Tanh`.

    Raises:
        ImportError: If the path has no dot, if there is no such module, or nothing of that name in it.
    """
    module_name, _, name = dotted_path.rpartition(".")
    if not module_name:
        raise ImportError(
            f"{dotted_path!r} is no path to import: it has no dot. Write the module and the name, as in "
            "torch.nn.Tanh."
        )
    if dotted_path in SPELLINGS:
        module_name, name = SPELLINGS[dotted_path]
    module = import_module(module_name)
    try:
        return getattr(module, name)
    except AttributeError as error:
        raise ImportError(f"The module {module_name!r} has nothing named {name!r}.") from error


def import_module_class(
    class_ref: str,
    model_name_or_path: str | None = None,
    *,
    trust_remote_code: bool = False,
    revision: str | None = None,
    code_revision: str | None = None,
    token: bool | str | None = None,
    cache_folder: str | None = None,
    local_files_only: bool = False,
) -> type:
    """Import a class that a model, or the caller, names by a dotted path.

    Args:
        class_ref: Path of the class. This library's own are always allowed.
        model_name_or_path: The model that names it; None if the caller does, whose word is trusted.
        trust_remote_code: Whether other code may be run because the model says so. The class may then be in a
            file of the model's own folder or repository.
        revision: Branch, tag or commit of the model.
        code_revision: The same for its code, if that differs.
        token: Access token of the hub.
        cache_folder: Where downloaded files are kept.
        local_files_only: Use no network.

    Raises:
        ValueError: If a model names a class of other code and is not trusted.
        ImportError: If there is no such class.
    """
    if class_ref in SPELLINGS or class_ref.startswith("sentence_transformers.") or model_name_or_path is None:
        return import_from_string(class_ref)
    if not trust_remote_code:
        raise ValueError(
            f"The model {model_name_or_path} names the class {class_ref!r}, which is not one of this "
            "library's. Importing "
            "it runs code that others wrote. Look at the model's files, and if you trust them pass "
            "trust_remote_code=True."
        )
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    try:
        return get_class_from_dynamic_module(
            class_ref,
            model_name_or_path,
            revision=revision,
            code_revision=code_revision,
            token=token,
            cache_dir=cache_folder,
            local_files_only=local_files_only,
        )
    except (OSError, ValueError):
        # The model does not bring the code itself; then it means an installed package.
        return import_from_string(class_ref)


def similarity_fct_name(similarity_fct: Callable) -> str:
    """What to call a similarity in a saved configuration: a function's name, or an object's class.

    A `functools.partial` shows the arguments it fixes, as in `maxsim(length_normalize=True)`.
    """
    if isinstance(similarity_fct, functools.partial):
        fixed = [repr(value) for value in similarity_fct.args]
        fixed += [f"{name}={value!r}" for name, value in similarity_fct.keywords.items()]
        return f"{similarity_fct_name(similarity_fct.func)}({', '.join(fixed)})"
    return getattr(similarity_fct, "__name__", type(similarity_fct).__name__)
