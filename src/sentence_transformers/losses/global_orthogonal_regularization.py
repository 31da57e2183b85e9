"""Spread embeddings over the whole space, beside another objective."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from sentence_transformers.losses.base import EmbeddingLoss, LossPart
from sentence_transformers.losses.functional import moments_beyond_chance
from sentence_transformers.losses.papers import bibtex
from sentence_transformers.losses.scores import score
from sentence_transformers.storage.importing import similarity_fct_name
from sentence_transformers.tensors.embeddings import Embeddings
from sentence_transformers.tensors.similarity import cos_sim


class GlobalOrthogonalRegularizationLoss(EmbeddingLoss):
    """How far the similarities of different rows are from those of random directions.

    After Zhang et al. 2017, "Learning Spread-out Local Feature Descriptors"
    (https://arxiv.org/abs/1708.06320). The similarities of two random directions in D dimensions have the
    mean 0 and the second moment 1/D; punished are the square of the mean, and what the second moment has
    above 1/D. Computed for each column by itself, between its rows; a single row gives 0.

    Any number of text columns, no label. `forward` returns the parts `gor_mean` and `gor_second_moment`,
    those with a weight, to be added to each other and to the parts of another loss.

    Args:
        model: The model.
        similarity_fct: Scores every row of one column with every row of another.
        mean_weight: Weight of the first part; None or 0 leaves it out.
        second_moment_weight: Weight of the second part; None or 0 leaves it out.
        aggregation: "mean" or "sum" of what the columns give.

    Raises:
        ValueError: If both parts are left out, or if `aggregation` is unknown.
    """

    returns_parts: ClassVar[bool] = True

    def __init__(
        self,
        model: Any,
        similarity_fct: Callable[[Any, Any], Tensor] = cos_sim,
        mean_weight: float | None = 1.0,
        second_moment_weight: float | None = 1.0,
        aggregation: str = "mean",
    ) -> None:
        super().__init__(model)
        if not mean_weight and not second_moment_weight:
            raise ValueError(
                f"mean_weight={mean_weight} and second_moment_weight={second_moment_weight} leave nothing to "
                "compute. Give one of them a weight."
            )
        if aggregation not in ("mean", "sum"):
            raise ValueError(f"aggregation={aggregation!r} is unknown. Pass 'mean' or 'sum'.")
        self.similarity_fct = similarity_fct
        self.mean_weight = mean_weight
        self.second_moment_weight = second_moment_weight
        self.aggregation = aggregation

    def parts(
        self,
        embeddings: Sequence[Embeddings],
        labels: Tensor | None,
        *,
        rows: slice | None = None,
        context: Any = None,
    ) -> Iterator[LossPart]:
        moments = [
            moments_beyond_chance(score(self.similarity_fct, column, column), column.width)
            for column in embeddings
        ]
        weights = {"gor_mean": self.mean_weight, "gor_second_moment": self.second_moment_weight}
        for (name, weight), values in zip(weights.items(), zip(*moments)):
            if weight:
                stacked = torch.stack(values)
                yield LossPart(
                    name, weight * (stacked.sum() if self.aggregation == "sum" else stacked.mean())
                )

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        return {
            "similarity_fct": similarity_fct_name(self.similarity_fct),
            "mean_weight": self.mean_weight,
            "second_moment_weight": self.second_moment_weight,
            "aggregation": self.aggregation,
        }

    @property
    def citation(self) -> str:
        """BibTeX of the paper."""
        return bibtex(
            "misc",
            "zhang2017learningspreadoutlocalfeature",
            title="Learning Spread-out Local Feature Descriptors",
            author=["Xu Zhang", "Felix X. Yu", "Sanjiv Kumar", "Shih-Fu Chang"],
            year=2017,
            arxiv="1708.06320 cs.CV",
            url="https://arxiv.org/abs/1708.06320",
        )
