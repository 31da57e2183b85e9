"""Which function turns a cross-encoder's raw scores into the scores that users see.

The caller's choice, else what the model was saved with, else a sigmoid for one label and nothing for more.
Models name their function by the import path of its class, in one of three places, depending on the
release that saved them. Nothing here applies the function.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from torch import nn

from sentence_transformers.cross_encoder.results import Activation
from sentence_transformers.modules.dense import TRUSTED_ACTIVATIONS, activation_named
from sentence_transformers.storage.importing import fullname

logger = logging.getLogger(__name__)

KEY = "activation_fn"
"""Of the model's own settings (release 6), and of `sentence_transformers` in `config.json` (4 and 5)."""

SECTION = "sentence_transformers"

OLDEST_KEY = "sbert_ce_default_activation_function"
"""Of `config.json` (releases up to 3)."""


def usual_activation(num_labels: int) -> nn.Module:
    """The function of a model that says nothing."""
    return nn.Sigmoid() if num_labels == 1 else nn.Identity()


def saved_path(settings: Mapping[str, Any], config: Any) -> str | None:
    """Import path of the function a model was saved with.

    Args:
        settings: The model's own settings.
        config: The transformers configuration, or None.
    """
    section = getattr(config, SECTION, None)
    candidates = (
        settings.get(KEY),
        section.get(KEY) if isinstance(section, Mapping) else None,
        getattr(config, OLDEST_KEY, None),
    )
    return next((path for path in candidates if path), None)


def saved_activation(path: Any, *, trust_remote_code: bool) -> Activation | None:
    """The function of an import path; None when it is foreign code that the caller does not trust.

    Raises:
        ValueError: If there is no such class, or it cannot be made without arguments.
    """
    if not isinstance(path, str):
        raise ValueError(
            f"The model's settings name the activation function {path!r}, which is no import path. Pass "
            "activation_fn=… to choose one."
        )
    if not path.startswith(TRUSTED_ACTIVATIONS) and not (trust_remote_code and "." in path):
        logger.warning(
            "The model was saved with the activation function %r, which is not one of torch's and is not used. Pass "
            "activation_fn=… for the right one%s.",
            path,
            ", or trust_remote_code=True if you trust the model's code" if "." in path else "",
        )
        return None
    try:
        return activation_named(path, trust_remote_code=trust_remote_code)
    except ValueError as error:
        raise ValueError(f"{error} Pass activation_fn=… to choose another.") from error


def path_to_save(activation: Activation) -> str | None:
    """Import path from which the function can be made again; None for one that is no module and has no such path."""
    return fullname(activation) if isinstance(activation, nn.Module) else None


def write_to_config(config: Any, activation: Activation, release: str | None) -> None:
    """Note the function where releases before 6 look for it, which read nothing else of ours.

    Args:
        config: The transformers configuration that is about to be saved.
        activation: The function.
        release: Of this library.
    """
    path = path_to_save(activation)
    if path is None:
        logger.warning(
            "activation_fn is %r, and only a torch.nn.Module can be saved with a model. Whoever loads it will have to "
            "pass activation_fn=….",
            activation,
        )
    for key, value in ((SECTION, {KEY: path, "version": release}), (OLDEST_KEY, path)):
        if path is not None:
            setattr(config, key, value)
        elif hasattr(config, key):
            delattr(config, key)
