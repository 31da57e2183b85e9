"""Losses of other people inside our wrappers.

A loss that knows nothing of `EmbeddingLoss` calls `self.model(features)` in its `forward`. Inside a wrapper
it is called with a stand-in for its model that hands out the embeddings at hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from sentence_transformers.losses.base import EmbeddingLoss, LossPart
from sentence_transformers.losses.features import Features
from sentence_transformers.tensors.embeddings import Embeddings


class ForeignLoss(EmbeddingLoss):
    """Any loss with `forward(sentence_features, labels)`, as one over embeddings.

    Args:
        loss: The loss. It has its model as `model`, and calls it with the features it is given.
    """

    def __init__(self, loss: Any) -> None:
        super().__init__(None)
        # Not registered as its child: only looked at for the time of a call.
        object.__setattr__(self, "original", loss)

    def encoder(self, column: int) -> nn.Module:
        return self.original.model

    def context(self, columns: Sequence[Features]) -> Any:
        return list(columns)

    def parts(
        self,
        embeddings: Sequence[Embeddings],
        labels: Tensor | None,
        *,
        rows: slice | None = None,
        context: Any = None,
    ) -> Iterator[LossPart]:
        columns = [dict(column) for column in context]
        model = self.original.model
        self.original.model = KnownEmbeddings(model, columns, embeddings)
        try:
            result = self.original(columns, labels)
        finally:
            self.original.model = model
        if isinstance(result, dict):
            yield from (LossPart(name, value) for name, value in result.items())
        else:
            yield LossPart("loss", result)


class KnownEmbeddings(nn.Module):
    """Stands in for a model: gives the embeddings of columns that are known, and is the model otherwise."""

    def __init__(self, model: Any, columns: list[Features], embeddings: Sequence[Embeddings]) -> None:
        super().__init__()
        object.__setattr__(self, "original", model)
        self.columns, self.embeddings = columns, embeddings

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["original"], name)

    def forward(self, features: Features, **kwargs: Any) -> Features:
        for column, known in zip(self.columns, self.embeddings):
            if features is column:
                if known.mask is None:
                    features["sentence_embedding"] = known.values
                else:
                    features["token_embeddings"], features["attention_mask"] = known.values, known.mask
                return features
        return self.original(features, **kwargs)
