"""What every loss over the scores of pairs is.

Pairs of texts take the place of a column, and their scores that of embeddings: caching gradients, parts and
the trainer's wiring are then those of every loss (`losses/base.py`). A loss states which documents each
query is scored with (`documents`), and what it makes of the scores (`value`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from sentence_transformers.losses.base import EmbeddingLoss, LossPart
from sentence_transformers.losses.features import Features, unwrapped
from sentence_transformers.losses.retokenize import on_device, prepared
from sentence_transformers.storage.importing import fullname
from sentence_transformers.tensors.embeddings import Embeddings

AS_IT_IS = nn.Identity()

Activation = Callable[[Tensor], Tensor]


class ScoringModel(Protocol):
    """What a model must have to be trained with these losses."""

    device: torch.device

    @property
    def num_labels(self) -> int:
        """Scores of each pair."""

    def preprocess(self, inputs: Sequence[tuple[Any, Any]], **kwargs: Any) -> Features:
        """Features of pairs; `prompt` and `task` are passed where they are given."""

    def __call__(self, features: Features) -> dict[str, Any]:
        """The features, and `scores`: logits (P, num_labels) with gradients."""


class ScoreLoss(EmbeddingLoss):
    """A loss over the scores that a model gives to pairs of texts.

    Subclasses write `value`, and `documents` if those of a query are not the further columns of its row.

    Args:
        model: The model, a `ScoringModel`.
        activation_fn: Applied to the logits one by one; None for nothing.

    Raises:
        ValueError: If the model gives another number of scores than the loss takes.
    """

    min_columns: ClassVar[int] = 2
    outputs: ClassVar[int | None] = 1
    """Scores of a pair that the loss takes; None for two or more."""

    def __init__(self, model: Any, activation_fn: Activation | None = AS_IT_IS) -> None:
        super().__init__(model)
        self.activation_fn = AS_IT_IS if activation_fn is None else activation_fn
        self.check_outputs(model.num_labels)

    def documents(self, columns: Sequence[Sequence[Any]]) -> list[list[Any]]:
        """The documents that each query, a row of the first column, is scored with."""
        return [list(documents) for documents in zip(*columns[1:], strict=True)]

    def value(self, scores: Tensor, labels: Any, counts: list[int]) -> Tensor:
        """The loss.

        Args:
            scores: Of the documents of the first query, then of the next, (P,); (P, n) with several of each pair.
            labels: Of each row, as the data set has them.
            counts: How many documents each query has.

        Returns:
            A scalar.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define `value`.")

    # Texts and not features, since pairs are made before they are tokenised.
    def forward(
        self,
        inputs: Sequence[Sequence[Any]],
        labels: Any = None,
        prompt: str | None = None,
        task: str | None = None,
    ) -> Tensor | dict[str, Tensor]:
        """Compute the loss of a batch.

        Args:
            inputs: The text columns: queries, then documents as the loss takes them.
            labels: Of each row; None where the loss takes none.
            prompt: Put in front of each query by the model; None for its default.
            task: Which route a model with a Router takes.

        Returns:
            A scalar.

        Raises:
            ValueError: If the columns or the labels do not suit this loss, or there is nothing to score.
        """
        columns = [list(column) for column in inputs]
        labels = self.read_labels(labels)
        self.check(len(columns), labels)
        self.check_rows(columns, labels)
        documents = self.documents(columns)
        pairs = [(query, each) for query, own in zip(columns[0], documents, strict=True) for each in own]
        if not pairs:
            raise ValueError(
                f"{type(self).__name__} was given no documents to score. Give a query at least one."
            )
        options = {name: value for name, value in (("prompt", prompt), ("task", task)) if value is not None}
        model = unwrapped(self.model)
        features = on_device(prepared(model, pairs, **options), model.device)
        return self.compute([features], labels, [len(own) for own in documents])

    def run(self, model: nn.Module, features: Features, context: Any = None) -> Embeddings:
        return scored(model, features)

    def parts(
        self,
        embeddings: Sequence[Embeddings],
        labels: Any,
        *,
        rows: slice | None = None,
        context: Any = None,
    ) -> Iterator[LossPart]:
        scores = embeddings[0].values  # (P, n)
        scores = self.activation_fn(scores.flatten() if self.outputs == 1 else scores)
        yield LossPart("loss", self.value(scores, labels, context))

    def read_labels(self, labels: Any) -> Any:
        """Labels as `value` takes them: one tensor, unless there is a list for each query."""
        if isinstance(labels, Tensor) or labels is None or self.labels == "list":
            return labels
        try:
            return torch.stack([torch.as_tensor(label) for label in labels])
        except (RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"{type(self).__name__} needs {self.LABELS[self.labels]}, in as many columns for each row, and was "
                f"given {list(labels[:2])}."
            ) from error

    def check(self, columns: int, labels: Any) -> None:
        super().check(columns, self.read_labels(labels))

    def check_outputs(self, outputs: int) -> None:
        """Stop if the model gives another number of scores than the loss takes."""
        name = type(self).__name__
        if self.outputs is None and outputs < 2:
            raise ValueError(
                f"{name} takes one score for each of two or more classes, and the model gives {outputs}. Build it "
                "with num_labels=… set to the number of classes, or use BinaryCrossEntropyLoss."
            )
        if self.outputs is not None and outputs != self.outputs:
            raise ValueError(
                f"{name} takes {self.outputs} score of each pair, and the model gives {outputs}. Build it with "
                f"num_labels={self.outputs}, or use CrossEntropyLoss for classes."
            )

    def check_rows(self, columns: Sequence[Sequence[Any]], labels: Any) -> None:
        """Stop if columns, or columns and labels, differ in length."""
        lengths = [len(column) for column in columns]
        if lengths[0] == 0 and len(set(lengths)) == 1:
            raise ValueError(f"{type(self).__name__} was given no rows. Pass at least one.")
        if len(set(lengths)) > 1:
            raise ValueError(
                f"{type(self).__name__} was given columns of {lengths} texts. Give them one length: row i of each "
                "belongs together."
            )
        if self.labels != "none" and len(labels) != lengths[0]:
            raise ValueError(
                f"{type(self).__name__} was given {len(labels)} labels for {lengths[0]} rows. Give each row one."
            )

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        return {"activation_fn": fullname(self.activation_fn)}


