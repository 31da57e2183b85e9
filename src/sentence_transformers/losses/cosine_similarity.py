"""Make the cosine of two embeddings the number that the data says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from sentence_transformers.losses.base import EmbeddingLoss, LossPart
from sentence_transformers.losses.scores import score
from sentence_transformers.storage.importing import fullname
from sentence_transformers.tensors.embeddings import Embeddings
from sentence_transformers.tensors.similarity import pairwise_cos_sim

SQUARED_ERROR = nn.MSELoss()
AS_IT_IS = nn.Identity()


class CosineSimilarityLoss(EmbeddingLoss):
    """How far the cosine of two texts is from the label: by default the mean squared error.

    Takes two text columns and a label, a number that a cosine can be.

    Args:
        model: The model.
        loss_fct: Compares the cosines, (B,), with the labels, (B,), and gives a scalar.
        cos_score_transformation: Applied to the cosines first.
    """

    min_columns: ClassVar[int] = 2
    max_columns: ClassVar[int | None] = 2
    labels: ClassVar[str] = "score"

    def __init__(
        self,
        model: Any,
        loss_fct: Callable[[Tensor, Tensor], Tensor] = SQUARED_ERROR,
        cos_score_transformation: Callable[[Tensor], Tensor] = AS_IT_IS,
    ) -> None:
        super().__init__(model)
        self.loss_fct = loss_fct
        self.cos_score_transformation = cos_score_transformation

    def parts(
        self,
        embeddings: Sequence[Embeddings],
        labels: Tensor | None,
        *,
        rows: slice | None = None,
        context: Any = None,
    ) -> Iterator[LossPart]:
        assert labels is not None, "checked before"
        scores = self.cos_score_transformation(score(pairwise_cos_sim, *embeddings))
        yield LossPart("loss", self.loss_fct(scores, labels.flatten().to(scores.dtype)))

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        return {
            "loss_fct": fullname(self.loss_fct),
            "cos_score_transformation": fullname(self.cos_score_transformation),
        }
