"""How far a student's embeddings are from a teacher's."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sentence_transformers.evaluation.base import check_rows, undisturbed
from sentence_transformers.evaluation.report import Measurement
from sentence_transformers.evaluation.scoring import EmbeddingEvaluator
from sentence_transformers.tensors.vectors import as_coo, in_common_precision, is_sparse


class MSEEvaluator(EmbeddingEvaluator):
    """Mean squared error between a teacher's embeddings of one text and a student's of another.

    For distillation: the student is to embed the target as the teacher embeds the source, often the same text
    or its translation. The error is given times 100 and, so that more is better, negated. Reimers and Gurevych
    2020, "Making Monolingual Sentence Embeddings Multilingual using Knowledge Distillation".

    Args:
        source_sentences: What the teacher embeds; done at once, and kept in memory.
        target_sentences: What the student embeds.
        teacher_model: The teacher.
        show_progress_bar: Whether to show progress.
        batch_size: Inputs of a batch at most.
        name: Put in front of the metrics' names, and part of the file's.
        write_csv: Whether to add a row to a CSV file, in those calls that name a folder.
        truncate_dim: Keep this many leading dimensions, of both; None for the models' own settings.

    Raises:
        EvaluationDataError: If the lists are empty or of different lengths; a `ValueError` and `AssertionError`.
        ValueError: If there is no teacher; in a call, if the embeddings differ in width.

    Example:
        >>> evaluator = MSEEvaluator(["A man eats."], ["Ein Mann isst."], teacher_model=model, name="en-de")
        >>> list(evaluator(model))
        ['en-de_negative_mse']
    """

    csv_columns = ("MSE",)

    def __init__(
        self,
        source_sentences: list[str],
        target_sentences: list[str],
        teacher_model: Any = None,
        show_progress_bar: bool = False,
        batch_size: int = 32,
        name: str = "",
        write_csv: bool = True,
        truncate_dim: int | None = None,
    ) -> None:
        check_rows(type(self).__name__, source_sentences=source_sentences, target_sentences=target_sentences)
        check_teacher(teacher_model)
        super().__init__(
            name=name,
            write_csv=write_csv,
            # With two underscores if there is no name: so this file has always been called.
            csv_file=f"mse_evaluation_{name}_results.csv",
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            truncate_dim=truncate_dim,
        )
        self.target_sentences = target_sentences
        with undisturbed(teacher_model):
            self.source_embeddings = self.scorer(teacher_model).encode(source_sentences).cpu()
        self.primary_metric = "negative_mse"

    @property
    def description(self) -> str:
        """What is evaluated, for people."""
        return "Knowledge Distillation"

    def measure(self, model: Any) -> Measurement:
        error = mean_squared_error(
            self.source_embeddings, self.scorer(model).encode(self.target_sentences).cpu()
        )
        return Measurement(
            metrics={"negative_mse": -100 * error}, primary="negative_mse", columns={"MSE": 100 * error}
        )


def check_teacher(teacher: Any) -> None:
    if teacher is None:
        raise ValueError("There is no teacher to compare with. Pass the model as teacher_model=….")


def mean_squared_error(teacher: Tensor, student: Tensor) -> float:
    """Mean over all rows and dimensions of the squared difference of embeddings (N, D), dense or sparse.

    Raises:
        ValueError: If they differ in width.
    """
    if teacher.shape != student.shape:
        raise ValueError(
            f"The teacher's embeddings have {teacher.shape[-1]} dimensions and the student's {student.shape[-1]}. "
            "Compare models of the same width, or pass truncate_dim."
        )
    teacher, student = in_common_precision(teacher, student)
    difference = teacher - student
    values = as_coo(difference).values() if is_sparse(difference) else difference
    return float(values.double().square().sum()) / difference.numel()
