"""Adapters (LoRA and its kin) on the transformers model inside a model.

transformers can put PEFT adapters on any of its models; the mixin here makes the same methods available
one level up. Every call goes unchanged to the transformers model. Nothing here knows what an adapter
computes.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import Any


def peft_wrapper(func: Callable[..., Any]) -> Callable[..., Any]:
    """Make a method call the method of its own name on the transformers model inside.

    Args:
        func: The method to stand in for; only its name, signature and docstring are used.

    Returns:
        A method with any arguments. It raises what `PeftAdapterMixin.check_peft_compatible_model` raises.
    """

    @functools.wraps(func)
    def forwarded(self: PeftAdapterMixin, *args: Any, **kwargs: Any) -> Any:
        self.check_peft_compatible_model()
        return getattr(transformers_model_of(self), func.__name__)(*args, **kwargs)

    return forwarded


class PeftAdapterMixin:
    """Methods of transformers' adapter support, for a model whose first part holds a transformers model."""

    def has_peft_compatible_model(self) -> bool:
        """Whether there is a transformers model inside that can take adapters."""
        return hasattr(transformers_model_of(self), "load_adapter")

    def check_peft_compatible_model(self) -> None:
        """Raise a ValueError when adapters cannot be used with this model, or without the package peft."""
        if not self.has_peft_compatible_model():
            raise ValueError(
                f"This {type(self).__name__} cannot take adapters: they go onto a transformers model, and "
                "there is none inside that supports them. Use a model whose first module is a Transformer "
                "that runs in torch."
            )
        if importlib.util.find_spec("peft") is None:
            raise ValueError(
                "Adapters need the package peft, which is not installed. Install it with: "
                'pip install "sentence-transformers[train]"'
            )

    @peft_wrapper
    def load_adapter(self, *args: Any, **kwargs: Any) -> Any:
        """Load an adapter from a folder or the hub, and use it from then on.

        Args:
            *args: Handed on to `load_adapter` of the transformers model.
            **kwargs: The same.
        """

    @peft_wrapper
    def add_adapter(self, *args: Any, **kwargs: Any) -> None:
        """Add a new adapter to be trained; the model's own weights are frozen.

        Args:
            *args: Handed on to `add_adapter` of the transformers model: a `peft.PeftConfig`, and a name.
            **kwargs: The same.
        """

    @peft_wrapper
    def set_adapter(self, *args: Any, **kwargs: Any) -> None:
        """Use the adapter of this name and no other.

        Args:
            *args: Handed on to `set_adapter` of the transformers model.
            **kwargs: The same.
        """

    @peft_wrapper
    def disable_adapters(self) -> None:
        """Compute as if there were no adapters, until `enable_adapters`."""

    @peft_wrapper
    def enable_adapters(self) -> None:
        """Use the adapters again."""

    @peft_wrapper
    def active_adapters(self) -> list[str]:
        """Names of the adapters in use."""
        raise NotImplementedError

    def active_adapter(self) -> str:
        """Name of the adapter in use; the first one when there are several."""
        return self.active_adapters()[0]

    @peft_wrapper
    def get_adapter_state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Weights of an adapter, by name.

        Args:
            *args: Handed on to `get_adapter_state_dict` of the transformers model: the adapter's name.
            **kwargs: The same.
        """
        raise NotImplementedError

    @peft_wrapper
    def delete_adapter(self, *args: Any, **kwargs: Any) -> None:
        """Remove adapters.

        Args:
            *args: Handed on to `delete_adapter` of the transformers model: one name, or several.
            **kwargs: The same.
        """


def transformers_model_of(model: Any) -> Any:
    """The transformers model inside, or None."""
    return getattr(model, "transformers_model", None)
