"""Saving and loading of parts that have weights beside their configuration.

A folder of such a part holds one configuration file and one weights file, and the configuration is all
that the constructor needs. Nothing here knows what a part computes.
"""

from __future__ import annotations

from typing import Any

from typing_extensions import Self

from sentence_transformers.arguments import accepts_older_names
from sentence_transformers.modules.base import Module, locate


class ModuleWithWeights(Module):
    """A part that is made again from its configuration and then given its saved weights."""

    def save(self, output_path: str, safe_serialization: bool = True, *args: Any, **kwargs: Any) -> None:
        """Write the configuration and the weights into a folder.

        Args:
            output_path: The folder; made if need be.
            safe_serialization: True for `model.safetensors`, False for `pytorch_model.bin`.
            *args: Ignored.
            **kwargs: Ignored.
        """
        del args, kwargs
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)

    @classmethod
    @accepts_older_names(input_path="model_name_or_path")
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        init_defaults: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load the part with its weights; the arguments are those of `Module.load`.

        Raises:
            ValueError: If the weights are missing, damaged, or do not fit the configuration.
        """
        del kwargs
        where = locate(model_name_or_path, subfolder, token, cache_folder, revision, local_files_only)
        part = cls(**{**(init_defaults or {}), **cls.load_config(**where)})
        return cls.load_torch_weights(model=part, **where)
