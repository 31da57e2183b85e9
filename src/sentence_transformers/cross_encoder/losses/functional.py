"""The arithmetic of losses over lists of documents, on score matrices.

Every query has a row of scores, one for each of its documents; rows are as long as the longest list, and a mask
says which places hold a document. Pure functions: scores, labels and a mask in, a scalar out. Nothing here
knows about texts, models or how scores are made.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Weigh = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Gains (Q, N), discounts (1, N) and labels (Q, N), in the order of the scores -> weights of pairs, (Q, N, N)."""


def list_net_loss(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Cross entropy of the two distributions of which document is best: softmax of the scores, of the labels.

    Cao et al. 2007, "Learning to Rank: From Pairwise Approach to Listwise Approach".

    Args:
        scores: (Q, N).
        labels: Relevance of each document, (Q, N).
        mask: True where there is a document, (Q, N).

    Returns:
        The mean over the queries; one without documents counts as 0.
    """
    wanted = masked_softmax(labels, mask)  # (Q, N)
    given = without(scores, mask).log_softmax(dim=1).masked_fill(~mask, 0)  # (Q, N)
    return -(wanted * given).sum(dim=1).mean()


def list_mle_loss(scores: Tensor, mask: Tensor, weights: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Negative log-likelihood of drawing the documents in this order, under the Plackett-Luce model of the scores.

    Xia et al. 2008, "Listwise Approach to Learning to Rank: Theory and Algorithm"; with weights of places Lan et
    al. 2014, "Position-Aware ListMLE: A Sequential Learning Process for Ranking".

    Args:
        scores: Of the documents in their true order, best first, (Q, N).
        mask: True where there is a document, (Q, N); those that are missing stand at the end.
        weights: Makes of the mask the weight of each place, (Q, N); scaled to a sum of 1 for each query. None
            adds up all places.

    Returns:
        The mean over the queries; one without documents counts as 0.
    """
    kept = without(scores, mask)
    # The probability of each document among those that are left.
    left = kept.flip(1).logcumsumexp(dim=1).flip(1)  # (Q, N)
    surprise = (left - kept).masked_fill(~mask, 0)  # (Q, N)
    if weights is not None:
        shares = weights(mask).to(surprise).masked_fill(~mask, 0)  # (Q, N)
        surprise = surprise * shares / shares.sum(dim=1, keepdim=True).clamp(min=1e-10)
    return surprise.sum(dim=1).mean()


def position_weights(mask: Tensor) -> Tensor:
    """2**(n - i) - 1 for place i of n, counted from 1, (Q, N); Lan et al. 2014, as of `list_mle_loss`."""
    places = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    after = (mask.sum(dim=1, keepdim=True) - places).clamp(min=0)  # (Q, N)
    return torch.exp2(after.double()) - 1


def lambda_loss(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor,
    weigh: Weigh,
    *,
    k: int | None = None,
    sigma: float = 1.0,
    eps: float = 1e-10,
    base: float = 2.0,
    every_pair: bool = False,
) -> Tensor:
    """Mean over pairs of documents of -weight · log(probability that the scores order them rightly).

    Wang et al. 2018, "The LambdaLoss Framework for Ranking Metric Optimization". The probability is
    1 / (1 + exp(-sigma (score_i - score_j))); pairs are those of a query in which label_i > label_j.

    Args:
        scores: (Q, N).
        labels: Relevance of each document, (Q, N); gains are 2**label - 1, below 0 they are 0.
        mask: True where there is a document, (Q, N).
        weigh: Weights of the pairs, given gains as shares of the best possible NDCG, discounts log2(place + 1), and
            labels, all by falling score.
        k: One of a pair must be among the first k by score, and gains are shares of the best NDCG at k; None for
            all.
        sigma: How steeply the probability rises with the difference of the scores.
        eps: The best possible DCG counts as this at least, so that no gain is divided by zero.
        base: Of the logarithm.
        every_pair: Whether the pairs of a query are all there are, in any order, and of a document and itself.

    Returns:
        A scalar; 0 if there is no pair.
    """
    order = without(scores, mask).argsort(dim=1, descending=True, stable=True)
    scores, labels, mask = (each.gather(1, order) for each in (scores, labels, mask))
    scores = scores.masked_fill(~mask, 0)
    relevance = labels.masked_fill(~mask, 0).clamp(min=0)  # (Q, N)
    places = torch.arange(scores.shape[1], device=scores.device)
    discounts = torch.log2(places[None].to(scores) + 2)  # (1, N)
    ideal = torch.exp2(relevance.sort(dim=1, descending=True).values) - 1
    best = (ideal / discounts)[:, :k].sum(dim=1, keepdim=True).clamp(min=eps)  # (Q, 1)
    weights = weigh((torch.exp2(relevance) - 1) / best, discounts, relevance)

    likely = F.logsigmoid(sigma * (scores[:, :, None] - scores[:, None, :])) / math.log(base)  # (Q, N, N)
    counts = mask[:, :, None] & mask[:, None, :]
    if not every_pair:
        counts = counts & (labels[:, :, None] > labels[:, None, :])
    if k is not None:
        is_high = places < k
        counts = counts & (is_high[:, None] | is_high[None, :])
    return (-likely * weights).masked_fill(~counts, 0).sum() / counts.sum().clamp(min=1)


def adr_mse_loss(scores: Tensor, labels: Tensor, mask: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Mean over documents of the squared error of their rank by score, discounted by their true rank.

    Schlatt et al. 2025, "Rank-DistiLLM: Closing the Effectiveness Gap Between Cross-Encoders and LLMs for Passage
    Re-Ranking". The rank by score is made smooth after Qin et al. 2010, "A general approximation framework for
    direct optimization of information retrieval measures": 1 + the sum over the other documents of
    1 / (1 + exp(alpha (score_i - score_j))). The error of a document of true rank r counts 1 / log2(r + 1).

    Args:
        scores: (Q, N).
        labels: Relevance of each document, (Q, N); equal ones share their mean rank.
        mask: True where there is a document, (Q, N).
        alpha: How steeply ranks change with the scores.

    Returns:
        A scalar; 0 without any document.
    """
    others = mask[:, None, :] & ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    behind = torch.sigmoid(alpha * (scores[:, None, :] - scores[:, :, None]))  # (Q, N, N): j before i
    smooth = 1 + behind.masked_fill(~others, 0).sum(dim=2)  # (Q, N)
    before = (labels[:, None, :] > labels[:, :, None]).to(scores)
    equal = (labels[:, None, :] == labels[:, :, None]).to(scores)
    true = 1 + (before + equal / 2).masked_fill(~others, 0).sum(dim=2)  # (Q, N)
    errors = (true - smooth).square() / torch.log2(true + 1)
    return errors.masked_fill(~mask, 0).sum() / mask.sum().clamp(min=1)


def without(values: Tensor, mask: Tensor) -> Tensor:
    """The values, and the lowest number there is where no document stands; a softmax gives those places nothing.

    Minus infinity would make gradients of a row without documents nan.
    """
    return values.masked_fill(~mask, torch.finfo(values.dtype).min)


def masked_softmax(values: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the documents of each query, (Q, N); 0 where there is none."""
    return without(values, mask).softmax(dim=1).masked_fill(~mask, 0)
