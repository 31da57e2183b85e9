"""What every part of a model has in common.

A model is a sequence of modules, each of which takes a features dictionary, adds or replaces entries, and
hands it on. `Module` adds to `torch.nn.Module` how a part is saved into a folder and loaded from one;
`InputModule` is a first part, which also turns raw inputs into features. What a part computes stands in
its own file.

Entries of the features dictionary that parts share: `input_ids`, `attention_mask`, `token_type_ids`
(B, T); `token_embeddings` (B, T, D); `sentence_embedding` (B, D); `prompt_length` (int);
`all_layer_embeddings` (list of (B, T, D)). Rows may also come packed, without padding, one after another:
then `cu_seq_lens_q` (B + 1,) says where each row starts and `input_ids` and `token_embeddings` are
(1, sum of T) and (1, sum of T, D). Only parts with `reads_packed` are given packed features.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from typing_extensions import Self

from sentence_transformers.arguments import accepts_older_names
from sentence_transformers.inputs.rows import TokenRows
from sentence_transformers.storage import hub
from sentence_transformers.storage.folder import read_json, read_weights, write_json, write_weights


class Module(nn.Module):
    """A part of a model that can be saved into a folder and loaded from one.

    A subclass lists in `config_keys` the attributes that its constructor needs again, and gets `save` and
    `load` for free. One with weights calls `save_torch_weights` and `load_torch_weights` in addition.
    """

    config_file_name: str = "config.json"
    """Name of the file that holds the configuration."""

    config_keys: list[str] = []
    """Attributes to save, which are also the constructor's arguments."""

    config_key_renames: dict[str, str] = {}
    """Names that configuration keys had in older files, and the names they have now."""

    save_in_root: bool = False
    """Whether the part is saved into the model's own folder when it comes first."""

    forward_kwargs: set[str] = set()
    """Keyword arguments of `encode` that are handed to this part's `forward`."""

    reads_packed: ClassVar[bool] = False
    """Whether `forward` understands packed rows."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add this part's result to the features and return them."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward(features).")

    def get_config_dict(self) -> dict[str, Any]:
        """Configuration to save: the values of `config_keys`."""
        return {key: getattr(self, key) for key in self.config_keys}

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
        """Load the part from a folder or a hub repository.

        Args:
            model_name_or_path: A local folder or the name of a repository.
            subfolder: Folder of this part inside the model.
            token: Access token of the hub.
            cache_folder: Where downloaded files are kept.
            revision: Branch, tag or commit of the repository.
            local_files_only: Use no network.
            init_defaults: Constructor arguments for those that the saved configuration lacks.
            **kwargs: Ignored here; a subclass may take more.
        """
        del kwargs
        where = locate(model_name_or_path, subfolder, token, cache_folder, revision, local_files_only)
        return cls(**{**(init_defaults or {}), **cls.load_config(**where)})

    @classmethod
    def load_config(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        config_filename: str | None = None,
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
    ) -> dict[str, Any]:
        """Read the saved configuration; empty when there is none (parts without settings)."""
        where = locate(model_name_or_path, subfolder, token, cache_folder, revision, local_files_only)
        path = cls.load_file_path(filename=config_filename or cls.config_file_name, **where)
        if path is None:
            return {}
        config = read_json(path)
        if not isinstance(config, dict):
            raise ValueError(
                f"{path} holds no settings but {type(config).__name__}. Is the model folder damaged?"
            )
        return {cls.config_key_renames.get(key, key): value for key, value in config.items()}

    @staticmethod
    def load_file_path(
        model_name_or_path: str,
        filename: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
    ) -> str | None:
        """Local path of a file of the model, downloaded if need be; None when it does not exist."""
        where = locate(model_name_or_path, subfolder, token, cache_folder, revision, local_files_only)
        return hub.load_file_path(filename=filename, **where)

    @staticmethod
    def load_dir_path(
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
    ) -> str | None:
        """Local path of a folder of the model, downloaded if need be; None when it does not exist."""
        return hub.load_dir_path(
            **locate(model_name_or_path, subfolder, token, cache_folder, revision, local_files_only)
        )

    @classmethod
    def load_torch_weights(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        model: Self | None = None,
    ) -> Any:
        """Read the saved weights: `model.safetensors`, else `pytorch_model.bin` (tensors only).

        Returns:
            `model` with the weights loaded into it, or the state dictionary when no model is given.

        Raises:
            ValueError: If there is no weights file, if it is damaged, or if its tensors do not fit `model`.
        """
        where = locate(model_name_or_path, subfolder, token, cache_folder, revision, local_files_only)
        folder = cls.load_dir_path(**where)
        if folder is None:
            raise ValueError(f"{cls.__name__} has no folder {subfolder!r} in {model_name_or_path!r}.")
        state = read_weights(folder)
        if model is None:
            return state
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(f"The weights in {folder} do not fit this {cls.__name__}: {error}") from error
        return model

    def on_model_ready(self, model: nn.Module) -> None:
        """Called once the model around this part is complete; the part may look at its neighbours."""

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the configuration (and, in subclasses with weights, the weights) into a folder."""
        del args, safe_serialization, kwargs
        self.save_config(output_path)

    def save_config(self, output_path: str, filename: str | None = None) -> None:
        """Write `get_config_dict()` as JSON into a folder."""
        write_json(Path(output_path) / (filename or self.config_file_name), self.get_config_dict())

    def save_torch_weights(self, output_path: str, safe_serialization: bool = True) -> None:
        """Write the weights as `model.safetensors`, or as `pytorch_model.bin` when asked."""
        write_weights(self.state_dict(), output_path, safe_serialization=safe_serialization, tensors_of=self)


