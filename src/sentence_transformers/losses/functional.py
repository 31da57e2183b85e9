"""The arithmetic of losses, on score tensors.

Pure functions: scores, distances and labels in, a scalar out. Nothing here knows about models, embeddings
or batches of features.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def info_nce(logits: Tensor, positives: Tensor) -> Tensor:
    """Mean over rows of the negative log-probability of each row's own candidate.

    After van den Oord et al. 2018, "Representation Learning with Contrastive Predictive Coding".

    Args:
        logits: Scores of every candidate, (B, N); minus infinity where a candidate is out.
        positives: Index of each row's own candidate, (B,).
    """
    return F.cross_entropy(logits, positives)


def ordered_pairs_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """log(1 + sum of exp(score_i - score_j) over the pairs in which label_i < label_j), as CoSENT has it.

    Args:
        scores: Scaled scores of the pairs of a batch, (B,).
        labels: What orders them, (B,); where two are equal nothing is asked of them.
    """
    differences = scores[:, None] - scores[None, :]  # (B, B)
    out_of_order = labels[:, None] < labels[None, :]
    wrong = differences[out_of_order]
    return torch.logsumexp(torch.cat([wrong.new_zeros(1), wrong]), dim=0)


def contrastive_terms(distances: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Half the squared distance of alike pairs, half the squared lack of distance of different ones.

    After Hadsell et al. 2006, "Dimensionality Reduction by Learning an Invariant Mapping".

    Args:
        distances: Of the two members of each pair, (B,).
        labels: 1 where they are alike, 0 where they differ, (B,); anything between mixes the two.
        margin: How far apart a different pair should be.

    Returns:
        One value for each pair, (B,).
    """
    alike = labels.to(distances.dtype)
    return 0.5 * (alike * distances.square() + (1 - alike) * F.relu(margin - distances).square())


