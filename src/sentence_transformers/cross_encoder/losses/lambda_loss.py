"""Pairs of documents in their right order, weighted by what a metric of the ranking gains by it."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from sentence_transformers.cross_encoder.losses.base import AS_IT_IS, Activation, ListwiseLoss
from sentence_transformers.cross_encoder.losses.functional import lambda_loss
from sentence_transformers.losses.papers import bibtex, proceedings
from sentence_transformers.storage.importing import fullname

BASES = {"natural": math.e, "binary": 2.0}
"""Bases of the logarithm by name."""


class BaseWeightingScheme(nn.Module):
    """How much a pair of documents counts. Schemes are called with the arguments of `forward`."""

    weighs_every_pair: ClassVar[bool] = False
    """Whether all pairs of a query count, and not those alone in which the first has the higher label."""

    def forward(self, gain: Tensor, discount: Tensor, true_sorted: Tensor) -> Tensor:
        """Weigh pairs; documents are in the order of their scores, best first.

        Args:
            gain: 2**label - 1, as shares of the best possible DCG, (Q, N).
            discount: log2(place + 1), (1, N).
            true_sorted: The labels, (Q, N), at least 0.

        Returns:
            Weights of each pair, (Q, N, N), or what broadcasts to that.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define `forward`.")


class NoWeightingScheme(BaseWeightingScheme):
    """All pairs count the same, as in RankNet (Burges et al. 2005)."""

    def forward(self, gain: Tensor, discount: Tensor, true_sorted: Tensor) -> Tensor:
        """1, for every pair; arguments as of `BaseWeightingScheme`."""
        return gain.new_ones(())


class NDCGLoss1Scheme(BaseWeightingScheme):
    """A document's gain over its discount, for all pairs that it is the first of. Wang et al. 2018.

    A bound of NDCG, though a loose one.
    """

    weighs_every_pair: ClassVar[bool] = True

    def forward(self, gain: Tensor, discount: Tensor, true_sorted: Tensor) -> Tensor:
        """(Q, N, 1); arguments as of `BaseWeightingScheme`."""
        return (gain / discount)[:, :, None]


class NDCGLoss2Scheme(BaseWeightingScheme):
    """A bound of NDCG that is tighter than `NDCGLoss1Scheme`. Wang et al. 2018.

    The difference of two documents' gains, times what a place |i - j| has over the next one: 1 / log2(|i - j| + 1)
    - 1 / log2(|i - j| + 2).
    """

    def forward(self, gain: Tensor, discount: Tensor, true_sorted: Tensor) -> Tensor:
        """(Q, N, N); arguments as of `BaseWeightingScheme`."""
        return gaps(gain) * discounts_of_distances(discount)


class LambdaRankScheme(BaseWeightingScheme):
    """What exchanging two documents changes in NDCG. Burges et al. 2006, "Learning to Rank with Nonsmooth Cost Functions"."""

    def forward(self, gain: Tensor, discount: Tensor, true_sorted: Tensor) -> Tensor:
        """(Q, N, N); arguments as of `BaseWeightingScheme`."""
        return gaps(gain) * gaps(1 / discount)


class NDCGLoss2PPScheme(BaseWeightingScheme):
    """Both `LambdaRankScheme` and, mu times, `NDCGLoss2Scheme`: NDCG-Loss2++ of Wang et al. 2018.

    Args:
        mu: How much the second counts.
    """

    def __init__(self, mu: float = 10.0) -> None:
        super().__init__()
        self.mu = mu
        self.ndcg_loss2 = NDCGLoss2Scheme()
        self.lambda_rank = LambdaRankScheme()

    def forward(self, gain: Tensor, discount: Tensor, true_sorted: Tensor) -> Tensor:
        """(Q, N, N); arguments as of `BaseWeightingScheme`."""
        given = (gain, discount, true_sorted)
        return self.mu * self.ndcg_loss2(*given) + self.lambda_rank(*given)


NDCG_LOSS_2PP = NDCGLoss2PPScheme()


