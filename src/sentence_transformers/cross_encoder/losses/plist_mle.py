"""The likelihood of the true order of a list, with or without weights of its places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sentence_transformers.cross_encoder.losses.base import AS_IT_IS, Activation, ListwiseLoss
from sentence_transformers.cross_encoder.losses.functional import list_mle_loss, position_weights
from sentence_transformers.losses.papers import bibtex, proceedings
from sentence_transformers.storage.importing import fullname


class PListMLELambdaWeight(nn.Module):
    """Weights of the places in a list, larger at the top.

    Args:
        rank_discount_fn: Makes the weights, (Q, N), of the mask, (Q, N), that is True where there is a document; the
            places are `mask.cumsum(1)`. None for 2**(n - i) - 1 at place i of n.
    """

    def __init__(self, rank_discount_fn: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.rank_discount_fn = rank_discount_fn

    def forward(self, mask: Tensor) -> Tensor:
        """Weigh places.

        Args:
            mask: True where there is a document, (Q, N).

        Returns:
            Weights of any scale, (Q, N).
        """
        return position_weights(mask) if self.rank_discount_fn is None else self.rank_discount_fn(mask)


DEFAULT_WEIGHT = PListMLELambdaWeight()


class PListMLELoss(ListwiseLoss):
    """Negative log-likelihood of the true order of a query's documents, where the top counts more.

    Documents are drawn one after another, each with its softmax among those that are left (the Plackett-Luce model
    of the scores); the surprise at each place is weighted, with weights that add up to 1. The mean over queries.
    After Lan et al. 2014, "Position-Aware ListMLE: A Sequential Learning Process for Ranking". Columns: queries, and
    lists of documents. Label: a list of numbers for each query, one for each document.

    Args:
        model: The model, with one score.
        lambda_weight: Weights of the places; None adds all up unweighted, as `ListMLELoss`.
        activation_fn: Applied to the scores; None for nothing.
        mini_batch_size: Pairs that are scored at once while gradients are cached, which bounds the memory needed and
            computes each score twice; None, or a number below 1, for all pairs of a batch.
        respect_input_order: Whether documents stand in their true order already, best first, so that labels do
            not matter; otherwise they are ordered by label, equal ones as they stand.

    Raises:
        ValueError: If the model gives several scores.
    """

    def __init__(
        self,
        model: Any,
        lambda_weight: PListMLELambdaWeight | None = DEFAULT_WEIGHT,
        activation_fn: Activation | None = AS_IT_IS,
        mini_batch_size: int | None = None,
        respect_input_order: bool = True,
    ) -> None:
        super().__init__(model, activation_fn, mini_batch_size)
        self.lambda_weight = lambda_weight
        self.respect_input_order = respect_input_order

    def of_lists(self, scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        if not self.respect_input_order:
            order = labels.masked_fill(~mask, -torch.inf).argsort(dim=1, descending=True, stable=True)
            scores, mask = scores.gather(1, order), mask.gather(1, order)
        return list_mle_loss(scores, mask, self.lambda_weight)

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        weight = None if self.lambda_weight is None else fullname(self.lambda_weight)
        return {
            "lambda_weight": weight,
            **super().get_config_dict(),
            "respect_input_order": self.respect_input_order,
        }

    @property
    def citation(self) -> str:
        """BibTeX of the paper."""
        return bibtex(
            "inproceedings",
            "lan2014position",
            title="Position-Aware ListMLE: A Sequential Learning Process for Ranking",
            author=["Yanyan Lan", "Yadong Zhu", "Jiafeng Guo", "Shuzi Niu", "Xueqi Cheng"],
            year=2014,
            booktitle="UAI",
            volume=14,
            pages="449--458",
        )


class ListMLELoss(PListMLELoss):
    """`PListMLELoss` in which all places count the same.

    After Xia et al. 2008, "Listwise Approach to Learning to Rank: Theory and Algorithm".

    Args:
        model: The model, with one score.
        activation_fn: As of `PListMLELoss`.
        mini_batch_size: As there.
        respect_input_order: As there.

    Raises:
        ValueError: If the model gives several scores.
    """

    def __init__(
        self,
        model: Any,
        activation_fn: Activation | None = AS_IT_IS,
        mini_batch_size: int | None = None,
        respect_input_order: bool = True,
    ) -> None:
        super().__init__(model, None, activation_fn, mini_batch_size, respect_input_order)

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        return {key: value for key, value in super().get_config_dict().items() if key != "lambda_weight"}

    @property
    def citation(self) -> str:
        """BibTeX of the paper."""
        return bibtex(
            "inproceedings",
            "xia2008listwise",
            title="Listwise Approach to Learning to Rank: Theory and Algorithm",
            author=["Fen Xia", "Tie-Yan Liu", "Jue Wang", "Wensheng Zhang", "Hang Li"],
            year=2008,
            booktitle=proceedings("International Conference on Machine Learning", "25th"),
            pages="1192--1199",
            doi="10.1145/1390156.1390306",
        )
