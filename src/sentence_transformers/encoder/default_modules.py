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
