"""A transformers checkpoint, read from a folder or the hub and written into one.

Nothing here knows what is computed with it; the settings of this library beside it stand in `settings.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from sentence_transformers.backend import attention
from sentence_transformers.backend.int8_checkpoint import is_int8, with_int8_layers
from sentence_transformers.modules.transformer.architectures import ENCODERS_OF_PAIRS, TASK_CLASSES
from sentence_transformers.storage.folder import SAFETENSORS, read_json, read_safetensors, write_json


def asks_for(*options: dict[str, Any]) -> list[str]:
    """Settings a caller passes on to transformers, less those that say nothing about a local checkpoint."""
    silent = {"cache_dir", "local_files_only", "token", "revision"}
    return [
        key
        for given in options
        for key, value in given.items()
        if key not in silent and not (key == "trust_remote_code" and not value)
    ]


def load_transformer(
    name: str, task: str, config_options: dict[str, Any], model_options: dict[str, Any]
) -> nn.Module:
    """Load the transformers model for a task, in evaluation mode.

    Raises:
        ValueError: If the weights are damaged.
        OSError: If a file is missing; from transformers.
    """
    import transformers
    from safetensors import SafetensorError

    config = load_config(name, config_options)
    kind = TASK_CLASSES[task]
    if task == "feature-extraction":
        kind = ENCODERS_OF_PAIRS.get(config.model_type, kind)
    with quiet_progress():
        if is_int8(getattr(config, "quantization_config", None)):
            return load_int8(name, getattr(transformers, kind), config, model_options)
        try:
            return getattr(transformers, kind).from_pretrained(name, config=config, **model_options).eval()
        except SafetensorError as error:
            raise ValueError(
                f"The weights in {name} are damaged or incomplete ({error}). Save or download the model again."
            ) from error


INT8_OPTIONS = ("attn_implementation", "dtype", "torch_dtype")
"""What can be said of a model with layers in eight bits, besides where it is."""


def load_int8(name: str, kind: Any, config: Any, model_options: dict[str, Any]) -> nn.Module:
    """Load a checkpoint with linear layers in eight bits, as `backend/int8_checkpoint.py` opens it.

    Raises:
        ValueError: If an option has no meaning for such a checkpoint, or the weights are damaged.
    """
    from transformers.utils import cached_file
    from transformers.utils.hub import get_checkpoint_shard_files

    refused = [key for key in asks_for(model_options) if key not in (*INT8_OPTIONS, "subfolder")]
    if refused:
        raise ValueError(
            f"{name} has weights in eight bits: {', '.join(refused)} cannot be given for it. Give "
            f"{', '.join(INT8_OPTIONS)}, or load the model it was made from."
        )
    where = {
        key: model_options[key]
        for key in ("cache_dir", "token", "revision", "local_files_only", "subfolder")
        if key in model_options
    }
    single = cached_file(name, SAFETENSORS, _raise_exceptions_for_missing_entries=False, **where)
    if single is None:
        index = cached_file(name, f"{SAFETENSORS}.index.json", **where)
        files = get_checkpoint_shard_files(name, index, **where)[0]
    else:
        files = [single]
    state: dict[str, torch.Tensor] = {}
    for file in files:
        state.update(read_safetensors(Path(file)))
    settings, config.quantization_config = config.quantization_config, None
    given = model_options.get("attn_implementation")
    build = getattr(kind, "from_config", None) or kind._from_config  # an auto class, or a model's
    with torch.random.fork_rng(devices=[]):
        model = build(config, **({"attn_implementation": given} if given else {}))
    model.config.quantization_config = settings
    model = with_int8_layers(model, state)
    dtype = model_options.get("dtype") or model_options.get("torch_dtype")
    if dtype not in (None, "auto"):
        model.to(getattr(torch, dtype) if isinstance(dtype, str) else dtype)
    return model


def load_config(name: str, options: dict[str, Any]) -> Any:
    """Load the transformers configuration; for a folder with only an adapter, that of its base model."""
    from transformers import AutoConfig

    folder = Path(name)
    if (
        folder.is_dir()
        and not (folder / "config.json").is_file()
        and (folder / "adapter_config.json").is_file()
    ):
        name = read_json(folder / "adapter_config.json")["base_model_name_or_path"]
    return AutoConfig.from_pretrained(name, **options)


def load_tokenizer(name: str, options: dict[str, Any]) -> Any:
    """Load the transformers tokenizer.

    Raises:
        ValueError: If its file is damaged.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name, **options)
    except Exception:
        # Whatever transformers makes of a truncated file, its error names another cause.
        if (Path(name) / "tokenizer.json").is_file():
            read_json(Path(name) / "tokenizer.json")
        raise


def save_transformer(model: Any, folder: str, safe_serialization: bool) -> None:
    """Write a transformers model; transformers itself writes safetensors only."""
    config = model.config
    implementation = config._attn_implementation
    if implementation == attention.NAME:
        # Another reader has no attention of that name.
        model.set_attn_implementation("sdpa")
    try:
        with quiet_progress():
            model.save_pretrained(folder)
    finally:
        if implementation == attention.NAME:
            model.set_attn_implementation(implementation)
    if not safe_serialization:
        path = Path(folder)
        for stale in path.glob("model*.safetensors*"):
            stale.unlink()
        torch.save(model.state_dict(), path / "pytorch_model.bin")


class quiet_progress:
    """Silence the bar that transformers draws while it loads or saves weights."""

    def __enter__(self) -> None:
        from transformers.utils import logging as transformers_logging

        self._logging = transformers_logging
        self._was_enabled = transformers_logging.is_progress_bar_enabled()
        if self._was_enabled:
            transformers_logging.disable_progress_bar()

    def __exit__(self, *details: Any) -> None:
        if self._was_enabled:
            self._logging.enable_progress_bar()


def set_saved_limit(path: Path, max_length: int) -> None:
    """Write into a saved tokenizer's settings how many tokens it keeps."""
    if path.is_file():
        write_json(path, {**read_json(path), "model_max_length": max_length})
