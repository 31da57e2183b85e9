"""What the columns of a data set are to a loss: texts, in order, and a label.

Columns bind to the inputs of a loss in the order of the data set; only a label is told by its name. A data
set that does not suit its loss is refused here, before training begins.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sentence_transformers.losses.base import EmbeddingLoss

logger = logging.getLogger(__name__)

LABEL_COLUMNS = ["label", "labels", "score", "scores"]
"""Names under which a column is the label and not a text."""

DATASET_NAME = "dataset_name"
RESERVED = (DATASET_NAME, "return_loss")
"""Names that a batch uses itself."""

ROLES: tuple[frozenset[str], ...] = (
    frozenset({"anchor", "query", "question", "sentence1", "text1", "premise", "sentence_a"}),
    frozenset(
        {"positive", "answer", "passage", "document", "sentence2", "text2", "hypothesis", "sentence_b"}
    ),
    frozenset({"negative", "negative_1"}),
)
"""Column names that say themselves whether they are a first, second or third input."""

LOOKED_AT = 8
"""Rows at the head of a data set whose values are looked at."""


def split_columns(names: Iterable[str], label_columns: Sequence[str]) -> tuple[list[str], list[str]]:
    """Text columns in order, and label columns."""
    names = [name for name in names if name != DATASET_NAME]
    return (
        [name for name in names if name not in label_columns],
        [name for name in names if name in label_columns],
    )


def stack_labels(values: Sequence[Any], column: str = "label") -> Tensor:
    """Labels of a batch as one tensor.

    Args:
        values: Of each row a number, or a list, array or tensor of numbers.
        column: Name of the column, for the message.

    Returns:
        (B,) or (B, n): int64 for whole numbers, float32 for others.

    Raises:
        ValueError: If a label is no number, or lists differ in length.
    """
    try:
        if isinstance(values[0], Tensor):
            stacked = torch.stack([torch.as_tensor(value) for value in values])
        else:
            stacked = torch.from_numpy(np.asarray(values))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"The labels in column {column!r} do not form one tensor; the first are {list(values[:3])}. Each "
            "must be a number, or a list of as many numbers."
        ) from error
    return stacked.float() if stacked.is_floating_point() else stacked.long()


def label_rows(values: Sequence[Any], column: str = "label") -> Tensor | list[Tensor]:
    """Labels of a batch in which each row may have as many as it likes.

    Args:
        values: Of each row a number, or a list, array or tensor of numbers.
        column: Name of the column, for the message.

    Returns:
        (B,) for numbers; for lists one tensor for each row. All int64, or all float32.

    Raises:
        ValueError: If a label is no number, or some rows have a number and others a list.
    """
    if not any(has_length(value) for value in values):
        return stack_labels(values, column)
    lone = [value for value in values if not has_length(value)]
    if lone:
        raise ValueError(
            f"Column {column!r} has lists of labels in some rows and {lone[0]!r} in another. Give every row a list, "
            "or every row a number."
        )
    rows = [stack_labels(value, column) if len(value) else torch.empty(0) for value in values]
    if all(not row.is_floating_point() or row.numel() == 0 for row in rows):
        return [row.long() for row in rows]
    return [row.float() for row in rows]


def has_length(value: Any) -> bool:
    """Whether a label is a list of labels, and not a single one."""
    return (
        value.ndim > 0 if hasattr(value, "ndim") else hasattr(value, "__len__") and not isinstance(value, str)
    )


def check_dataset(
    dataset: Any,
    loss: nn.Module | None,
    *,
    label_columns: Sequence[str],
    read_labels: Callable[[Sequence[Any], str], Any] = stack_labels,
    name: str | None = None,
) -> None:
    """Stop with one clear error if a data set cannot train with a loss.

    Args:
        dataset: Rows by column, with `column_names`; of those that are read as a stream only what they say
            about their columns is checked.
        loss: The loss; None or one of another kind is asked nothing.
        label_columns: Names that mean a label.
        read_labels: Makes what the loss is given of the labels of rows, and of the column's name.
        name: Of the data set, for the message.

    Raises:
        ValueError: With what is wrong.
    """
    called = f"The data set {name!r}" if name else "The data set"
    if hasattr(dataset, "__len__") and len(dataset) == 0:
        raise ValueError(f"{called} is empty: there is nothing to learn from. Was it filtered too strictly?")
    rows = first_rows(dataset)
    # Those that are seen when it is read: a data set may change its rows on the way.
    names = list(rows) or getattr(dataset, "column_names", None)
    if not names:
        return
    for reserved in RESERVED:
        if reserved in names:
            raise ValueError(
                f"{called} has a column {reserved!r}, a name that batches need themselves. Rename it: "
                f"dataset.rename_column({reserved!r}, 'my_{reserved}')."
            )
    texts, labels = split_columns(names, label_columns)
    if len(labels) > 1:
        raise ValueError(
            f"{called} has {len(labels)} label columns, {labels}; a loss takes one. Remove the others with "
            "dataset.remove_columns."
        )
    if not texts:
        raise ValueError(f"{called} has no column of inputs, only {list(names)}.")
    for column in texts:
        check_inputs(rows.get(column, []), column, called, label_columns)
    warn_about_order(texts, called)
    if labels and not len(rows.get(labels[0], ())):
        return  # a stream: its labels have not been seen
    try:
        label = read_labels(rows[labels[0]], labels[0]) if labels else None
        if isinstance(loss, EmbeddingLoss):
            loss.check(len(texts), label)
    except ValueError as error:
        raise ValueError(f"{called}, with the columns {list(names)}: {error}") from None


def first_rows(dataset: Any) -> Mapping[str, Any]:
    """The first rows, by column; empty for a stream, which could be read only once."""
    if not hasattr(dataset, "__len__"):
        return {}
    count = min(LOOKED_AT, len(dataset))
    if hasattr(dataset, "column_names"):
        head = dataset[:count]
        return head if isinstance(head, Mapping) else {}
    rows = [dataset[number] for number in range(count)]
    if not all(isinstance(row, Mapping) for row in rows):
        return {}
    return {name: [row.get(name) for row in rows] for name in rows[0]}


def check_inputs(values: Sequence[Any], column: str, called: str, label_columns: Sequence[str]) -> None:
    """Stop if a column of inputs holds numbers or nothing."""
    for value in values:
        if value is None or isinstance(value, (bool, int, float)):
            raise ValueError(
                f"{called} has the value {value!r} in the column {column!r}, which is no text or other input. If "
                f"it is the label, rename it to one of {list(label_columns)}; if the loss should not see it, "
                f"remove it: dataset.remove_columns({column!r})."
            )


def warn_about_order(texts: Sequence[str], called: str) -> None:
    """Say which column is which input of the loss where the names suggest another order."""
    places = [next((rank for rank, role in enumerate(ROLES) if text in role), None) for text in texts]
    known = [place for place in places if place is not None]
    if known != sorted(known):
        binding = ", ".join(f"{column!r} is input {number}" for number, column in enumerate(texts, 1))
        logger.warning(
            "%s binds to the loss by the order of its columns, not by their names: %s. If that is not meant, "
            "order them with dataset.select_columns.",
            called,
            binding,
        )
