"""What every evaluator is: something that scores a model, and says which of its scores counts.

Users derive from `BaseEvaluator` and write `__call__`. Evaluators of this package derive from
`MeasuringEvaluator` and write `measure`; writing files, logging and the model card are then done for them.
How a model's embeddings are made and compared stands in `scoring.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sentence_transformers.evaluation.report import Measurement, log_metrics, write_csv_row
from sentence_transformers.model_card.evaluation_facts import words_of

if TYPE_CHECKING:
    from sentence_transformers.inputs.example import InputExample


class EvaluationDataError(ValueError, AssertionError):
    """The data of an evaluator do not fit together.

    A `ValueError`; also an `AssertionError`, which is what earlier releases raised for the same mistakes.
    """


class BaseEvaluator:
    """Scores a model.

    Subclasses write `__call__`, which returns one number, or numbers by name together with `primary_metric`.

    Attributes:
        greater_is_better: Whether a larger main score is a better model.
        primary_metric: Which of the returned numbers is the main score; None when there is just one number, and
            where it depends on the model, until the first call.
    """

    greater_is_better: bool = True
    primary_metric: str | None = None
    name: str = ""

    def __init__(self) -> None:
        self.greater_is_better = True
        self.primary_metric = None

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> float | dict[str, float]:
        """Score a model.

        Args:
            model: The model.
            output_path: Folder for a file with the results; None writes none.
            epoch: When in training this is; -1 for outside of it.
            steps: Steps of that epoch; -1 for its end.

        Returns:
            One number, or numbers by name, of which `primary_metric` is the main one.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no __call__. Write one that returns the scores."
        )

    def prefix_name_to_metrics(self, metrics: dict[str, float], name: str) -> dict[str, float]:
        """Put the evaluator's name in front of each metric's, and of `primary_metric`.

        Args:
            metrics: Numbers by name.
            name: The name; empty for none.

        Returns:
            The metrics as plain floats, under names like `dev_cosine_accuracy`. What is no number stays as it is.
        """
        prefix = f"{name}_" if name else ""
        prefixed = {prefix + key: plain(value) for key, value in metrics.items()}
        primary = self.primary_metric
        if (
            primary
            and primary not in prefixed
            and (prefix + primary in prefixed or not primary.startswith(prefix))
        ):
            self.primary_metric = prefix + primary
        return prefixed

    def store_metrics_in_model_card_data(
        self, model: Any, metrics: dict[str, Any], epoch: int = 0, step: int = 0
    ) -> None:
        """Note the metrics for the model's card; a model without card data is left alone.

        Args:
            model: The model.
            metrics: Numbers by name, as returned by `prefix_name_to_metrics`.
            epoch: When in training; -1 for outside of it.
            step: The same.
        """
        card_data = getattr(model, "model_card_data", None)
        if card_data is not None:
            card_data.set_evaluation_metrics(self, metrics, epoch, step)

    @property
    def description(self) -> str:
        """What is evaluated, for people; made from the class's name."""
        return words_of(type(self).__name__)

    def get_config_dict(self) -> dict[str, Any]:
        """The settings that a reader of the results should know."""
        return {}


SentenceEvaluator = BaseEvaluator
"""Older name of `BaseEvaluator`."""


