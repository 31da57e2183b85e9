"""Older ways to call `save_to_hub`."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)

PLACE_OF_TOKEN = 3
"""Where `token` stands now, the object itself counted; older calls by position did not have it."""


def save_to_hub_args_decorator(func: Callable[..., Any]) -> Callable[..., Any]:
    """Let a `save_to_hub(self, repo_id, organization, token, private, ...)` answer to its older calls.

    `repo_name` is the older keyword of `repo_id`; and what was passed by position after the organisation
    comes one place later, because `token` was put in between.
    """

    @functools.wraps(func)
    def with_current_arguments(*args: Any, **kwargs: Any) -> Any:
        if "repo_name" in kwargs:
            logger.warning("save_to_hub(repo_name=...) is an older spelling. Pass it as repo_id.")
            kwargs["repo_id"] = kwargs.pop("repo_name")
        if len(args) > PLACE_OF_TOKEN:
            args = (*args[:PLACE_OF_TOKEN], None, *args[PLACE_OF_TOKEN:])
        return func(*args, **kwargs)

    return with_current_arguments
