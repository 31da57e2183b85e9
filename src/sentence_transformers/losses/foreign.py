"""Losses of other people inside our wrappers.

A loss that knows nothing of `EmbeddingLoss` calls its model in its `forward`. Inside a wrapper it is called
with a stand-in for the model, which hands out the embeddings at hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from sentence_transformers.losses.base import EmbeddingLoss, LossPart
from sentence_transformers.losses.features import Features, unwrapped
from sentence_transformers.tensors.embeddings import Embeddings


class ForeignLoss(EmbeddingLoss):
    """Any loss with `forward(sentence_features, labels)`, as one over embeddings.

    Args:
        loss: The loss. It holds its model as a child, under whatever name, and calls it with the features that
            it is given.
        model: The model, for a loss that does not hold it as `model`.
    """

    def __init__(self, loss: nn.Module, model: Any) -> None:
        super().__init__(None)
        own = getattr(loss, "model", None)
        # Not registered as children: only looked at for the time of a call.
        object.__setattr__(self, "original", loss)
        object.__setattr__(self, "trained", own if isinstance(own, nn.Module) else model)

    def encoder(self, column: int) -> nn.Module:
        return self.trained

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
        with replaced(self.original, self.trained, KnownEmbeddings(self.trained, columns, embeddings)):
            result = self.original(columns, labels)
        if isinstance(result, dict):
            yield from (LossPart(name, value) for name, value in result.items())
        else:
            yield LossPart("loss", result)


@contextmanager
def replaced(loss: nn.Module, model: nn.Module, stand_in: nn.Module) -> Iterator[None]:
    """Let a loss find the stand-in wherever it holds the model, for the time of the block.

    Raises:
        ValueError: If it holds the model nowhere.
    """
    inside = set(model.modules())
    places = [
        (holder, name, child)
        for holder in loss.modules()
        if holder not in inside
        for name, child in holder.named_children()
        if unwrapped(child) is unwrapped(model)
    ]
    if not places:
        raise ValueError(
            f"{type(loss).__name__} does not hold the model as an attribute, so it cannot be given other "
            "embeddings than the model's. Let it keep the model as `self.model`."
        )
    for holder, name, _ in places:
        holder._modules[name] = stand_in
    try:
        yield
    finally:
        for holder, name, child in places:
            holder._modules[name] = child


class KnownEmbeddings(nn.Module):
    """Stands in for a model: gives the embeddings of columns that are known, and is the model otherwise."""

    def __init__(self, model: nn.Module, columns: list[Features], embeddings: Sequence[Embeddings]) -> None:
        super().__init__()
        self.original = model
        self.columns, self.embeddings = columns, embeddings
        self.times_given = [0] * len(columns)
        self.training = model.training

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("original"), name)

    def __getitem__(self, number: Any) -> Any:
        return self.original[number]

    def __len__(self) -> int:
        return len(self.original)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.original)

    def forward(self, features: Features, **kwargs: Any) -> Features:
        number = self.column_of(features)
        if number is None:
            return self.original(features, **kwargs)
        self.times_given[number] += 1
        known = self.embeddings[number]
        if known.mask is None:
            features["sentence_embedding"] = known.values
        else:
            features["token_embeddings"], features["attention_mask"] = known.values, known.mask
        return features

    def column_of(self, features: Features) -> int | None:
        """Number of the column that the features are, or are a copy of; None if they are something else.

        A column that is there twice is taken in turn.
        """
        for number, column in enumerate(self.columns):
            if features is column:
                return number
        copies = [number for number, column in enumerate(self.columns) if holds(features, column)]
        return min(copies, key=lambda number: self.times_given[number], default=None)


def holds(features: Features, column: Features) -> bool:
    """Whether features have the very tensors of a column."""
    tensors = {name: value for name, value in column.items() if isinstance(value, Tensor)}
    return bool(tensors) and all(features.get(name) is value for name, value in tensors.items())