class InputModule(Module):
    """A first part of a model: it also turns raw inputs into features.

    A subclass defines `preprocess`, or `tokenize` as the older name of it. One whose tokens are plain ids
    may also define `read_rows` and `collate_rows`, and gets the engine's unpadded path.
    """

    save_in_root: bool = True
    modalities: list[Any] = ["text"]
    tokenizer: Any

    def preprocess(
        self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any
    ) -> dict[str, torch.Tensor | Any]:
        """Turn inputs into the features of one padded batch.

        Args:
            inputs: Texts, pairs or whatever this part understands, as a list.
            prompt: Put in front of every text.
            **kwargs: Settings of the subclass.
        """
        if prompt:
            inputs = [prompt + text for text in inputs]
        if type(self).tokenize is InputModule.tokenize:
            raise NotImplementedError(f"{type(self).__name__} does not define preprocess(inputs).")
        return self.tokenize(list(inputs), **kwargs)

    def tokenize(self, texts: list[Any], **kwargs: Any) -> dict[str, torch.Tensor | Any]:
        """Older name of `preprocess`."""
        return self.preprocess(texts, **kwargs)

    def save_tokenizer(self, output_path: str, **kwargs: Any) -> None:
        """Write the tokenizer's files into a folder; `kwargs` go to the tokenizer's `save_pretrained`."""
        tokenizer: Any = getattr(self, "tokenizer", None)
        if hasattr(tokenizer, "save_pretrained"):
            tokenizer.save_pretrained(output_path, **kwargs)
            make_readable_by_all_releases(Path(output_path) / "tokenizer_config.json")
        elif hasattr(tokenizer, "save"):
            tokenizer.save(str(Path(output_path) / "tokenizer.json"))


class RowInputModule(InputModule):
    """A first part whose inputs become rows of token ids, which the engine may order and pack."""

    def read_rows(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> TokenRows | None:
        """Tokenise without padding; None when these inputs have to go through `preprocess`.

        Must be safe to call from several threads at once, also while `forward` runs.
        """
        raise NotImplementedError

    def collate_rows(self, rows: TokenRows, *, packed: bool) -> dict[str, Any]:
        """Build the features of one batch from rows, packed one after another or padded."""
        raise NotImplementedError

    @property
    def can_pack(self) -> bool:
        """Whether `forward` computes packed rows exactly as it does padded ones."""
        return False


def make_readable_by_all_releases(path: Path) -> None:
    """Write what only transformers 5 understands of a `tokenizer_config.json` as transformers 4 does, which both read."""
    if not path.is_file():
        return
    config = read_json(path)
    changed = dict(config)
    if config.get("tokenizer_class") == "TokenizersBackend":
        changed["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(config.get("extra_special_tokens"), list):
        changed["additional_special_tokens"] = changed.pop("extra_special_tokens")
    for key in ("is_local", "local_files_only"):  # how it was loaded says nothing about the tokenizer
        changed.pop(key, None)
    if changed != config:
        write_json(path, changed)


def locate(
    model_name_or_path: str,
    subfolder: str,
    token: bool | str | None,
    cache_folder: str | None,
    revision: str | None,
    local_files_only: bool,
) -> dict[str, Any]:
    """The six arguments that say where a file of a model is, ready to be passed on."""
    return {
        "model_name_or_path": model_name_or_path,
        "subfolder": subfolder,
        "token": token,
        "cache_folder": cache_folder,
        "revision": revision,
        "local_files_only": local_files_only,
    }


def describe(config: dict[str, Any]) -> str:
    """A configuration as text for `repr`."""
    return json.dumps(config, default=str)