class LambdaLoss(ListwiseLoss):
    """Cross entropy of the right order of two documents, weighted by what a metric gains by it; the mean over pairs.

    After Wang et al. 2018, "The LambdaLoss Framework for Ranking Metric Optimization"
    (https://research.google/pubs/the-lambdaloss-framework-for-ranking-metric-optimization/). Columns: queries, and
    lists of documents. Label: a list of numbers for each query, the relevance of each document; lists may differ in
    length.

    Args:
        model: The model, with one score.
        weighting_scheme: Weights of the pairs; None weighs all the same.
        k: One of a pair must be among the first k by score, and gains are shares of the best NDCG at k; None for
            all.
        sigma: How steeply the probability of an order rises with the difference of the scores.
        eps: The best possible DCG of a query counts as this at least.
        reduction_log: "binary" for logarithms to the base of 2, "natural" for natural ones.
        activation_fn: Applied to the scores; None for nothing.
        mini_batch_size: Pairs that are scored at once while gradients are cached, which bounds the memory needed and
            computes each score twice; None, or a number below 1, for all pairs of a batch.

    Raises:
        ValueError: If the model gives several scores, k is below 1, or there is no logarithm of that name.
    """

    def __init__(
        self,
        model: Any,
        weighting_scheme: BaseWeightingScheme | None = NDCG_LOSS_2PP,
        k: int | None = None,
        sigma: float = 1.0,
        eps: float = 1e-10,
        reduction_log: Literal["natural", "binary"] = "binary",
        activation_fn: Activation | None = AS_IT_IS,
        mini_batch_size: int | None = None,
    ) -> None:
        super().__init__(model, activation_fn, mini_batch_size)
        if k is not None and k < 1:
            raise ValueError(f"k={k} leaves no pair. Pass 1 or more, or None for all.")
        if reduction_log not in BASES:
            raise ValueError(f"reduction_log={reduction_log!r} must be one of {', '.join(map(repr, BASES))}.")
        self.weighting_scheme = NoWeightingScheme() if weighting_scheme is None else weighting_scheme
        self.k = k
        self.sigma = sigma
        self.eps = eps
        self.reduction_log = reduction_log

    def of_lists(self, scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        return lambda_loss(
            scores,
            labels,
            mask,
            self.weighting_scheme,
            k=self.k,
            sigma=self.sigma,
            eps=self.eps,
            base=BASES[self.reduction_log],
            every_pair=getattr(self.weighting_scheme, "weighs_every_pair", False),
        )

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        return {
            "weighting_scheme": fullname(self.weighting_scheme),
            "k": self.k,
            "sigma": self.sigma,
            "eps": self.eps,
            "reduction_log": self.reduction_log,
            **super().get_config_dict(),
        }

    @property
    def citation(self) -> str:
        """BibTeX of the paper."""
        return bibtex(
            "inproceedings",
            "wang2018lambdaloss",
            title="The LambdaLoss Framework for Ranking Metric Optimization",
            author=["Xuanhui Wang", "Cheng Li", "Nadav Golbandi", "Michael Bendersky", "Marc Najork"],
            year=2018,
            booktitle=proceedings(
                "ACM International Conference on Information and Knowledge Management", "27th"
            ),
            pages="1313--1322",
        )


class RankNetLoss(LambdaLoss):
    """Cross entropy of the right order of two documents, all pairs weighted the same.

    After Burges et al. 2005, "Learning to Rank using Gradient Descent". Columns and labels as of `LambdaLoss`.

    Args:
        model: The model, with one score.
        k: As of `LambdaLoss`, like all others.
        sigma: As there.
        eps: As there.
        reduction_log: As there.
        activation_fn: As there.
        mini_batch_size: As there.

    Raises:
        ValueError: As there.
    """

    def __init__(
        self,
        model: Any,
        k: int | None = None,
        sigma: float = 1.0,
        eps: float = 1e-10,
        reduction_log: Literal["natural", "binary"] = "binary",
        activation_fn: Activation | None = AS_IT_IS,
        mini_batch_size: int | None = None,
    ) -> None:
        super().__init__(model, None, k, sigma, eps, reduction_log, activation_fn, mini_batch_size)

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        return {key: value for key, value in super().get_config_dict().items() if key != "weighting_scheme"}

    @property
    def citation(self) -> str:
        """BibTeX of the paper."""
        return bibtex(
            "inproceedings",
            "burges2005learning",
            title="Learning to Rank using Gradient Descent",
            author=[
                "Chris Burges",
                "Tal Shaked",
                "Erin Renshaw",
                "Ari Lazier",
                "Matt Deeds",
                "Nicole Hamilton",
                "Greg Hullender",
            ],
            year=2005,
            booktitle=proceedings("International Conference on Machine Learning", "22nd"),
            pages="89--96",
        )


def gaps(values: Tensor) -> Tensor:
    """|value_i - value_j| of each pair, (…, N, N)."""
    return (values[:, :, None] - values[:, None, :]).abs()


def discounts_of_distances(discount: Tensor) -> Tensor:
    """What place |i - j| has over the place after it, (N, N); 0 for a document and itself.

    Args:
        discount: log2(place + 1), (1, N).
    """
    places = torch.arange(discount.shape[1], device=discount.device)
    distances = (places[:, None] - places[None, :]).abs()  # (N, N)
    shares = 1 / torch.log2(distances.to(discount) + 1)
    after = 1 / torch.log2(distances.to(discount) + 2)
    return (shares - after).masked_fill(distances == 0, 0)
