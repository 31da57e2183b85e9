"""An anchor lies nearer to its positive than to its negative, by a margin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from sentence_transformers.losses.functional import triplet_loss
from sentence_transformers.losses.scores import score
from sentence_transformers.tensors.embeddings import Embeddings

TRIPLET_PAPER = """
@misc{hermans2017defense,
    title={In Defense of the Triplet Loss for Person Re-Identification},
    author={Alexander Hermans and Lucas Beyer and Bastian Leibe},
    year={2017},
    eprint={1703.07737},
    archivePrefix={arXiv},
    primaryClass={cs.CV}
}
"""


class TripletDistanceMetric(Enum):
    """Distances of the rows of two matrices, for `TripletLoss`; each is a function of both."""

    COSINE = staticmethod(cosine_distance)
    EUCLIDEAN = staticmethod(euclidean_distance)
    MANHATTAN = staticmethod(manhattan_distance)


class TripletLoss(EmbeddingLoss):
    """Mean over rows of max(0, distance to the positive - distance to the negative + margin).

    Takes three text columns: anchor, positive, negative. After Schroff et al. 2015, "FaceNet: A Unified
    Embedding for Face Recognition and Clustering", and Hermans et al. 2017, "In Defense of the Triplet Loss for
    Person Re-Identification".

    Args:
        model: The model.
        distance_metric: Distance of the rows of two matrices of embeddings, of `TripletDistanceMetric` or any
            other; None for `TripletDistanceMetric.EUCLIDEAN`.
        triplet_margin: How much farther the negative should be. Cosine distances are at most 2: choose it
            smaller with them.
    """

    min_columns: ClassVar[int] = 3
    max_columns: ClassVar[int | None] = 3

    def __init__(
        self, model: Any, distance_metric: Distance | None = None, triplet_margin: float = 5
    ) -> None:
        super().__init__(model)
        self.distance_metric = distance_metric or euclidean_distance
        self.triplet_margin = triplet_margin

    def parts(
        self,
        embeddings: Sequence[Embeddings],
        labels: Tensor | None,
        *,
        rows: slice | None = None,
        context: Any = None,
    ) -> Iterator[LossPart]:
        anchors, positives, negatives = embeddings
        to_positive = score(self.distance_metric, anchors, positives)
        to_negative = score(self.distance_metric, anchors, negatives)
        yield LossPart("loss", triplet_loss(to_positive, to_negative, self.triplet_margin))

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        return {
            "distance_metric": distance_name(self.distance_metric, TripletDistanceMetric),
            "triplet_margin": self.triplet_margin,
        }

    @property
    def citation(self) -> str:
        """BibTeX of the paper."""
        return TRIPLET_PAPER
