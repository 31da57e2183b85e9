"""What every loss over embeddings is.

A loss states how the embeddings of a batch become numbers (`parts`), and what it needs of a batch (how
many columns, which labels). Everything else is the same for all: checking, embedding the columns, caching
(`cached.py`), gathering from all processes, adding up. So a new loss is one class with one method, and a
wrapper (Matryoshka and the like) changes the embeddings and hands them on to the loss inside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sentence_transformers.losses.features import Features, embed_columns, run
from sentence_transformers.tensors.distributed import get_rank, is_dist_initialized
from sentence_transformers.tensors.embeddings import Embeddings


@dataclass(frozen=True)
class LossPart:
    """A summand of a loss: its name, for the log, and its value, a scalar."""

    name: str
    value: Tensor


class EmbeddingLoss(nn.Module):
    """A loss over the embeddings that a model makes of the columns of a batch.

    Subclasses write `parts`. They state what they take:

    - `min_columns`, `max_columns`: text columns; None for any number.
    - `labels`: what a label is, see `LABELS`.
    - `splits_rows`: whether the loss is a mean over rows of which each can be computed by itself, given the
      embeddings of all. Then `parts` takes `rows`, is called with stretches of them while gradients are
      cached, and may be given the rows of all processes (`gather_across_devices`).
    - `returns_parts`: whether `forward` gives the parts by name instead of their sum.

    Args:
        model: What makes the embeddings: called with a features dictionary.
    """

    min_columns: ClassVar[int] = 1
    max_columns: ClassVar[int | None] = None
    labels: ClassVar[str] = "none"
    splits_rows: bool = False
    returns_parts: ClassVar[bool] = False

    LABELS: ClassVar[dict[str, str]] = {
        "none": "no label",
        "class": "an int, the class of each row",
        "group": "a number for each row, the same where rows belong together",
        "score": "a number for each row",
        "target": "a number, or several, for each row",
    }

    mini_batch_size: int | None = None
    """Rows embedded at once while gradients are cached; None for no caching."""
    mini_batch_num_tokens: int | None = None
    """Tokens embedded at once while gradients are cached; None for any number."""
    show_progress_bar: bool = False
    gather_across_devices: bool = False

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.latest_parts: dict[str, Tensor] = {}

    # -- what a loss states ------------------------------------------------------------------------------

    def parts(
        self,
        embeddings: Sequence[Embeddings],
        labels: Tensor | None,
        *,
        rows: slice | None = None,
        context: Any = None,
    ) -> Iterator[LossPart]:
        """The summands of the loss.

        Args:
            embeddings: Of each column, in order; of the rows of all processes where they are gathered.
            labels: As the data set gives them, one for each row.
            rows: The rows to average over, of those there are; None for all. Only given if `splits_rows`.
            context: What `context` returned for this batch.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define `parts`.")

    def context(self, columns: Sequence[Features]) -> Any:
        """What this loss computes once for a batch beside the embeddings, such as those of a guide.

        Also the place for random choices, so that they hold while a batch is computed in stretches.
        """
        return None

    def encoder(self, column: int) -> nn.Module:
        """The model that embeds a column, by its number."""
        return self.model

    def run(self, model: nn.Module, features: Features, context: Any = None) -> Embeddings:
        """Embed rows with a model from `encoder`."""
        return run(model, features)

    def embedded_columns(self, columns: Sequence[Features]) -> Sequence[Features]:
        """The columns that the model embeds: all, unless a loss needs the later ones for something else."""
        return columns

    # -- what is the same for all ------------------------------------------------------------------------

    @property
    def is_cached(self) -> bool:
        """Whether the columns are embedded a few rows at a time."""
        return self.mini_batch_size is not None or self.mini_batch_num_tokens is not None

    def forward(
        self, sentence_features: Iterable[Features], labels: Tensor | None = None
    ) -> Tensor | dict[str, Tensor]:
        """Compute the loss of a batch.

        Args:
            sentence_features: A features dictionary for each text column.
            labels: Of each row, (B,) or (B, n); None where the loss takes none.

        Returns:
            A scalar, or scalars by name that are to be added up.

        Raises:
            ValueError: If the number of columns or the labels do not suit this loss.
        """
        columns = list(sentence_features)
        self.check(len(columns), labels)
        return self.compute(columns, labels, self.context(columns))

    def compute(
        self, columns: Sequence[Features], labels: Tensor | None, context: Any
    ) -> Tensor | dict[str, Tensor]:
        """The loss of columns that have been checked, with what `context` gave for them."""
        if self.is_cached:
            from sentence_transformers.losses.cached import cached_parts

            parts, result = cached_parts(self, columns, labels, context)
        else:
            parts = self.everything(self.embed(columns, context), labels, context)
            result = parts if self.returns_parts else total(parts)
        self.latest_parts = {name: value.detach() for name, value in parts.items()}
        return result

    def embed(self, columns: Sequence[Features], context: Any = None) -> list[Embeddings]:
        """The embeddings of the columns."""
        columns = self.embedded_columns(columns)
        models = [self.encoder(number) for number in range(len(columns))]
        return embed_columns(models, columns, lambda model, features: self.run(model, features, context))

    def everything(
        self, embeddings: Sequence[Embeddings], labels: Tensor | None, context: Any
    ) -> dict[str, Tensor]:
        """All parts over all rows of this process, by name."""
        everyone, own = self.gathered(embeddings)
        return added_up(self.parts(everyone, labels, rows=own, context=context))

    def gathered(self, embeddings: Sequence[Embeddings]) -> tuple[list[Embeddings], slice | None]:
        """The embeddings of all processes if that is asked for, and which rows are this process's own."""
        if not (self.gather_across_devices and is_dist_initialized()):
            return list(embeddings), None
        own = torch.tensor([len(embeddings[0])], device=embeddings[0].values.device)
        counts = [torch.zeros_like(own) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(counts, own)
        start = sum(int(count) for count in counts[: get_rank()])
        return [column.gathered() for column in embeddings], slice(start, start + int(own))

    def check(self, columns: int, labels: Any) -> None:
        """Stop with one clear error if a batch does not suit this loss.

        Args:
            columns: How many text columns there are.
            labels: The labels; None if there are none.
        """
        self.check_columns(columns)
        self.check_labels(labels)

    def check_columns(self, columns: int) -> None:
        """Stop if there are too few columns or too many."""
        if columns < self.min_columns or (self.max_columns is not None and columns > self.max_columns):
            wanted = (
                f"{self.min_columns}"
                if self.max_columns == self.min_columns
                else f"{self.min_columns} or more"
                if self.max_columns is None
                else f"{self.min_columns} to {self.max_columns}"
            )
            raise ValueError(
                f"{type(self).__name__} takes {wanted} text column{'' if wanted == '1' else 's'} and was given "
                f"{columns}. Every column that is not a label counts; select the columns the loss should see."
            )

    def check_labels(self, labels: Any) -> None:
        """Stop if there are no labels, or others than this loss takes."""
        name = type(self).__name__
        if self.labels == "none":
            return
        if labels is None:
            raise ValueError(
                f"{name} needs a label: {self.LABELS[self.labels]}. Name the column 'label', 'labels', "
                "'score' or 'scores'."
            )
        if self.labels == "class" and isinstance(labels, Tensor) and labels.is_floating_point():
            raise ValueError(
                f"{name} needs {self.LABELS['class']}, and was given numbers of type {labels.dtype}. Convert "
                "the label column to integers."
            )
        # (B, 1) is one for each row, too.
        if self.labels != "target" and isinstance(labels, Tensor) and labels.numel() != len(labels):
            raise ValueError(
                f"{name} needs {self.LABELS[self.labels]}, and was given labels of shape {tuple(labels.shape)}."
            )

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        return {}


class LossWrapper(EmbeddingLoss):
    """A loss around another: changes the embeddings, the rest is as the inner loss has it.

    Args:
        model: The model.
        loss: The inner loss. One that is no `EmbeddingLoss` is called with its model replaced by one that
            gives the embeddings at hand, see `losses/foreign.py`.
    """

    def __init__(self, model: Any, loss: nn.Module) -> None:
        super().__init__(model)
        self.loss = loss

    @property
    def inner(self) -> EmbeddingLoss:
        """The inner loss, as one that takes embeddings."""
        if isinstance(self.loss, EmbeddingLoss):
            return self.loss
        from sentence_transformers.losses.foreign import ForeignLoss

        return ForeignLoss(self.loss, self.model)

    @property
    def splits_rows(self) -> bool:
        return self.inner.splits_rows

    @property
    def mini_batch_size(self) -> int | None:
        return self.inner.mini_batch_size

    @property
    def mini_batch_num_tokens(self) -> int | None:
        return self.inner.mini_batch_num_tokens

    @property
    def show_progress_bar(self) -> bool:
        return self.inner.show_progress_bar

    @property
    def gather_across_devices(self) -> bool:
        return self.inner.gather_across_devices

    def check(self, columns: int, labels: Any) -> None:
        self.inner.check(columns, labels)

    def context(self, columns: Sequence[Features]) -> Any:
        return self.inner.context(columns)

    def encoder(self, column: int) -> nn.Module:
        return self.inner.encoder(column)

    def run(self, model: nn.Module, features: Features, context: Any = None) -> Embeddings:
        return self.inner.run(model, features, context)

    def embedded_columns(self, columns: Sequence[Features]) -> Sequence[Features]:
        return self.inner.embedded_columns(columns)


def added_up(parts: Iterable[LossPart]) -> dict[str, Tensor]:
    """Parts by name; those of one name added up."""
    sums: dict[str, Tensor] = {}
    for part in parts:
        sums[part.name] = sums[part.name] + part.value if part.name in sums else part.value
    return sums


def total(parts: dict[str, Tensor]) -> Tensor:
    """The sum of all parts."""
    values = list(parts.values())
    return values[0] if len(values) == 1 else torch.stack(values).sum()
