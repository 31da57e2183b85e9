"""What the module that reads a model's inputs takes, and in which of its ways it reads them."""

from __future__ import annotations

import inspect
from typing import Any

from sentence_transformers.inputs.routed import is_routed
from sentence_transformers.inputs.tokens import is_token_ids


def accepted_by(function: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Those keyword arguments that a callable takes."""
    if not kwargs:
        return kwargs
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return kwargs
    return {key: value for key, value in kwargs.items() if key in parameters}


def overrides(kind: type, name: str, other: str) -> bool:
    """Whether a class defines `name` nearer to itself than `other`."""
    for base in kind.__mro__:
        if name in vars(base):
            return other not in vars(base)
        if other in vars(base):
            return False
    return False


def overrides_rows(kind: type) -> bool:
    """Whether a custom input module prepares inputs its own way, without making rows of them."""
    for base in kind.__mro__:
        own = vars(base)
        if "read_rows" in own:
            return False
        if "tokenize" in own or "preprocess" in own:
            return True
    return True


def reads_as_rows(item: Any) -> bool:
    """Whether an input can become a row of tokens: a text, a pair, a routed text, token ids."""
    if isinstance(item, str) or is_routed(item) or is_token_ids(item):
        return True
    return isinstance(item, (list, tuple)) and all(isinstance(part, str) for part in item)
