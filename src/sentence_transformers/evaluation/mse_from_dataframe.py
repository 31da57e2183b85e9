"""How far a student's embeddings of several languages are from a teacher's."""

from __future__ import annotations

from typing import Any

import torch

from sentence_transformers.evaluation.base import EvaluationDataError, named_part, undisturbed
from sentence_transformers.evaluation.mse import check_teacher, mean_squared_error
from sentence_transformers.evaluation.report import Measurement
from sentence_transformers.evaluation.scoring import EmbeddingEvaluator
from sentence_transformers.tensors.blocks import some_rows


class MSEEvaluatorFromDataFrame(EmbeddingEvaluator):
    """`MSEEvaluator` for several pairs of columns of a table, such as languages; the main score is their mean.

    Args:
        dataframe: Rows, each with a text by column; also a pandas `DataFrame`. Rows with an empty text do not count
            for the pairs of that column.
        teacher_model: The teacher. It embeds the first column of each pair, at once.
        combinations: The pairs of columns: what the teacher embeds, and what the student embeds.
        batch_size: Inputs of a batch at most.
        name: Put in front of the metrics' names, and part of the file's.
        write_csv: Whether to add a row to a CSV file, in those calls that name a folder.
        truncate_dim: Keep this many leading dimensions, of both; None for the models' own settings.

    Raises:
        EvaluationDataError: If there is no combination, or one without rows; a `ValueError` and `AssertionError`.
        ValueError: If there is no teacher; in a call, if the embeddings differ in width.

    Example:
        >>> rows = [{"en": "A man eats.", "de": "Ein Mann isst.", "fr": "Un homme mange."}]
        >>> evaluator = MSEEvaluatorFromDataFrame(rows, model, [("en", "de"), ("en", "fr")])
        >>> list(evaluator(model))
        ['negative_mse']
    """

    def __init__(
        self,
        dataframe: list[dict[str, str]],
        teacher_model: Any,
        combinations: list[tuple[str, str]],
        batch_size: int = 8,
        name: str = "",
        write_csv: bool = True,
        truncate_dim: int | None = None,
    ) -> None:
        check_teacher(teacher_model)
        if not combinations:
            raise EvaluationDataError(
                "There is no pair of columns to evaluate. Pass combinations such as [('en', 'de')]."
            )
        super().__init__(
            name=name,
            write_csv=write_csv,
            csv_file=f"mse_evaluation{named_part(name)}_results.csv",
            batch_size=batch_size,
            truncate_dim=truncate_dim,
        )
        self.csv_headers = [*self.csv_headers, *("-".join(pair) for pair in combinations)]
        self.primary_metric = "negative_mse"
        self.combinations = combinations
        rows = dataframe.to_dict("records") if hasattr(dataframe, "to_dict") else dataframe
        self.data = {tuple(pair): texts_of(rows, *pair) for pair in combinations}
        sources = list(dict.fromkeys(text for source, _ in self.data.values() for text in source))
        with undisturbed(teacher_model):
            embeddings = self.scorer(teacher_model).encode(sources).cpu()
        self.teacher_embeddings = {
            text: some_rows(embeddings, range(row, row + 1)) for row, text in enumerate(sources)
        }

    @property
    def description(self) -> str:
        """What is evaluated, for people."""
        return "Knowledge Distillation"

    def measure(self, model: Any) -> Measurement:
        scorer = self.scorer(model)
        errors = {}
        for pair, (sources, targets) in self.data.items():
            teacher = torch.cat([self.teacher_embeddings[text] for text in sources])  # (N, D)
            errors["-".join(pair)] = 100 * mean_squared_error(teacher, scorer.encode(targets).cpu())
        mean = sum(errors.values()) / len(errors)
        return Measurement(metrics={"negative_mse": -mean}, primary="negative_mse", columns=errors)


def texts_of(rows: list[dict[str, str]], source: str, target: str) -> tuple[list[str], list[str]]:
    """The texts of two columns, from those rows that have both.

    Raises:
        EvaluationDataError: If there is no such row.
    """
    kept = [row for row in rows if all(is_text(row.get(column)) for column in (source, target))]
    if not kept:
        raise EvaluationDataError(
            f"No row of the table has both a text {source!r} and a text {target!r}. Check the names of the columns."
        )
    return [row[source] for row in kept], [row[target] for row in kept]


def is_text(value: Any) -> bool:
    """Whether a cell holds a text; pandas has floats in cells without one."""
    return isinstance(value, str) and bool(value.strip())
