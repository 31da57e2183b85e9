"""Older names of arguments.

Arguments were renamed over the releases (`input_path` became `model_name_or_path`, `tokenizer_kwargs`
became `processor_kwargs`). A callable that must answer to both names carries the decorator below; the
table of old and new names stands right at the callable. Nothing here knows what an argument means.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def accepts_older_names(**new_by_old: str) -> Callable[[Function], Function]:
    """Let callers pass keyword arguments under their older names.

    Args:
        **new_by_old: The older name of each argument and the name it has now.

    Returns:
        A decorator. The decorated callable raises `TypeError` when an argument comes under both names.
    """

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def with_current_names(*args: Any, **kwargs: Any) -> Any:
            for old, new in new_by_old.items():
                if old in kwargs:
                    if new in kwargs:
                        raise TypeError(
                            f"{function.__qualname__}() got {new!r} twice: {old!r} is its older name. Pass one of them."
                        )
                    kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return with_current_names  # type: ignore[return-value]

    return decorate
