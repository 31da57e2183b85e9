"""How well scores of pairs follow known scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sentence_transformers.cross_encoder.evaluation.pairs import LabelledPairsEvaluator, Pair
from sentence_transformers.evaluation.base import named_part
from sentence_transformers.evaluation.metrics import pearson, spearman
from sentence_transformers.evaluation.report import Measurement


class CrossEncoderCorrelationEvaluator(LabelledPairsEvaluator):
    """Correlation of a model's scores with known ones, after Pearson and after Spearman, which is the main score.

    Args:
        sentence_pairs: The pairs.
        scores: What is known of them, on any scale.
        name: Put in front of the metrics' names, and part of the file's.
        prompt_name: Name of one of the model's prompts; None for its default.
        batch_size: Pairs of a batch at most.
        show_progress_bar: Whether to show progress; None as the model's `predict` has it.
        write_csv: Whether to add a row to a CSV file, in those calls that name a folder.

    Raises:
        EvaluationDataError: If the lists are empty or of different lengths; a `ValueError` and `AssertionError`.
        ValueError: In a call, if the model gives several scores.

    Example:
        >>> evaluator = CrossEncoderCorrelationEvaluator(
        ...     [["A man eats.", "A man is eating."], ["It rains.", "Stocks fell."], ["A cat.", "A kitten."]],
        ...     scores=[0.9, 0.0, 0.7],
        ...     name="sts-dev",
        ... )
        >>> sorted(evaluator(model))
        ['sts-dev_pearson', 'sts-dev_spearman']
    """

    labels_argument = "scores"

    def __init__(
        self,
        sentence_pairs: Sequence[Pair],
        scores: Sequence[float],
        name: str = "",
        prompt_name: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        write_csv: bool = True,
    ) -> None:
        super().__init__(
            sentence_pairs,
            scores,
            name=name,
            prompt_name=prompt_name,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            write_csv=write_csv,
            csv_file=f"CrossEncoderCorrelationEvaluator{named_part(name)}_results.csv",
        )
        self.scores = scores

    def measure(self, model: Any) -> Measurement:
        return correlations(self.predict_one(model, self.sentence_pairs), self.scores)


def correlations(predicted: Any, known: Any) -> Measurement:
    """Both correlations of a model's scores (N,) with known ones (N,)."""
    metrics = {"pearson": pearson(predicted, known), "spearman": spearman(predicted, known)}
    return Measurement(
        metrics=metrics,
        primary="spearman",
        columns={"Pearson_Correlation": metrics["pearson"], "Spearman_Correlation": metrics["spearman"]},
    )
