"""Rank each anchor's own positive above everybody else's: in-batch negatives, plain, symmetric and cached."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from sentence_transformers.losses.base import EmbeddingLoss, LossPart
from sentence_transformers.losses.functional import info_nce
from sentence_transformers.losses.scores import score
from sentence_transformers.tensors.embeddings import Embeddings
from sentence_transformers.tensors.similarity import cos_sim


class MultipleNegativesRankingLoss(EmbeddingLoss):
    """In-batch negatives (thin form; breadth follows)."""

    min_columns: ClassVar[int] = 2
    splits_rows = True

    def __init__(
        self,
        model: Any,
        scale: float = 20.0,
        similarity_fct: Callable[[Any, Any], Tensor] = cos_sim,
        gather_across_devices: bool = False,
    ) -> None:
        super().__init__(model)
        self.scale = scale
        self.similarity_fct = similarity_fct
        self.gather_across_devices = gather_across_devices

    def parts(
        self,
        embeddings: Sequence[Embeddings],
        labels: Tensor | None,
        *,
        rows: slice | None = None,
        context: Any = None,
    ) -> Iterator[LossPart]:
        anchors, *candidates = embeddings
        chosen = torch.arange(len(anchors), device=anchors.values.device)[rows or slice(None)]
        scores = torch.cat([score(self.similarity_fct, anchors[chosen], column) for column in candidates], dim=1)
        yield LossPart("loss", info_nce(scores * self.scale, chosen))


class CachedMultipleNegativesRankingLoss(MultipleNegativesRankingLoss):
    """The same with cached gradients (thin form)."""

    def __init__(self, model: Any, scale: float = 20.0, similarity_fct: Any = cos_sim, mini_batch_size: int = 32) -> None:
        super().__init__(model, scale, similarity_fct)
        self.mini_batch_size = mini_batch_size
