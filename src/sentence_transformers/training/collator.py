"""Make a batch of rows: inputs become features, column by column, and labels one tensor.

The batch is flat: an entry of a column's features stands under "<column>_<entry>". `columns_of` reads it
back. Prompts and tasks are chosen here, by data set and column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from sentence_transformers.arguments import accepts_older_names
from sentence_transformers.training.columns import DATASET_NAME, LABEL_COLUMNS, split_columns, stack_labels

MARKS = ("input_ids", "sentence_embedding", "pixel_values", "input_features", "input_values")
"""Entries of which every column has at least one, and by which columns are found in a batch."""

Setting = str | Mapping[str, Any] | None
"""One value for all columns, or by column, or by data set, or by data set and column."""


class BaseDataCollator:
    """Collates rows for a trainer.

    Args:
        preprocess_fn: Makes features of a list of inputs, as `model.preprocess` does; called with `prompt` and
            `task` where there are any. Older name `tokenize_fn`.
        valid_label_columns: Names under which a column is the label.
        router_mapping: Task of each column (of each data set), for models with a Router.
        prompts: Prompt for all columns, or by column, or by data set, or by data set and column.
        max_length: Tokens kept of each input; one number, or by column. None as the model has it.
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
        self.preprocess_fn = preprocess_fn
        self.valid_label_columns = list(LABEL_COLUMNS) if valid_label_columns is None else valid_label_columns
        self.router_mapping = router_mapping or {}
        self.prompts = prompts or {}
        self.max_length = max_length

    @property
    def tokenize_fn(self) -> Callable[..., Mapping[str, Any]]:
        """Older name of `preprocess_fn`."""
        return self.preprocess_fn

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        """Collate rows.

        Args:
            features: Rows with the same columns; perhaps the name of their data set as `dataset_name`.

        Returns:
            `return_loss`, `dataset_name` and `label` where there are such, and "<column>_<entry>" for each entry of
            each column's features.
        """
        names = list(features[0])
        batch: dict[str, Any] = {"return_loss": True}
        dataset = features[0].get(DATASET_NAME)
        if dataset is not None:
            batch[DATASET_NAME] = dataset
        texts, labels = split_columns(names, self.valid_label_columns)
        if labels:
            batch["label"] = self.read_labels([row[labels[0]] for row in features], labels[0])
        self.add_columns(batch, {name: [row[name] for row in features] for name in texts}, dataset)
        return batch

    def read_labels(self, values: Sequence[Any], column: str) -> Any:
        """What the loss is given of the labels of a batch, which come from the column of this name."""
        return stack_labels(values, column)

    def add_columns(
        self, batch: dict[str, Any], columns: Mapping[str, list[Any]], dataset: str | None
    ) -> None:
        """Put what the loss is given of the inputs into the batch.

        Args:
            batch: Is added to.
            columns: The inputs of each column, in order.
            dataset: Name of the data set, where it has one.
        """
        for column, values in columns.items():
            options: dict[str, Any] = {}
            prompt = setting_for(self.prompts, dataset, column)
            if prompt:
                options["prompt"] = prompt
            task = setting_for(self.router_mapping, dataset, column)
            if task:
                options["task"] = task
            limit = setting_for(self.max_length, dataset, column)
            if limit:
                options["processing_kwargs"] = {"text": {"max_length": limit}}
            made = self.preprocess_fn(values, **options)
            # A Router may stand behind a module that knows nothing of tasks.
            for entry, value in {**({"task": task} if task else {}), **made}.items():
                batch[f"{column}_{entry}"] = value


def setting_for(setting: Any, dataset: str | None, column: str) -> Any:
    """The value of a setting for one column of one data set; None where it says nothing about it."""
    if not isinstance(setting, Mapping):
        return setting
    if dataset is not None and dataset in setting:
        found = setting[dataset]
        return found.get(column) if isinstance(found, Mapping) else found
    found = setting.get(column)
    return None if isinstance(found, Mapping) else found


def columns_of(batch: Mapping[str, Any]) -> tuple[list[dict[str, Any]], Tensor | None]:
    """Take a batch apart.

    Args:
        batch: From `BaseDataCollator`.

    Returns:
        The features of each column, in order, and the labels.
    """
    prefixes: list[str] = []
    for key in batch:
        for mark in MARKS:
            prefix = key[: -len(mark)]
            if key.endswith(f"_{mark}") and prefix not in prefixes:
                prefixes.append(prefix)
    columns: dict[str, dict[str, Any]] = {prefix: {} for prefix in prefixes}
    for key, value in batch.items():
        # The longest, since "text_" is the beginning of "text_b_input_ids" too.
        owner = max((prefix for prefix in prefixes if key.startswith(prefix)), key=len, default=None)
        if owner is not None:
            columns[owner][key[len(owner) :]] = value
    return list(columns.values()), batch.get("label")


def checked_setting(setting: Any, name: str, datasets: Sequence[str] | None) -> None:
    """Stop if a setting is by data set and column while there is only one data set.

    Args:
        setting: `prompts` or `router_mapping`.
        name: Which of them.
        datasets: Names of the data sets; None with a single one.
    """
    nested = isinstance(setting, Mapping) and any(isinstance(value, Mapping) for value in setting.values())
    if nested and datasets is None:
        raise ValueError(
            f"{name}={setting!r} is by data set and column, but there is a single data set without a name. Map "
            "columns, or pass the data set as {'its name': dataset}."
        )
