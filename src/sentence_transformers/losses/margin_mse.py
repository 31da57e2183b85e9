"""Learn from a teacher by how much better a positive is than each negative."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from sentence_transformers.losses.base import EmbeddingLoss, LossPart
from sentence_transformers.losses.papers import bibtex
from sentence_transformers.losses.scores import score
from sentence_transformers.storage.importing import similarity_fct_name
from sentence_transformers.tensors.embeddings import Embeddings
from sentence_transformers.tensors.similarity import pairwise_dot_score

CITATION = bibtex(
    "misc",
    "hofstätter2021improving",
    title="Improving Efficient Neural Ranking Models with Cross-Architecture Knowledge Distillation",
    author=["Sebastian Hofstätter", "Sophia Althammer", "Michael Schröder", "Mete Sertkan", "Allan Hanbury"],
    year=2021,
    arxiv="2010.02666 cs.IR",
)


class MarginMSELoss(EmbeddingLoss):
    """Squared difference of the student's and the teacher's margin between positive and negative.

    After Hofstätter et al. 2020, "Improving Efficient Neural Ranking Models with Cross-Architecture Knowledge
    Distillation" (https://arxiv.org/abs/2010.02666). Columns: queries, positives, then one or more columns of
    negatives. The label of a row is the teacher's margin, score(query, positive) - score(query, negative),
    one for each negative; or the teacher's scores themselves, first the positive's, then each negative's.

    Args:
        model: The student.
        similarity_fct: Scores row i of one column with row i of another.
    """

    min_columns: ClassVar[int] = 3
    labels: ClassVar[str] = "target"

    def __init__(self, model: Any, similarity_fct: Callable[[Any, Any], Tensor] = pairwise_dot_score) -> None:
        super().__init__(model)
        self.similarity_fct = similarity_fct

    def parts(
        self,
        embeddings: Sequence[Embeddings],
        labels: Tensor | None,
        *,
        rows: slice | None = None,
        context: Any = None,
    ) -> Iterator[LossPart]:
        assert labels is not None
        queries, positives, *negatives = embeddings
        positive = score(self.similarity_fct, queries, positives)  # (B,)
        negative = torch.stack([score(self.similarity_fct, queries, column) for column in negatives], dim=1)
        margins = positive[:, None] - negative  # (B, N)
        yield LossPart("loss", F.mse_loss(margins, teacher_margins(labels, margins.shape[1]).to(margins)))

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        return {"similarity_fct": similarity_fct_name(self.similarity_fct)}

    @property
    def citation(self) -> str:
        """BibTeX of the paper."""
        return CITATION


def teacher_margins(labels: Tensor, negatives: int) -> Tensor:
    """The teacher's margin between the positive and each negative, (B, N).

    Args:
        labels: Margins (B, N), or (B,) for one negative; or scores of the positive and the negatives,
            (B, 1 + N).
        negatives: How many negatives N a row has.

    Raises:
        ValueError: If the labels have another shape.
    """
    given = labels[:, None] if labels.dim() == 1 else labels
    if given.dim() == 2 and given.shape[1] == negatives:
        return given
    if given.dim() == 2 and given.shape[1] == negatives + 1:
        return given[:, :1] - given[:, 1:]
    raise ValueError(
        f"MarginMSELoss got labels of shape {tuple(labels.shape)} for {negatives} columns of negatives. Give each row "
        f"the teacher's margins, {negatives} numbers, or its scores of the positive and the negatives, "
        f"{negatives + 1} numbers."
    )