class ListwiseLoss(ScoreLoss):
    """A loss over all documents of a query at once.

    Takes two columns, queries and lists of documents, and a list of labels for each query, one for each document.
    Lists may differ in length. Subclasses write `of_lists`.

    Args:
        model: The model.
        activation_fn: As of `ScoreLoss`.
        mini_batch_size: Pairs that are scored at once while gradients are cached, which bounds the memory needed and
            computes each score twice; None, or a number below 1, scores all pairs of a batch at once. The result
            is the same.
    """

    max_columns: ClassVar[int | None] = 2
    labels: ClassVar[str] = "list"
    LABELS: ClassVar[dict[str, str]] = {
        **EmbeddingLoss.LABELS,
        "list": "a list of numbers for each query, one for each of its documents",
    }

    def __init__(
        self, model: Any, activation_fn: Activation | None = AS_IT_IS, mini_batch_size: int | None = None
    ) -> None:
        super().__init__(model, activation_fn)
        self.mini_batch_size = mini_batch_size if mini_batch_size and mini_batch_size > 0 else None

    def of_lists(self, scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """The loss.

        Args:
            scores: Of the documents of each query, (Q, N), padded to the longest list.
            labels: Theirs, (Q, N).
            mask: True where there is a document, (Q, N).

        Returns:
            A scalar.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define `of_lists`.")

    def documents(self, columns: Sequence[Sequence[Any]]) -> list[list[Any]]:
        return [list(documents) for documents in columns[1]]

    def value(self, scores: Tensor, labels: Any, counts: list[int]) -> Tensor:
        mask = (
            torch.arange(max(counts), device=scores.device)
            < torch.tensor(counts, device=scores.device)[:, None]
        )
        rows = [torch.as_tensor(row, dtype=scores.dtype, device=scores.device) for row in labels]
        padded = pad_sequence(scores.split(counts), batch_first=True)  # (Q, N)
        return self.of_lists(padded, pad_sequence(rows, batch_first=True), mask)

    def check_labels(self, labels: Any) -> None:
        if labels is None:
            super().check_labels(labels)
        elif any(isinstance(row, (int, float)) or getattr(row, "ndim", 1) != 1 for row in labels):
            raise ValueError(
                f"{type(self).__name__} needs {self.LABELS[self.labels]}, and was given one number for a query."
            )

    def check_rows(self, columns: Sequence[Sequence[Any]], labels: Any) -> None:
        super().check_rows(columns, labels)
        for row, documents in enumerate(columns[1]):
            if isinstance(documents, str):
                raise ValueError(
                    f"{type(self).__name__} takes a list of documents for each query, and was given one text in row "
                    f"{row}: {documents[:40]!r}."
                )
            if len(documents) != len(labels[row]):
                raise ValueError(
                    f"{type(self).__name__} was given {len(documents)} documents and {len(labels[row])} labels in row "
                    f"{row}. Give each document one label."
                )

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        return {**super().get_config_dict(), "mini_batch_size": self.mini_batch_size}


def scored(model: nn.Module, features: Features) -> Embeddings:
    """The logits of pairs, (P, num_labels), in place of embeddings."""
    scores = model(dict(features))["scores"]
    # Half precision has too few digits for the difference of two scores.
    return Embeddings(scores.to(torch.promote_types(scores.dtype, torch.float32)))
