"""Triplets out of labelled texts: anchors, positives and negatives are found within the batch.

The losses take one text column and a label, the same number where texts belong together. A batch should
hold at least two texts of a class, and several classes; the batch sampler "group_by_label" sees to that.
Which triplets count is what tells the losses apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional as F

from sentence_transformers.losses.base import EmbeddingLoss, LossPart
from sentence_transformers.losses.functional import (
    batch_all_triplet_loss,
    batch_semi_hard_triplet_loss,
    hardest_gaps,
)
from sentence_transformers.losses.triplet import TRIPLET_PAPER
from sentence_transformers.storage.importing import similarity_fct_name
from sentence_transformers.tensors.embeddings import Embeddings
from sentence_transformers.tensors.similarity import cos_sim, euclidean_sim


class BatchHardTripletLossDistanceFunction:
    """Distances of every row of a matrix to every row of it; zero or more, in float32."""

    @staticmethod
    def cosine_distance(embeddings: Tensor) -> Tensor:
        """One minus the cosines, (B, B), of embeddings (B, D)."""
        return 1 - cos_sim(embeddings, embeddings)

    @staticmethod
    def euclidean_distance(embeddings: Tensor, squared: bool = False) -> Tensor:
        """Euclidean distances, (B, B), of embeddings (B, D), or their squares; the gradient at 0 is 0."""
        distances = -euclidean_sim(embeddings, embeddings)
        return distances.square() if squared else distances

    eucledian_distance = euclidean_distance
    """The older spelling."""


class BatchTripletLoss(EmbeddingLoss):
    """What the losses of this file share.

    Args:
        model: The model.
        distance_metric: Distances (B, B) of the rows of a matrix (B, D) to each other, such as those of
            `BatchHardTripletLossDistanceFunction`.
    """

    max_columns: ClassVar[int | None] = 1
    labels: ClassVar[str] = "group"

    def __init__(self, model: Any, distance_metric: Callable[[Tensor], Tensor]) -> None:
        super().__init__(model)
        self.distance_metric = distance_metric

    def value(self, distances: Tensor, labels: Tensor) -> Tensor:
        """The loss, a scalar, of the distances (B, B) of rows with these labels, (B,)."""
        raise NotImplementedError

    def parts(
        self,
        embeddings: Sequence[Embeddings],
        labels: Tensor | None,
        *,
        rows: slice | None = None,
        context: Any = None,
    ) -> Iterator[LossPart]:
        assert labels is not None, "checked before"
        distances = self.distance_metric(embeddings[0].values)
        yield LossPart("loss", self.value(distances, labels.flatten()))

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        return {"distance_metric": similarity_fct_name(self.distance_metric)}

    @property
    def citation(self) -> str:
        """BibTeX of the paper."""
        return TRIPLET_PAPER


class MarginTripletLoss(BatchTripletLoss):
    """Those of them that have a margin.

    Args:
        model: The model.
        distance_metric: Distances (B, B) of the rows of a matrix (B, D) to each other, such as those of
            `BatchHardTripletLossDistanceFunction`.
        margin: How much farther than a text of its class a text of another should be.
    """

    def __init__(
        self,
        model: Any,
        distance_metric: Callable[[Tensor], Tensor] = BatchHardTripletLossDistanceFunction.euclidean_distance,
        margin: float = 5,
    ) -> None:
        super().__init__(model, distance_metric)
        self.margin = margin

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        return {**super().get_config_dict(), "margin": self.margin}


class BatchAllTripletLoss(MarginTripletLoss):
    """Mean of the triplet loss over all triplets of a batch in which it is above zero.

    See `functional.batch_all_triplet_loss`; arguments as in `MarginTripletLoss`.
    """

    def value(self, distances: Tensor, labels: Tensor) -> Tensor:
        return batch_all_triplet_loss(distances, labels, self.margin)


class BatchHardTripletLoss(MarginTripletLoss):
    """Mean over texts of the triplet loss with the farthest positive and the nearest negative of each.

    See `functional.hardest_gaps`; arguments as in `MarginTripletLoss`.
    """

    def value(self, distances: Tensor, labels: Tensor) -> Tensor:
        return F.relu(hardest_gaps(distances, labels) + self.margin).mean()


class BatchHardSoftMarginTripletLoss(BatchHardTripletLoss):
    """`BatchHardTripletLoss` with log(1 + exp(gap)) in place of a margin.

    Args:
        model: The model.
        distance_metric: As in `MarginTripletLoss`.
    """

    def __init__(
        self,
        model: Any,
        distance_metric: Callable[[Tensor], Tensor] = BatchHardTripletLossDistanceFunction.euclidean_distance,
    ) -> None:
        BatchTripletLoss.__init__(self, model, distance_metric)

    def value(self, distances: Tensor, labels: Tensor) -> Tensor:
        return F.softplus(hardest_gaps(distances, labels)).mean()

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        return BatchTripletLoss.get_config_dict(self)


class BatchSemiHardTripletLoss(MarginTripletLoss):
    """Mean of the triplet loss over all pairs of a class, each with a negative that is hard but not too hard.

    See `functional.batch_semi_hard_triplet_loss`; arguments as in `MarginTripletLoss`.
    """

    def value(self, distances: Tensor, labels: Tensor) -> Tensor:
        return batch_semi_hard_triplet_loss(distances, labels, self.margin)
