"""Learn from a teacher by how much better a positive scores than each negative."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from sentence_transformers.cross_encoder.losses.base import AS_IT_IS, Activation, ScoreLoss
from sentence_transformers.losses import margin_mse


class MarginMSELoss(ScoreLoss):
    """Squared difference of the student's and the teacher's margin between positive and negative.

    After Hofstätter et al. 2020, "Improving Efficient Neural Ranking Models with Cross-Architecture Knowledge
    Distillation" (https://arxiv.org/abs/2010.02666). Columns: queries, positives, then one or more columns of
    negatives. The label of a row is the teacher's margin, score(query, positive) - score(query, negative), one for
    each negative; or the teacher's scores themselves, first the positive's, then each negative's.

    Args:
        model: The student, with one score.
        activation_fn: Applied to the scores; None for nothing.
        **kwargs: Further arguments of `torch.nn.MSELoss`.

    Raises:
        ValueError: If the model gives several scores.
    """

    min_columns: ClassVar[int] = 3
    labels: ClassVar[str] = "target"

    def __init__(self, model: Any, activation_fn: Activation = AS_IT_IS, **kwargs: Any) -> None:
        super().__init__(model, activation_fn)
        self.loss_fct = nn.MSELoss(**kwargs)

    def value(self, scores: Tensor, labels: Any, counts: list[int]) -> Tensor:
        of_rows = scores.reshape(len(counts), -1)  # (B, 1 + N)
        margins = of_rows[:, :1] - of_rows[:, 1:]
        wanted = margin_mse.teacher_margins(labels, margins.shape[1])
        value: Tensor = self.loss_fct(margins, wanted.to(margins))
        return value

    @property
    def citation(self) -> str:
        """BibTeX of the paper."""
        return margin_mse.CITATION
