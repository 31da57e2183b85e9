"""How often a text is closer to what belongs to it than to what does not."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from sentence_transformers.evaluation.base import check_rows, columns_of, named_part
from sentence_transformers.evaluation.report import Measurement
from sentence_transformers.evaluation.scoring import EmbeddingEvaluator, checked_similarities
from sentence_transformers.tensors.similarity import SimilarityFunction, similarity_named

if TYPE_CHECKING:
    from sentence_transformers.inputs.example import InputExample

logger = logging.getLogger(__name__)


class TripletEvaluator(EmbeddingEvaluator):
    """Share of triplets whose anchor is more like its positive than like its negative.

    Anchors are encoded as queries, positives and negatives as documents.

    Args:
        anchors: The texts that are compared with two others each.
        positives: What is alike.
        negatives: What is not.
        main_similarity_function: Which similarity gives the main score; None for the best of several.
        margin: By how much the positive must score higher: one number, or numbers by similarity. Equal counts as
            wrong.
        name: Put in front of the metrics' names, and part of the file's.
        batch_size: Inputs of a batch at most.
        show_progress_bar: Whether to show progress.
        write_csv: Whether to add a row to a CSV file, in those calls that name a folder.
        truncate_dim: Keep this many leading dimensions; None for the model's own setting.
        similarity_fn_names: Similarities to evaluate; None for `main_similarity_function`, or else the model's
            own.
        main_distance_function: Older name of `main_similarity_function`.

    Raises:
        EvaluationDataError: If the lists are empty or of different lengths; a `ValueError` and `AssertionError`.
        ValueError: If there is no similarity of a given name, or the margin is neither a number nor numbers by
            similarity.

    Example:
        >>> evaluator = TripletEvaluator(["A man eats."], ["A man is eating food."], ["It rains."], name="t")
        >>> evaluator(model)
        {'t_cosine_accuracy': 1.0}
    """

    def __init__(
        self,
        anchors: list[str],
        positives: list[str],
        negatives: list[str],
        main_similarity_function: str | SimilarityFunction | None = None,
        margin: float | dict[str, float] | None = None,
        name: str = "",
        batch_size: int = 16,
        show_progress_bar: bool = False,
        write_csv: bool = True,
        truncate_dim: int | None = None,
        similarity_fn_names: list[Literal["cosine", "dot", "euclidean", "manhattan"]] | None = None,
        main_distance_function: str | SimilarityFunction | None = "deprecated",
    ) -> None:
        check_rows(type(self).__name__, anchors=anchors, positives=positives, negatives=negatives)
        super().__init__(
            name=name,
            write_csv=write_csv,
            csv_file=f"triplet_evaluation{named_part(name)}_results.csv",
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            truncate_dim=truncate_dim,
        )
        if main_distance_function != "deprecated":
            logger.warning(
                "main_distance_function is the older name of main_similarity_function, and will go."
            )
            main_similarity_function = main_similarity_function or main_distance_function
        self.anchors = anchors
        self.positives = positives
        self.negatives = negatives
        self.main_similarity_function = (
            None if main_similarity_function is None else similarity_named(main_similarity_function)
        )
        self.similarity_fn_names = checked_similarities(similarity_fn_names, self.main_similarity_function)
        self.margin = margins(margin)

    @classmethod
    def from_input_examples(cls, examples: list[InputExample], **kwargs: Any) -> TripletEvaluator:
        """Evaluate on examples with three texts each: anchor, positive, negative.

        Args:
            examples: The examples.
            **kwargs: Further arguments of the class.
        """
        anchors, positives, negatives = columns_of(examples, 3)
        return cls(anchors, positives, negatives, **kwargs)

    def get_config_dict(self) -> dict[str, Any]:
        """The settings that a reader of the results should know."""
        margin = {"margin": self.margin} if any(self.margin.values()) else {}
        return {**super().get_config_dict(), **margin}

    def measure(self, model: Any) -> Measurement:
        scorer = self.scorer(model, self.similarity_fn_names)
        anchors = scorer.encode(self.anchors, "query")
        positives = scorer.encode(self.positives, "document")
        negatives = scorer.encode(self.negatives, "document")
        metrics, columns = {}, {}
        for name in scorer.names:
            right = scorer.pairs(anchors, positives, name)  # (N,)
            wrong = scorer.pairs(anchors, negatives, name)  # (N,)
            won = int((right > wrong + self.margin[name]).sum())
            metrics[f"{name}_accuracy"] = columns[f"accuracy_{name}"] = won / len(self.anchors)
        main = scorer.names[0]
        if len(scorer.names) > 1:
            metrics["max_accuracy"] = max(metrics.values())
            main = "max"
        if self.main_similarity_function is not None:
            main = self.main_similarity_function.value
        return Measurement(metrics=metrics, primary=f"{main}_accuracy", columns=columns)


def margins(margin: float | Mapping[str, float] | None) -> dict[str, float]:
    """The margin of every similarity; 0 where none is given."""
    known = SimilarityFunction.possible_values()
    if isinstance(margin, Mapping) and set(margin) <= set(known):
        return {name: margin.get(name, 0) for name in known}
    if margin is None or isinstance(margin, (int, float)):
        return dict.fromkeys(known, margin or 0)
    raise ValueError(
        f"margin={margin!r} is neither a number nor numbers by similarity. Pass a number, or a dictionary with "
        f"keys among {', '.join(map(repr, known))}."
    )