def hard_contrastive_loss(distances: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Sum of squares over the pairs that are hard: alike and far apart, or different and near.

    A pair is hard if a pair of the other kind lies on the wrong side of it. Where there is none of the other
    kind, the mean of its own kind divides hard from easy.

    Args:
        distances: Of the two members of each pair, (B,).
        labels: 1 where they are alike, 0 where they differ, (B,); other pairs are left out.
        margin: How far apart a different pair should be.
    """
    alike, different = distances[labels == 1], distances[labels == 0]
    nearest_different = (different.min() if len(different) else alike.mean()).detach()
    farthest_alike = (alike.max() if len(alike) else different.mean()).detach()
    too_far = alike[alike > nearest_different]
    too_near = different[different < farthest_alike]
    return too_far.square().sum() + F.relu(margin - too_near).square().sum()


def triplet_loss(to_positive: Tensor, to_negative: Tensor, margin: float) -> Tensor:
    """Mean over triplets of max(0, distance to the positive - distance to the negative + margin).

    After Schroff et al. 2015, "FaceNet: A Unified Embedding for Face Recognition and Clustering".

    Args:
        to_positive: Distance of each anchor to its positive, (B,).
        to_negative: And to its negative, (B,).
        margin: How much farther the negative should be.

    Returns:
        A scalar; 0 without any triplet.
    """
    return F.relu(to_positive - to_negative + margin).sum() / max(1, len(to_positive))


def batch_all_triplet_loss(distances: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Mean of the triplet loss over all triplets of a batch in which it is above zero.

    After Hermans et al. 2017, "In Defense of the Triplet Loss for Person Re-Identification".

    Args:
        distances: Of every row to every row, (B, B).
        labels: The class of each row, (B,).
        margin: How much farther than a row of its class a row of another should be.

    Returns:
        A scalar; 0 if no triplet is above zero.
    """
    same = same_class(labels)
    anchors, positives = pairs_within(same)  # (P,) each
    to_positive = distances[anchors, positives].unsqueeze(1)  # (P, 1)
    losses = F.relu(to_positive - distances[anchors] + margin).masked_fill(same[anchors], 0)  # (P, B)
    return losses.sum() / (losses > 0).sum().clamp(min=1)


def hardest_gaps(distances: Tensor, labels: Tensor) -> Tensor:
    """How much farther each row's farthest positive is than its nearest negative.

    After Hermans et al. 2017, "In Defense of the Triplet Loss for Person Re-Identification".

    Args:
        distances: Of every row to every row, (B, B).
        labels: The class of each row, (B,).

    Returns:
        A gap for each row, (B,). A row that is alone in its class is its own positive, at distance 0; without
        any other class the farthest row of all counts as the negative.
    """
    same = same_class(labels)
    positive, negative = without_self(same), ~same
    farthest_positive = distances.masked_fill(~positive, -torch.inf).amax(dim=1)
    nearest_negative = distances.masked_fill(~negative, torch.inf).amin(dim=1)
    zero = distances.new_zeros(())
    return torch.where(positive.any(dim=1), farthest_positive, zero) - torch.where(
        negative.any(dim=1), nearest_negative, distances.amax(dim=1)
    )


def batch_semi_hard_triplet_loss(distances: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Mean of the triplet loss over all pairs of a class, each with a negative that is hard but not too hard.

    That is the nearest one that is farther than the positive; where there is none, the farthest of all. After
    Schroff et al. 2015, "FaceNet: A Unified Embedding for Face Recognition and Clustering".

    Args:
        distances: Of every row to every row, (B, B).
        labels: The class of each row, (B,).
        margin: How much farther than the positive the negative should be.

    Returns:
        A scalar; 0 if no two rows share a class. With a single class the negatives count as at distance 0.
    """
    same = same_class(labels)
    anchors, positives = pairs_within(same)  # (P,) each
    to_positive, to_all = distances[anchors, positives], distances[anchors]  # (P,), (P, B)
    negative = ~same[anchors]  # (P, B)
    farther = negative & (to_all > to_positive.unsqueeze(1))
    nearest_farther = to_all.masked_fill(~farther, torch.inf).amin(dim=1)
    farthest = to_all.masked_fill(~negative, -torch.inf).amax(dim=1)
    to_negative = torch.where(farther.any(dim=1), nearest_farther, farthest)
    to_negative = torch.where(negative.any(dim=1), to_negative, distances.new_zeros(()))
    return triplet_loss(to_positive, to_negative, margin)


def same_class(labels: Tensor) -> Tensor:
    """Which rows share a class, (B, B)."""
    return labels.unsqueeze(0) == labels.unsqueeze(1)


def without_self(same: Tensor) -> Tensor:
    """The same without the pairs of a row and itself, (B, B)."""
    return same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)


def pairs_within(same: Tensor) -> tuple[Tensor, Tensor]:
    """The row numbers of all pairs of two rows of a class, in both orders, (P,) each."""
    anchors, positives = without_self(same).nonzero(as_tuple=True)
    return anchors, positives


def hardest_negative_margins(
    scores: Tensor, positives: Tensor, positive_margin: float, negative_margin: float
) -> Tensor:
    """Mean of what each positive's score lacks, plus what the best negative's has too much.

    After Wieting and Gimpel 2018, "ParaNMT-50M: Pushing the Limits of Paraphrastic Sentence Embeddings with
    Millions of Machine Translations".

    Args:
        scores: Of every candidate, (B, N); those that are not a row's own positive are its negatives.
        positives: Index of each row's own candidate, (B,).
        positive_margin: The score that a positive should reach.
        negative_margin: The score that no negative should exceed.
    """
    own = positives.unsqueeze(1)  # (B, 1)
    to_positive = scores.gather(1, own).squeeze(1)
    to_hardest = scores.scatter(1, own, -torch.inf).amax(dim=1)  # minus infinity with one candidate only
    return (F.relu(positive_margin - to_positive) + F.relu(to_hardest - negative_margin)).mean()


def divergence(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over rows of the Kullback-Leibler divergence of softmax(logits) from the target distribution.

    Args:
        logits: (B, N).
        targets: Probabilities, (B, N).
    """
    return F.kl_div(logits.log_softmax(dim=-1), targets, reduction="batchmean")


def moments_beyond_chance(similarities: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """How far the similarities of different rows are from those of random directions.

    After Zhang et al. 2017, "Learning Spread-out Local Feature Descriptors".

    Args:
        similarities: Of every row with every row, (B, B).
        width: Dimensions D of the vectors. Random directions have the mean 0 and the second moment 1 / D.

    Returns:
        The square of the mean, and what the second moment has above 1 / D; zeros for a single row.
    """
    rows = len(similarities)
    itself = torch.eye(rows, dtype=torch.bool, device=similarities.device)
    others = similarities.masked_fill(itself, 0)
    pairs = max(1, rows * (rows - 1))
    second_moment = others.square().sum() / pairs
    return (others.sum() / pairs).square(), F.relu(second_moment - 1 / width)
