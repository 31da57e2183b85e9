"""The evaluators of earlier releases: each returns one number, and writes a file under its own name.

What they measure stands in the other files of this room, whose evaluators give several numbers by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sentence_transformers.cross_encoder.evaluation.classification import (
    BINARY,
    binary_metrics,
    check_classes,
    told,
)
from sentence_transformers.cross_encoder.evaluation.correlation import correlations
from sentence_transformers.cross_encoder.evaluation.pairs import LabelledPairsEvaluator, Pair, PairEvaluator
from sentence_transformers.cross_encoder.evaluation.reranking import CrossEncoderRerankingEvaluator
from sentence_transformers.evaluation.base import EvaluationDataError, named_part
from sentence_transformers.evaluation.metrics import f1_means
from sentence_transformers.evaluation.report import Measurement


class OneNumber(PairEvaluator):
    """An evaluator that returns its main score, and not all of them by name."""

    # Programs compare what these evaluators return with a number.
    def __call__(self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1) -> float:
        """Score a model.

        Args:
            model: The model; it is left as it was.
            output_path: Folder for a CSV file, which gets one more row; made if need be. None writes none.
            epoch: When in training this is; -1 for outside of it.
            steps: Steps of that epoch; -1 for its end.

        Returns:
            The main score.
        """
        metrics = super().__call__(model, output_path, epoch, steps)
        score = metrics[self.primary_metric or ""]
        # With a name here, training would look for it among the results.
        self.primary_metric = None
        return score


class OlderPairsEvaluator(OneNumber, LabelledPairsEvaluator):
    """One number about labelled pairs; what is shared is how it is built, and the name of its file.

    Args:
        sentence_pairs: The pairs.
        labels: Their labels.
        name: Part of the file's name.
        **settings: As of `PairEvaluator`.
    """

    def __init__(
        self, sentence_pairs: Sequence[Pair], labels: Sequence[Any], *, name: str, **settings: Any
    ) -> None:
        file = f"{type(self).__name__}{named_part(name)}_results.csv"
        super().__init__(sentence_pairs, labels, name=name, csv_file=file, **settings)
        self.labels = np.asarray(labels)


class CEBinaryAccuracyEvaluator(OlderPairsEvaluator):
    """Accuracy of calling those pairs positive whose score is above a threshold.

    Args:
        sentence_pairs: The pairs.
        labels: 1 for a pair that belongs together, 0 for one that does not.
        name: Part of the file's name.
        threshold: The threshold.
        write_csv: Whether to add a row to a CSV file, in those calls that name a folder.
        prompt_name: Name of one of the model's prompts; None for its default.
        batch_size: Pairs of a batch at most.
        show_progress_bar: Whether to show progress; None as the model's `predict` has it.

    Raises:
        EvaluationDataError: If the lists are empty or of different lengths; a `ValueError` and `AssertionError`.
    """

    def __init__(
        self,
        sentence_pairs: Sequence[Pair],
        labels: Sequence[int],
        name: str = "",
        threshold: float = 0.5,
        write_csv: bool = True,
        *,
        prompt_name: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
    ) -> None:
        super().__init__(
            sentence_pairs,
            labels,
            name=name,
            write_csv=write_csv,
            prompt_name=prompt_name,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
        )
        self.threshold = threshold

    def measure(self, model: Any) -> Measurement:
        called = self.predict_one(model, self.sentence_pairs) > self.threshold
        return told({"accuracy": float((called == self.labels).mean())}, {"accuracy": "Accuracy"})


class CEBinaryClassificationEvaluator(OlderPairsEvaluator):
    """Average precision of ranking pairs by their score; the file has what `CrossEncoderClassificationEvaluator` gives.

    Args:
        sentence_pairs: The pairs.
        labels: 1 for a pair that belongs together, 0 for one that does not.
        name: Part of the file's name.
        show_progress_bar: Whether to show progress; None as the model's `predict` has it.
        write_csv: Whether to add a row to a CSV file, in those calls that name a folder.
        prompt_name: Name of one of the model's prompts; None for its default.
        batch_size: Pairs of a batch at most.

    Raises:
        EvaluationDataError: If the lists are empty or of different lengths, or a label is neither; a `ValueError`
            and `AssertionError`.
    """

    def __init__(
        self,
        sentence_pairs: Sequence[Pair],
        labels: Sequence[int],
        name: str = "",
        show_progress_bar: bool | None = False,
        write_csv: bool = True,
        *,
        prompt_name: str | None = None,
        batch_size: int = 32,
    ) -> None:
        for row, label in enumerate(labels):
            if label not in (0, 1):
                raise EvaluationDataError(
                    f"labels[{row}] is {label!r}. Pass 1 for pairs that belong together and 0 for the others."
                )
        super().__init__(
            sentence_pairs,
            labels,
            name=name,
            write_csv=write_csv,
            prompt_name=prompt_name,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
        )

    def measure(self, model: Any) -> Measurement:
        return told(binary_metrics(self.predict_one(model, self.sentence_pairs), self.labels), BINARY)


class CECorrelationEvaluator(OlderPairsEvaluator):
    """Spearman correlation of a model's scores with known ones; the file has Pearson's, too.

    Args:
        sentence_pairs: The pairs.
        scores: What is known of them, on any scale.
        name: Part of the file's name.
        write_csv: Whether to add a row to a CSV file, in those calls that name a folder.
        prompt_name: Name of one of the model's prompts; None for its default.
        batch_size: Pairs of a batch at most.
        show_progress_bar: Whether to show progress; None as the model's `predict` has it.

    Raises:
        EvaluationDataError: If the lists are empty or of different lengths; a `ValueError` and `AssertionError`.
    """

    labels_argument = "scores"

    def __init__(
        self,
        sentence_pairs: Sequence[Pair],
        scores: Sequence[float],
        name: str = "",
        write_csv: bool = True,
        *,
        prompt_name: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
    ) -> None:
        super().__init__(
            sentence_pairs,
            scores,
            name=name,
            write_csv=write_csv,
            prompt_name=prompt_name,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
        )
        self.scores = scores

    def measure(self, model: Any) -> Measurement:
        return correlations(self.predict_one(model, self.sentence_pairs), self.scores)


class ClassesEvaluator(OlderPairsEvaluator):
    """One number about which of several classes has the highest score."""

    def predicted_classes(self, model: Any) -> np.ndarray:
        """The class with the highest score, (N,).

        Raises:
            ValueError: If the model gives a single score.
            EvaluationDataError: If a label is no class of the model.
        """
        scores = self.predict(model, self.sentence_pairs)
        if scores.ndim != 2:
            raise ValueError(
                f"{type(self).__name__} needs a model with a score for each class, and this one gives one score. "
                "Build it with num_labels=2 or more, or evaluate it with CEBinaryClassificationEvaluator."
            )
        check_classes(self.labels, scores.shape[1])
        return scores.argmax(axis=1)


class CEF1Evaluator(ClassesEvaluator):
    """F1 of the class with the highest score: of class 1 if there are two, else the mean over all classes.

    The file also has, for more than two classes, the mean weighted by their frequency, and F1 over all decisions.

    Args:
        sentence_pairs: The pairs.
        labels: The number of the class of each.
        batch_size: Pairs of a batch at most.
        show_progress_bar: Whether to show progress; None as the model's `predict` has it.
        name: Part of the file's name.
        write_csv: Whether to add a row to a CSV file, in those calls that name a folder.
        prompt_name: Name of one of the model's prompts; None for its default.

    Raises:
        EvaluationDataError: If the lists are empty or of different lengths; in a call, if a label is no class of the
            model. A `ValueError` and `AssertionError`.
        ValueError: In a call, if the model gives a single score.
    """

    def __init__(
        self,
        sentence_pairs: Sequence[Pair],
        labels: Sequence[int],
        *,
        batch_size: int = 32,
        show_progress_bar: bool | None = False,
        name: str = "",
        write_csv: bool = True,
        prompt_name: str | None = None,
    ) -> None:
        super().__init__(
            sentence_pairs,
            labels,
            name=name,
            write_csv=write_csv,
            prompt_name=prompt_name,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
        )

    def measure(self, model: Any) -> Measurement:
        predicted = self.predicted_classes(model)
        if set(self.labels.tolist()) <= {0, 1}:
            hits = int(((predicted == 1) & (self.labels == 1)).sum())
            called = int((predicted == 1).sum()) + int((self.labels == 1).sum())
            return told({"f1": 2 * hits / called if called else 0.0}, {"f1": "Binary F1 score"})
        columns = {
            "f1_macro": "Macro F1 score",
            "f1_micro": "Micro F1 score",
            "f1_weighted": "Weighted F1 score",
        }
        return told(f1_means(predicted, self.labels), columns)


class CESoftmaxAccuracyEvaluator(ClassesEvaluator):
    """Accuracy of the class with the highest score.

    Args:
        sentence_pairs: The pairs.
        labels: The number of the class of each.
        name: Part of the file's name.
        write_csv: Whether to add a row to a CSV file, in those calls that name a folder.
        prompt_name: Name of one of the model's prompts; None for its default.
        batch_size: Pairs of a batch at most.
        show_progress_bar: Whether to show progress; None as the model's `predict` has it.

    Raises:
        EvaluationDataError: If the lists are empty or of different lengths; in a call, if a label is no class of the
            model. A `ValueError` and `AssertionError`.
        ValueError: In a call, if the model gives a single score.
    """

    def __init__(
        self,
        sentence_pairs: Sequence[Pair],
        labels: Sequence[int],
        name: str = "",
        write_csv: bool = True,
        *,
        prompt_name: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
    ) -> None:
        super().__init__(
            sentence_pairs,
            labels,
            name=name,
            write_csv=write_csv,
            prompt_name=prompt_name,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
        )

    def measure(self, model: Any) -> Measurement:
        right = self.predicted_classes(model) == self.labels
        return told({"accuracy": float(right.mean())}, {"accuracy": "Accuracy"})


class CERerankingEvaluator(OneNumber, CrossEncoderRerankingEvaluator):
    """Mean reciprocal rank of the first relevant one of a few given documents; the file has NDCG, too.

    Args:
        samples: As of `CrossEncoderRerankingEvaluator`; those without relevant texts or without others are left out.
        at_k: Up to which place MRR and NDCG are measured.
        name: Part of the file's name.
        write_csv: Whether to add a row to a CSV file, in those calls that name a folder.
        mrr_at_k: Older name of `at_k`.
        always_rerank_positives: As of `CrossEncoderRerankingEvaluator`, like all that follow.
        prompt_name: As there.
        batch_size: As there.
        show_progress_bar: As there.

    Raises:
        EvaluationDataError: As there.
        ValueError: As there.
    """

    file_title = "CERerankingEvaluator"

    def __init__(
        self,
        samples: Any,
        at_k: int = 10,
        name: str = "",
        write_csv: bool = True,
        mrr_at_k: int | None = None,
        *,
        always_rerank_positives: bool = True,
        prompt_name: str | None = None,
        batch_size: int = 64,
        show_progress_bar: bool | None = False,
    ) -> None:
        super().__init__(
            orderable(samples),
            at_k=at_k,
            always_rerank_positives=always_rerank_positives,
            name=name,
            prompt_name=prompt_name,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            write_csv=write_csv,
            mrr_at_k=mrr_at_k,
        )

    def measure(self, model: Any) -> Measurement:
        measured = super().measure(model)
        mrr, ndcg = f"mrr@{self.at_k}", f"ndcg@{self.at_k}"
        columns = {f"MRR@{self.at_k}": measured.metrics[mrr], f"NDCG@{self.at_k}": measured.metrics[ndcg]}
        return Measurement(metrics=measured.metrics, primary=mrr, columns=columns)


def orderable(samples: Any) -> list[Any]:
    """The samples in which there is something to order; those that lack a part are kept, for the error."""
    samples = samples.values() if isinstance(samples, Mapping) else samples
    return [
        sample
        for sample in samples
        if len(sample.get("positive", "?")) and len(sample.get("negative", sample.get("documents", "?")))
    ]
