"""Embed anchors and corpus with a model, and read the model's similarity.

The only place of this folder that calls a model. Models are known by their methods alone: `encode` must be
there; `encode_query`, `encode_document` and `similarity_fn_name` are used if they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from sentence_transformers.search.hard_negatives.embedding_cache import cache_key, cached_embeddings
from sentence_transformers.tensors.similarity import SimilarityFunction

Role = Literal["query", "document"]


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What stands in front of texts: a text, or the name of one of the model's prompts; None for its own."""

    text: str | None = None
    name: str | None = None

    @property
    def arguments(self) -> dict[str, str]:
        """As `encode` takes it; what is not given is left out, as not every model knows of prompts."""
        given = {"prompt": self.text, "prompt_name": self.name}
        return {name: value for name, value in given.items() if value is not None}


OWN_PROMPT = Prompt()
"""What the model itself is configured with."""


@dataclass(frozen=True, kw_only=True)
class Embedder:
    """How texts are embedded.

    Attributes:
        model: The model.
        batch_size: Texts of a batch at most.
        devices: True for one process for each device the model finds, or a list of devices; False for none.
        show_progress_bar: Whether to show progress.
        cache_folder: Where to keep embeddings; None to keep none.
        pool: Worker processes, while there are some.
    """

    model: Any
    batch_size: int = 32
    devices: list[str] | bool = False
    show_progress_bar: bool = False
    cache_folder: str | None = None
    pool: Any = None

    def __post_init__(self) -> None:
        if self.cache_folder is not None and not isinstance(self.model, nn.Module):
            raise ValueError(
                "cache_folder needs a model that is a torch module, whose weights tell its embeddings from those "
                f"of another one; this one is a {type(self.model).__name__}. Pass cache_folder=None."
            )

    @property
    def device(self) -> torch.device | None:
        """Where the model computes, as far as it says so."""
        device = getattr(self.model, "device", None)
        return torch.device(device) if device is not None else None

    @contextmanager
    def with_processes(self) -> Iterator[Embedder]:
        """The same with worker processes, if they are wanted, which end with the block."""
        if self.devices is False or self.devices is None:
            yield self
            return
        pool = self.model.start_multi_process_pool(None if self.devices is True else list(self.devices))
        try:
            yield replace(self, pool=pool)
        finally:
            self.model.stop_multi_process_pool(pool)

    def embed(self, texts: Sequence[str], role: Role, prompt: Prompt) -> np.ndarray:
        """One row of length one for each text, (N, D); memory-mapped where it is kept on disk."""
        if self.cache_folder is None:
            return self.encode(texts, role, prompt)
        encoding = {
            "role": role,
            "prompt": prompt.arguments,
            "prompts": getattr(self.model, "prompts", None),
            "default_prompt_name": getattr(self.model, "default_prompt_name", None),
        }
        key = cache_key(self.model, encoding, texts)
        return cached_embeddings(self.cache_folder, key, texts, lambda some: self.encode(some, role, prompt))

    def encode(self, texts: Sequence[str], role: Role, prompt: Prompt) -> np.ndarray:
        """One row of length one for each text, (N, D), computed now."""
        encode = getattr(self.model, f"encode_{role}", self.model.encode)
        options: dict[str, Any] = {
            "batch_size": self.batch_size,
            "show_progress_bar": self.show_progress_bar,
            "convert_to_numpy": True,
            "normalize_embeddings": True,
            **prompt.arguments,
        }
        if self.pool is not None:
            options["pool"] = self.pool
        embeddings = np.asarray(encode(list(texts), **options))
        if embeddings.shape[:1] != (len(texts),) or embeddings.ndim != 2:
            raise ValueError(
                f"The model gave embeddings of shape {embeddings.shape} for {len(texts)} texts. Negatives are mined "
                "with models that give one vector for each text."
            )
        return embeddings


def similarity_of(model: Any) -> SimilarityFunction:
    """The similarity of a model, the cosine if it names none; of vectors of length one the dot product is one."""
    similarity = SimilarityFunction(getattr(model, "similarity_fn_name", None) or SimilarityFunction.COSINE)
    return SimilarityFunction.COSINE if similarity is SimilarityFunction.DOT_PRODUCT else similarity
