"""Scaling vectors to length one."""

from __future__ import annotations

from typing import Any, ClassVar

from torch.nn import functional as F
from typing_extensions import Self

from sentence_transformers.arguments import accepts_older_names
from sentence_transformers.modules.base import Module, locate


class Normalize(Module):
    """Divides every vector by its Euclidean norm; a vector of zeros stays as it is.

    Args:
        module_input_name: Entry of the features to read.
        module_output_name: Entry to write; None for the one that is read.
    """

    config_keys: list[str] = ["module_input_name", "module_output_name"]
    reads_packed: ClassVar[bool] = True

    def __init__(
        self, module_input_name: str = "sentence_embedding", module_output_name: str | None = None
    ) -> None:
        super().__init__()
        self.module_input_name = module_input_name
        self.module_output_name = module_output_name or module_input_name

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Normalise the entry over its last dimension."""
        del kwargs
        vectors = features[self.module_input_name]
        # The squares of half-precision values overflow or vanish.
        features[self.module_output_name] = F.normalize(vectors.float(), p=2, dim=-1).to(vectors.dtype)
        return features

    @classmethod
    @accepts_older_names(input_path="model_name_or_path")
    def load(
        cls,
        model_name_or_path: str = "",
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        **kwargs: Any,
    ) -> Self:
        """Load the part; see `Module.load`. Without a folder, it has the usual settings."""
        where = locate(model_name_or_path, subfolder, token, cache_folder, revision, local_files_only)
        return super().load(**where, **kwargs) if model_name_or_path else cls()

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the settings where they are not the usual ones; releases up to 5.3 write none."""
        del args, safe_serialization, kwargs
        if (self.module_input_name, self.module_output_name) != ("sentence_embedding",) * 2:
            self.save_config(output_path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.get_config_dict()})"
