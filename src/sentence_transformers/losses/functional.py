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
