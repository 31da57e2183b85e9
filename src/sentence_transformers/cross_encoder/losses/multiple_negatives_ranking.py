"""Rank each query's own document above other queries' documents, of which some are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sentence_transformers.cross_encoder.losses.base import Activation, ScoreLoss
from sentence_transformers.losses.cached import CachedLossMixin
from sentence_transformers.losses.functional import info_nce

SIGMOID = nn.Sigmoid()


class MultipleNegativesRankingLoss(ScoreLoss):
    """Cross entropy of picking each query's own document out of its hard negatives and documents of other rows.

    The mean over queries of -log(exp(scale a(s_own)) / sum over the candidates of exp(scale a(s))), where a is
    the activation. After van den Oord et al. 2018, "Representation Learning with Contrastive Predictive Coding"
    (https://arxiv.org/abs/1807.03748).

    Takes two text columns or more and no label: query, document, and hard negatives. Every candidate is a pair of
    its own for the model, so that only some documents of other rows are drawn, without replacement and anew
    in each call, from torch's random numbers. A batch should hold no text twice.

    Args:
        model: The model, with one score.
        num_negatives: How many documents of other rows each query gets, beside its own hard negatives; all there
            are if that is fewer, or with None.
        scale: What scores are multiplied with, the inverse of the temperature.
        activation_fn: Applied to the scores; None for nothing.

    Raises:
        ValueError: If the model gives several scores, or `num_negatives` is below 0.
    """

    def __init__(
        self,
        model: Any,
        num_negatives: int | None = 4,
        scale: float = 10.0,
        activation_fn: Activation | None = SIGMOID,
    ) -> None:
        super().__init__(model, activation_fn)
        if num_negatives is not None and num_negatives < 0:
            raise ValueError(f"num_negatives={num_negatives} draws nothing. Pass 0 or more, or None for all.")
        self.num_negatives = num_negatives
        self.scale = scale

    def check_columns(self, columns: int) -> None:
        super().check_columns(columns)
        if self.num_negatives == 0 and columns < 3:
            raise ValueError(
                "With num_negatives=0 and no column of hard negatives there is nothing to rank below the documents. "
                "Pass 1 or more, or give a third column."
            )

    def documents(self, columns: Sequence[Sequence[Any]]) -> list[list[Any]]:
        documents = [text for column in columns[1:] for text in column]
        drawn = rows_drawn(len(columns[0]), len(columns) - 1, self.num_negatives)  # (B, n)
        own = super().documents(columns)
        return [[*texts, *(documents[row] for row in rows)] for texts, rows in zip(own, drawn.tolist())]

    def value(self, scores: Tensor, labels: Any, counts: list[int]) -> Tensor:
        logits = scores.reshape(len(counts), -1) * self.scale  # (B, N), the own document first
        return info_nce(logits, torch.zeros(len(counts), dtype=torch.long, device=scores.device))

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        caching = {"mini_batch_size": self.mini_batch_size} if self.is_cached else {}
        settings = {"scale": self.scale, "num_negatives": self.num_negatives}
        return {**settings, **super().get_config_dict(), **caching}


class CachedMultipleNegativesRankingLoss(CachedLossMixin, MultipleNegativesRankingLoss):
    """`MultipleNegativesRankingLoss` with cached gradients: any number of pairs in the memory of `mini_batch_size`.

    Value and gradients are the same; pairs are scored twice. Gao et al. 2021, "Scaling Deep Contrastive Learning
    Batch Size under Memory Limited Setup" (https://arxiv.org/abs/2101.06983); see `losses/cached.py`.

    Args:
        model: As of `MultipleNegativesRankingLoss`, like all that are not named here.
        num_negatives: As there.
        scale: As there.
        activation_fn: As there.
        mini_batch_size: Pairs that are scored at once.
        show_progress_bar: Whether to show how far scoring is.
    """

    def __init__(
        self,
        model: Any,
        num_negatives: int | None = 4,
        scale: float = 10.0,
        activation_fn: Activation | None = SIGMOID,
        mini_batch_size: int = 32,
        show_progress_bar: bool = False,
    ) -> None:
        super().__init__(model, num_negatives, scale, activation_fn)
        self.cache_gradients(mini_batch_size, None, show_progress_bar)


def rows_drawn(rows: int, columns: int, count: int | None) -> Tensor:
    """Draw documents of other rows for each row.

    Args:
        rows: How many rows B there are.
        columns: Columns of documents; document r of column c has the number c · B + r.
        count: Documents for each row, at most all; None for all.

    Returns:
        Their numbers, (B, count).
    """
    is_other = ~torch.eye(rows, dtype=torch.bool).repeat(1, columns)  # (B, columns · B)
    available = (rows - 1) * columns
    if count is None or count >= available:
        return is_other.nonzero()[:, 1].reshape(rows, available)
    if count == 0:
        return torch.empty(rows, 0, dtype=torch.long)
    return is_other.float().multinomial(count)
