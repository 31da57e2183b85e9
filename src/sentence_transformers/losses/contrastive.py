"""Draw alike pairs together, push different pairs apart until a margin."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import Any, ClassVar

from torch import Tensor

from sentence_transformers.losses.base import EmbeddingLoss, LossPart
from sentence_transformers.losses.distances import (
    Distance,
    cosine_distance,
    distance_name,
    euclidean_distance,
    manhattan_distance,
)
from sentence_transformers.losses.features import Features
from sentence_transformers.losses.functional import contrastive_terms, hard_contrastive_loss
from sentence_transformers.losses.papers import bibtex
from sentence_transformers.losses.scores import score
from sentence_transformers.tensors.embeddings import Embeddings


class SiameseDistanceMetric(Enum):
    """Distances of the rows of two matrices, for the contrastive losses; each is a function of both."""

    EUCLIDEAN = staticmethod(euclidean_distance)
    MANHATTAN = staticmethod(manhattan_distance)
    COSINE_DISTANCE = staticmethod(cosine_distance)


class PairDistanceLoss(EmbeddingLoss):
    """What the contrastive losses share: the distance of two texts, and whether they are alike.

    Args:
        model: The model.
        distance_metric: Distance of the rows of two matrices of embeddings; None for
            `SiameseDistanceMetric.COSINE_DISTANCE`.
        margin: How far apart a different pair should be.
    """

    min_columns: ClassVar[int] = 2
    max_columns: ClassVar[int | None] = 2
    labels: ClassVar[str] = "score"

    def __init__(self, model: Any, distance_metric: Distance | None = None, margin: float = 0.5) -> None:
        super().__init__(model)
        self.distance_metric = distance_metric or cosine_distance
        self.margin = margin

    def value(self, distances: Tensor, labels: Tensor) -> Tensor:
        """The loss, a scalar, of the distances of the pairs and their labels, (B,) each."""
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
        distances = score(self.distance_metric, *embeddings)
        yield LossPart("loss", self.value(distances, labels.flatten()))

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        return {
            "distance_metric": distance_name(self.distance_metric, SiameseDistanceMetric),
            "margin": self.margin,
        }


class ContrastiveLoss(PairDistanceLoss):
    """Half the squared distance of alike pairs, and of different ones half the square of what it lacks.

    Takes two text columns and a label: 1 for alike, 0 for different. After Hadsell et al. 2006,
    "Dimensionality Reduction by Learning an Invariant Mapping".

    Args:
        model: The model.
        distance_metric: Distance of the rows of two matrices of embeddings, of `SiameseDistanceMetric` or any
            other; None for `SiameseDistanceMetric.COSINE_DISTANCE`.
        margin: How far apart a different pair should be.
        size_average: Whether to average over the pairs of a batch rather than add them up.
    """

    def __init__(
        self,
        model: Any,
        distance_metric: Distance | None = None,
        margin: float = 0.5,
        size_average: bool = True,
    ) -> None:
        super().__init__(model, distance_metric, margin)
        self.size_average = size_average

    def value(self, distances: Tensor, labels: Tensor) -> Tensor:
        terms = contrastive_terms(distances, labels, self.margin)
        return terms.mean() if self.size_average else terms.sum()

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        return {**super().get_config_dict(), "size_average": self.size_average}

    @property
    def citation(self) -> str:
        """BibTeX of the paper."""
        return bibtex(
            "inproceedings",
            "hadsell2006dimensionality",
            title="Dimensionality Reduction by Learning an Invariant Mapping",
            author=["Hadsell, Raia", "Chopra, Sumit", "LeCun, Yann"],
            year=2006,
            booktitle="2006 IEEE Computer Society Conference on Computer Vision and Pattern Recognition (CVPR'06)",
            volume=2,
            pages="1735--1742",
            doi="10.1109/CVPR.2006.100",
        )


class OnlineContrastiveLoss(PairDistanceLoss):
    """The contrastive loss over the hard pairs of a batch, added up; see `functional.hard_contrastive_loss`.

    Takes two text columns and a label: 1 for alike, 0 for different. Large batches have harder pairs.

    Args:
        model: The model.
        distance_metric: Distance of the rows of two matrices of embeddings, of `SiameseDistanceMetric` or any
            other; None for `SiameseDistanceMetric.COSINE_DISTANCE`.
        margin: How far apart a different pair should be.
    """

    def value(self, distances: Tensor, labels: Tensor) -> Tensor:
        return hard_contrastive_loss(distances, labels, self.margin)

    def forward(
        self,
        sentence_features: Iterable[Features],
        labels: Tensor | None = None,
        size_average: bool = False,
    ) -> Tensor | dict[str, Tensor]:
        """As in `EmbeddingLoss`; `size_average` is taken for older programs and has never had an effect."""
        return super().forward(sentence_features, labels)
