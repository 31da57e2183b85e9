"""How well similarity tells pairs that belong together from pairs that do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sentence_transformers.evaluation.base import EvaluationDataError, check_rows, columns_of, named_part
from sentence_transformers.evaluation.metrics import Separation, largest
from sentence_transformers.evaluation.report import Measurement
from sentence_transformers.evaluation.scoring import DISTANCES, EmbeddingEvaluator, checked_similarities

if TYPE_CHECKING:
    from sentence_transformers.inputs.example import InputExample

COLUMNS = ("accuracy", "accuracy_threshold", "f1", "precision", "recall", "f1_threshold", "ap", "mcc")
"""The order of the CSV file."""

METRICS = ("accuracy", "accuracy_threshold", "f1", "f1_threshold", "precision", "recall", "ap", "mcc")


class BinaryClassificationEvaluator(EmbeddingEvaluator):
    """Accuracy, F1, average precision and Matthews correlation of calling pairs alike by their similarity.

    Accuracy and F1 are the best over all thresholds, precision, recall and the Matthews correlation those at the
    best F1. The thresholds of "euclidean" and "manhattan" are distances: pairs below them are alike. The main
    score is the average precision.

    Args:
        sentences1: The first text of each pair.
        sentences2: The second one.
        labels: 1 for a pair that belongs together, 0 for one that does not.
        name: Put in front of the metrics' names, and part of the file's.
        batch_size: Inputs of a batch at most.
        show_progress_bar: Whether to show progress.
        write_csv: Whether to add a row to a CSV file, in those calls that name a folder.
        truncate_dim: Keep this many leading dimensions; None for the model's own setting.
        similarity_fn_names: Similarities to evaluate; None for the model's own.

    Raises:
        EvaluationDataError: If the lists are empty or of different lengths, or a label is not 0 or 1; a
            `ValueError` and `AssertionError`.
        ValueError: If there is no similarity of a given name.

    Example:
        >>> evaluator = BinaryClassificationEvaluator(
        ...     ["A man eats.", "It rains."], ["A man is eating food.", "Stocks fell."], [1, 0], name="pairs"
        ... )
        >>> evaluator(model)["pairs_cosine_ap"]
        1.0
    """

    def __init__(
        self,
        sentences1: list[str],
        sentences2: list[str],
        labels: list[int],
        name: str = "",
        batch_size: int = 32,
        show_progress_bar: bool = False,
        write_csv: bool = True,
        truncate_dim: int | None = None,
        similarity_fn_names: list[Literal["cosine", "dot", "euclidean", "manhattan"]] | None = None,
    ) -> None:
        check_rows(type(self).__name__, sentences1=sentences1, sentences2=sentences2, labels=labels)
        for row, label in enumerate(labels):
            if label not in (0, 1):
                raise EvaluationDataError(
                    f"labels[{row}] is {label!r}. Pass 1 for pairs that belong together and 0 for the others."
                )
        super().__init__(
            name=name,
            write_csv=write_csv,
            csv_file=f"binary_classification_evaluation{named_part(name)}_results.csv",
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            truncate_dim=truncate_dim,
        )
        self.sentences1 = sentences1
        self.sentences2 = sentences2
        self.labels = labels
        self.similarity_fn_names = checked_similarities(similarity_fn_names)

    @classmethod
    def from_input_examples(
        cls, examples: list[InputExample], **kwargs: Any
    ) -> BinaryClassificationEvaluator:
        """Evaluate on examples with two texts and a label 0 or 1 each.

        Args:
            examples: The examples.
            **kwargs: Further arguments of the class.
        """
        sentences1, sentences2 = columns_of(examples, 2)
        return cls(sentences1, sentences2, [example.label for example in examples], **kwargs)

    def measure(self, model: Any) -> Measurement:
        by_similarity = self.compute_metrics(model)
        names = list(by_similarity)
        metrics = {f"{name}_{key}": by_similarity[name][key] for name in names for key in METRICS}
        columns = {f"{name}_{key}": by_similarity[name][key] for name in names for key in COLUMNS}
        if len(names) > 1:
            metrics.update(
                {f"max_{key}": largest(by_similarity[name][key] for name in names) for key in METRICS}
            )
        return Measurement(
            metrics=metrics, primary="max_ap" if len(names) > 1 else f"{names[0]}_ap", columns=columns
        )

    def compute_metrics(self, model: Any) -> dict[str, dict[str, float]]:
        """The metrics under their plain names, for each similarity.

        Args:
            model: The model.
        """
        scorer = self.scorer(model, self.similarity_fn_names)
        first, second = scorer.encode_together(self.sentences1, self.sentences2)
        labels = np.asarray(self.labels, dtype=np.int64)  # (N,)
        return {
            name: separation_metrics(
                Separation(scorer.pairs(first, second, name).cpu().numpy(), labels),
                is_distance=name in DISTANCES,
            )
            for name in scorer.names
        }

    def compute_metrices(self, model: Any) -> dict[str, dict[str, float]]:
        """Older name of `compute_metrics`."""
        return self.compute_metrics(model)


def separation_metrics(separation: Separation, *, is_distance: bool) -> dict[str, float]:
    """The numbers of `METRICS`; thresholds of negated distances are turned back into distances."""
    sign = -1 if is_distance else 1
    accuracy, accuracy_threshold = separation.best_accuracy()
    best = separation.best_f1()
    return {
        "accuracy": accuracy,
        "accuracy_threshold": sign * accuracy_threshold,
        "f1": best.f1,
        "f1_threshold": sign * best.threshold,
        "precision": best.precision,
        "recall": best.recall,
        "ap": separation.average_precision(),
        "mcc": best.mcc,
    }