class MeasuringEvaluator(BaseEvaluator):
    """An evaluator whose `measure` gives all its numbers, and that reports them in the usual ways.

    Args:
        name: Put in front of the metrics' names, and part of the file's.
        write_csv: Whether to add a row to a CSV file, in those calls that name a folder.
        csv_file: Name of that file.
    """

    csv_columns: tuple[str, ...] = ()
    """The columns after `epoch` and `steps`, where they do not depend on the model."""

    def __init__(self, *, name: str = "", write_csv: bool = True, csv_file: str) -> None:
        super().__init__()
        self.name = name
        self.write_csv = write_csv
        self.csv_file = csv_file
        self.csv_headers = ["epoch", "steps", *self.csv_columns]

    def measure(self, model: Any) -> Measurement:
        """Compute the numbers; called without gradients, and the model's mode is restored afterwards."""
        raise NotImplementedError

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        """Score a model.

        Args:
            model: The model; it is left as it was.
            output_path: Folder for a CSV file, which gets one more row; made if need be. None writes none.
            epoch: When in training this is; -1 for outside of it.
            steps: Steps of that epoch; -1 for its end.

        Returns:
            Numbers by name, of which `primary_metric` is the main one.
        """
        with undisturbed(model):
            measured = self.measure(model)
        return self.report(model, measured, output_path, epoch, steps)

    def report(
        self, model: Any, measured: Measurement, output_path: str | None, epoch: int, steps: int
    ) -> dict[str, float]:
        """Log the numbers, write them to the CSV file and the model card, and return them under their names."""
        log_metrics(self, measured.metrics, epoch, steps)
        self.csv_headers = ["epoch", "steps", *measured.columns]
        if output_path is not None and self.write_csv:
            write_csv_row(
                output_path, self.csv_file, self.csv_headers, [epoch, steps, *measured.columns.values()]
            )
        self.primary_metric = measured.primary
        metrics = self.prefix_name_to_metrics(dict(measured.metrics), self.name)
        # With the name "average", the metric "precision" is called like another one without a name.
        self.primary_metric = f"{self.name}_{measured.primary}" if self.name else measured.primary
        self.store_metrics_in_model_card_data(model, metrics, epoch, steps)
        return metrics


def named_part(name: str) -> str:
    """A name as part of a file's name, `_dev`; nothing for none."""
    return f"_{name}" if name else ""


def check_rows(evaluator: str, **columns: Sized) -> None:
    """Check that there is something to evaluate, and that rows have all their parts.

    Args:
        evaluator: Name of the evaluator's class, for the message.
        **columns: The lists of which row i belongs together, by argument name.

    Raises:
        EvaluationDataError: If a list is empty, or the lengths differ.
    """
    lengths = {name: len(column) for name, column in columns.items()}
    told = " and ".join(f"{length} {name}" for name, length in lengths.items())
    if len(set(lengths.values())) > 1:
        raise EvaluationDataError(
            f"{evaluator} got {told}: row i of each list belongs together. Pass lists of one length."
        )
    if not all(lengths.values()):
        raise EvaluationDataError(
            f"{evaluator} got {told}: there is nothing to evaluate. Pass at least one row."
        )


def columns_of(examples: Sequence[InputExample], count: int) -> list[list[str]]:
    """The texts of examples, column by column.

    Raises:
        EvaluationDataError: If an example has not `count` texts, or there are no examples.
    """
    for number, example in enumerate(examples):
        if len(example.texts or ()) != count:
            raise EvaluationDataError(
                f"Example {number} has {len(example.texts or ())} texts. Give every InputExample {count}."
            )
    if not examples:
        raise EvaluationDataError("There are no examples to evaluate. Pass at least one.")
    return [list(column) for column in zip(*(example.texts or () for example in examples))]


def plain(value: Any) -> Any:
    """A number of any type (NumPy's, a tensor of one element) as a float; anything else as it is."""
    if isinstance(value, (str, bytes)):
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


@contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """Within the block no gradients are recorded; after it, every module is back in its mode."""
    modes = dict(modes_of(model)) if isinstance(model, nn.Module) else {}
    try:
        with torch.no_grad():
            yield
    finally:
        if modes:
            restore_modes(model, modes, modes[model])


def modes_of(module: nn.Module) -> Iterator[tuple[nn.Module, bool]]:
    """A module and everything in it, each with whether it is in training mode."""
    yield module, module.training
    for child in module.children():
        yield from modes_of(child)


def restore_modes(module: nn.Module, modes: Mapping[nn.Module, bool], mode_above: bool) -> None:
    """Put modules back into their modes; those that the model has built meanwhile, into that of the one above."""
    module.training = modes.get(module, mode_above)
    for child in module.children():
        restore_modes(child, modes, module.training)
