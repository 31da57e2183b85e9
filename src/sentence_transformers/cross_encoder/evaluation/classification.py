"""How well scores of pairs tell two classes, or several, apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sentence_transformers.cross_encoder.evaluation.pairs import LabelledPairsEvaluator, Pair
from sentence_transformers.evaluation.base import EvaluationDataError, named_part
from sentence_transformers.evaluation.binary_classification import separation_metrics
from sentence_transformers.evaluation.metrics import Separation, f1_means
from sentence_transformers.evaluation.report import Measurement

BINARY: Mapping[str, str] = {
    "accuracy": "Accuracy",
    "accuracy_threshold": "Accuracy_Threshold",
    "f1": "F1",
    "f1_threshold": "F1_Threshold",
    "precision": "Precision",
    "recall": "Recall",
    "average_precision": "Average_Precision",
}
"""Metrics of a model with one score, and their columns."""

SEVERAL: Mapping[str, str] = {"f1_macro": "Macro_F1", "f1_micro": "Micro_F1", "f1_weighted": "Weighted_F1"}
"""Metrics of a model with a score for each class, and their columns."""


class CrossEncoderClassificationEvaluator(LabelledPairsEvaluator):
    """How well a model classifies pairs.

    With one score for each pair: accuracy and F1, the best over all thresholds; precision and recall at the best F1;
    and the average precision, which is the main score. With a score for each of several classes, of which the highest
    decides: the mean F1 of all classes ("macro", the main score), weighted by their frequency ("weighted"), and
    over all decisions ("micro").

    Args:
        sentence_pairs: The pairs.
        labels: The class of each: 1 or 0 for a model with one score, else its number.
        name: Put in front of the metrics' names, and part of the file's.
        prompt_name: Name of one of the model's prompts; None for its default.
        batch_size: Pairs of a batch at most.
        show_progress_bar: Whether to show progress; None as the model's `predict` has it.
        write_csv: Whether to add a row to a CSV file, in those calls that name a folder.
        **kwargs: Arguments of the evaluators that this one replaced, which have no effect.

    Raises:
        EvaluationDataError: If the lists are empty or of different lengths; in a call, if the labels do not suit the
            model. A `ValueError` and `AssertionError`.

    Example:
        >>> evaluator = CrossEncoderClassificationEvaluator([["It rains.", "It is wet."], ["It rains.", "No."]], [1, 0])
        >>> evaluator(model)["average_precision"]
        1.0
    """

    def __init__(
        self,
        sentence_pairs: Sequence[Pair],
        labels: Sequence[int],
        *,
        name: str = "",
        prompt_name: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        write_csv: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            sentence_pairs,
            labels,
            name=name,
            prompt_name=prompt_name,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            write_csv=write_csv,
            csv_file=f"CrossEncoderClassificationEvaluator{named_part(name)}_results.csv",
        )
        self.labels = np.asarray(labels)

    def measure(self, model: Any) -> Measurement:
        scores = self.predict(model, self.sentence_pairs)
        return told(binary_metrics(scores, self.labels), BINARY) if scores.ndim == 1 else self.several(scores)

    def several(self, scores: np.ndarray) -> Measurement:
        """Of scores of each class, (N, n)."""
        check_classes(self.labels, scores.shape[1])
        return told(f1_means(scores.argmax(axis=1), self.labels), SEVERAL)


def binary_metrics(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The numbers of `BINARY`.

    Args:
        scores: (N,).
        labels: 0 or 1, (N,).

    Raises:
        EvaluationDataError: If a label is another one.
    """
    wrong = labels[(labels != 0) & (labels != 1)]
    if wrong.size:
        raise EvaluationDataError(
            f"The model gives one score for each pair, and there is the label {wrong[0]}. Pass 1 for pairs that belong "
            "together and 0 for the others, or evaluate a model with a score for each class."
        )
    metrics = separation_metrics(Separation(scores, labels.astype(np.int64)), is_distance=False)
    return {**metrics, "average_precision": metrics["ap"]}


def check_classes(labels: np.ndarray, classes: int) -> None:
    """Stop if a label is no class of the model.

    Raises:
        EvaluationDataError: If so.
    """
    wrong = labels[(labels < 0) | (labels >= classes)]
    if wrong.size:
        raise EvaluationDataError(
            f"The model gives scores of the classes 0 to {classes - 1}, and there is the label {wrong[0]}."
        )


def told(metrics: Mapping[str, float], columns: Mapping[str, str]) -> Measurement:
    """Those metrics that have columns; the average precision, or else the first, is the main one."""
    primary = "average_precision" if "average_precision" in columns else next(iter(columns))
    return Measurement(
        metrics={key: metrics[key] for key in columns},
        primary=primary,
        columns={column: metrics[key] for key, column in columns.items()},
    )
