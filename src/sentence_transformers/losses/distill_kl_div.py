"""Learn from a teacher how likely each of several candidates is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from sentence_transformers.losses.base import EmbeddingLoss, LossPart
from sentence_transformers.losses.functional import divergence
from sentence_transformers.losses.papers import bibtex
from sentence_transformers.losses.scores import score
from sentence_transformers.storage.importing import similarity_fct_name
from sentence_transformers.tensors.embeddings import Embeddings
from sentence_transformers.tensors.similarity import pairwise_dot_score
from sentence_transformers.tensors.teacher_targets import check_teacher_targets


class DistillKLDivLoss(EmbeddingLoss):
    """Kullback-Leibler divergence of the student's from the teacher's distribution over candidates.

    After Lin et al. 2020, "Distilling Dense Representations for Ranking using Tightly-Coupled Teachers"
    (https://arxiv.org/abs/2010.11386). Columns: queries, then two or more columns of candidates. The label of
    a row is the teacher's scores of its candidates, in order. Scores are divided by a temperature before the
    softmax, and the divergence is multiplied by the square of the student's, as in Hinton et al. 2015, so
    that gradients keep their size.

    Args:
        model: The student.
        similarity_fct: Scores row i of one column with row i of another.
        temperature: Higher ones make distributions flatter.
        student_temperature: That of the student, where it differs.
        teacher_temperature: That of the teacher, where it differs.

    Raises:
        ValueError: If a temperature is not a positive number.
    """

    min_columns: ClassVar[int] = 3
    labels: ClassVar[str] = "target"

    def __init__(
        self,
        model: Any,
        similarity_fct: Callable[[Any, Any], Tensor] = pairwise_dot_score,
        temperature: float = 1.0,
        student_temperature: float | None = None,
        teacher_temperature: float | None = None,
    ) -> None:
        super().__init__(model)
        self.similarity_fct = similarity_fct
        self.temperature = checked("temperature", temperature)
        self.own_temperatures = {
            name: checked(name, value)
            for name, value in (
                ("student_temperature", student_temperature),
                ("teacher_temperature", teacher_temperature),
            )
            if value is not None
        }

    @property
    def student_temperature(self) -> float:
        """What the student's scores are divided by."""
        return self.own_temperatures.get("student_temperature", self.temperature)

    @property
    def teacher_temperature(self) -> float:
        """What the teacher's scores are divided by."""
        return self.own_temperatures.get("teacher_temperature", self.temperature)

    def parts(
        self,
        embeddings: Sequence[Embeddings],
        labels: Tensor | None,
        *,
        rows: slice | None = None,
        context: Any = None,
    ) -> Iterator[LossPart]:
        assert labels is not None
        queries, *candidates = embeddings
        scores = torch.stack([score(self.similarity_fct, queries, column) for column in candidates], dim=1)
        if labels.shape != scores.shape:
            raise ValueError(
                f"{type(self).__name__} needs the teacher's score of each of the {len(candidates)} candidates of "
                f"a row, (B, {len(candidates)}), and was given labels of shape {tuple(labels.shape)}."
            )
        targets = labels.to(scores)
        probabilities = (targets / self.teacher_temperature).softmax(dim=1)
        check_teacher_targets(probabilities, targets, self.teacher_temperature, type(self).__name__)
        softness = self.student_temperature
        yield LossPart("loss", softness**2 * divergence(scores / softness, probabilities))

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        return {
            "similarity_fct": similarity_fct_name(self.similarity_fct),
            "temperature": self.temperature,
            **self.own_temperatures,
        }

    @property
    def citation(self) -> str:
        """BibTeX of the paper."""
        return bibtex(
            "misc",
            "lin2020distillingdenserepresentationsranking",
            title="Distilling Dense Representations for Ranking using Tightly-Coupled Teachers",
            author=["Sheng-Chieh Lin", "Jheng-Hong Yang", "Jimmy Lin"],
            year=2020,
            arxiv="2010.11386 cs.IR",
            url="https://arxiv.org/abs/2010.11386",
        )


def checked(name: str, temperature: float) -> float:
    """A temperature, if it is one."""
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"{name}={temperature}: scores are divided by it. Pass a positive, finite number.")
    return temperature
