"""The modules of a model made from a plain transformers checkpoint. Nothing here decides when to make one."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

from torch import nn


def transformer_with_mean_pooling(folder: Path, options: dict[str, Any]) -> OrderedDict[str, nn.Module]:
    """A transformer and the average of its token embeddings.

    Args:
        folder: The checkpoint.
        options: As for `Transformer.load`.
    """
    from sentence_transformers.modules.pooling import Pooling
    from sentence_transformers.modules.transformer.module import Transformer

    transformer = Transformer.load(str(folder), **options)
    pooling = Pooling(transformer.get_word_embedding_dimension(), "mean")
    return OrderedDict({"0": transformer, "1": pooling})


def transformer_with_head(folder: Path, options: dict[str, Any]) -> OrderedDict[str, nn.Module]:
    """A transformer with a head for sequence classification; a new head if the checkpoint has none.

    Args:
        folder: The checkpoint.
        options: As for `Transformer.load`; the folder's own settings for modules, if any, are not read.
    """
    return OrderedDict({"0": checkpoint_transformer(folder, options, task="sequence-classification")})


def checkpoint_transformer(folder: Path, options: dict[str, Any], *, task: str) -> Any:
    """The transformer of a checkpoint, loaded for a task, whatever settings for modules the folder has.

    Args:
        folder: The checkpoint.
        options: As for `Transformer.load`.
        task: As for `Transformer`.
    """
    from sentence_transformers.modules.transformer.module import Transformer

    trust = {"trust_remote_code": options.get("trust_remote_code", False)}
    given: dict[str, Any] = {
        name: {**trust, **(options.get(name) or {})}
        for name in ("model_kwargs", "processor_kwargs", "config_kwargs")
    }
    return Transformer(
        str(folder),
        cache_dir=options.get("cache_folder"),
        backend=options.get("backend", "torch"),
        transformer_task=task,
        **given,
    )
