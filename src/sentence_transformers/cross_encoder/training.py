"""Training models that score pairs of texts: what differs from the trainer of all kinds.

The losses take texts, as they choose which of them become pairs; so a batch holds texts and not features, and
prompts go in front of pairs instead of columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sentence_transformers.arguments import accepts_older_names
from sentence_transformers.model_card.callbacks import CrossEncoderModelCardCallback
from sentence_transformers.training.arguments import BaseTrainingArguments
from sentence_transformers.training.collator import BaseDataCollator
from sentence_transformers.training.columns import RESERVED, label_rows
from sentence_transformers.training.trainer import BaseTrainer

OPTIONS = ("prompt", "task")
"""Entries of a batch, one text for all its rows, that the loss is told by name."""


@dataclass
class CrossEncoderTrainingArguments(BaseTrainingArguments):
    """Arguments of a training run; see `BaseTrainingArguments`.

    `prompts` and `router_mapping` are one text for all pairs, or one for each data set: pairs are made of several
    columns, so that none can have a prompt of its own.
    """


class CrossEncoderDataCollator(BaseDataCollator):
    """Collates rows for a trainer: texts stay texts, column by column.

    A batch has `label` where there are labels, a tensor (B,) of numbers or a list of a tensor for each row, and
    the texts of each column under its name; beside them `dataset_name`, `prompt` and `task` where there are such.

    Args:
        preprocess_fn: See `BaseDataCollator`; not called, since the losses make and tokenise the pairs.
        valid_label_columns: Names under which a column is the label.
        router_mapping: One task for all pairs, or by data set.
        prompts: One prompt for all pairs, or by data set.
        max_length: Must be None: pairs are cut to the model's `max_length`.

    Raises:
        ValueError: If prompts or tasks are by column, or there is a `max_length`.
    """

    @accepts_older_names(tokenize_fn="preprocess_fn")
    def __init__(
        self,
        preprocess_fn: Callable[..., Mapping[str, Any]],
        valid_label_columns: list[str] | None = None,
        router_mapping: dict[str, str] | dict[str, dict[str, str]] | None = None,
        prompts: str | dict[str, str] | dict[str, dict[str, str]] | None = None,
        max_length: int | dict[str, int] | None = None,
    ) -> None:
        super().__init__(preprocess_fn, valid_label_columns, router_mapping, prompts, max_length)
        if max_length is not None:
            raise ValueError(
                f"max_length={max_length!r}: pairs of texts are cut to what the model reads. Set model.max_length."
            )
        for name in ("prompts", "router_mapping"):
            setting = getattr(self, name)
            if isinstance(setting, Mapping) and any(isinstance(each, Mapping) for each in setting.values()):
                raise by_column(name, setting)

    def read_labels(self, values: Sequence[Any], column: str) -> Tensor | list[Tensor]:
        return label_rows(values, column)

    def add_columns(
        self, batch: dict[str, Any], columns: Mapping[str, list[Any]], dataset: str | None
    ) -> None:
        rows = len(next(iter(columns.values())))
        # Texts have no length that transformers would know; by this it counts the rows of a batch.
        batch["return_loss"] = torch.ones(rows, dtype=torch.bool)
        for option, name in zip(OPTIONS, ("prompts", "router_mapping")):
            value = self.of_dataset(name, columns, dataset)
            if not value:
                continue
            if option in columns:
                raise ValueError(
                    f"A column is called {option!r}, where a batch keeps {name}={value!r}. Rename the column: "
                    f"dataset.rename_column({option!r}, 'my_{option}')."
                )
            batch[option] = value
        batch.update(columns)

    def of_dataset(self, name: str, columns: Mapping[str, Any], dataset: str | None) -> str | None:
        """The prompt or the task for the pairs of a data set."""
        setting: Any = getattr(self, name)
        if not isinstance(setting, Mapping):
            return setting
        if dataset in setting:
            return setting[dataset]
        if any(column in setting for column in columns):
            raise by_column(name, setting)
        return None


class CrossEncoderTrainer(BaseTrainer):
    """Trains a `CrossEncoder`; arguments as in `BaseTrainer`.

    The default loss is `BinaryCrossEntropyLoss` for a model with one score, and `CrossEntropyLoss` for one with
    several.
    """

    arguments_class = CrossEncoderTrainingArguments
    collator_class = CrossEncoderDataCollator
    card_callback_class = CrossEncoderModelCardCallback

    def default_loss(self, model: Any) -> nn.Module:
        """Cross entropy, of one probability or of classes."""
        from sentence_transformers.cross_encoder.losses.pointwise import (
            BinaryCrossEntropyLoss,
            CrossEntropyLoss,
        )

        return BinaryCrossEntropyLoss(model) if model.num_labels == 1 else CrossEntropyLoss(model)

    def collect_features(self, inputs: Mapping[str, Any]) -> tuple[list[list[Any]], Any]:
        """Take a batch apart into the texts of its columns and the labels."""
        columns = [
            list(values)
            for name, values in inputs.items()
            if name not in (*RESERVED, "label") and isinstance(values, (list, tuple))
        ]
        return columns, inputs.get("label")

    def loss_options(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The prompt and the task, where the batch has such."""
        return {name: inputs[name] for name in OPTIONS if isinstance(inputs.get(name), str)}


def by_column(name: str, setting: Any) -> ValueError:
    return ValueError(
        f"{name}={setting!r} is by column, and a pair is made of several. Give one text for all pairs, or one for "
        "each data set by its name."
    )
