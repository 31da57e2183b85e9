"""What a cross-encoder's raw scores become: activated, and in the container that was asked for.

Pure functions over tensors; nothing here knows models.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

Activation = Callable[[Tensor], Tensor]


def raw_scores(outputs: dict[str, Any]) -> Tensor:
    """The scores of a batch's rows before any activation, (B, labels) float32."""
    if "scores" not in outputs:
        raise KeyError(
            f"The model gave no 'scores', only {sorted(outputs)}. A cross-encoder is a transformer with a head for "
            "sequence classification, or one whose last module gives scores."
        )
    # In half precision a sigmoid rounds close scores to ties, which reorders a ranking.
    return outputs["scores"].float()


def activated(
    scores: Tensor, activation: Activation, *, apply_softmax: bool, num_labels: int, apart: bool = False
) -> Tensor:
    """Apply the activation, and drop the dimension of a single label.

    Args:
        scores: Raw scores, (n, labels).
        activation: Called with all of them, or each pair's.
        apply_softmax: Turn several scores of a pair into probabilities, after the activation.
        num_labels: Scores of each pair.
        apart: Compute each pair's by themselves: the last bit of a sigmoid can depend on its place among others.

    Returns:
        (n,) for one label, else (n, labels).
    """
    if apart and len(scores) > 1:
        alone = partial(activated, activation=activation, apply_softmax=apply_softmax, num_labels=num_labels)
        return torch.cat([alone(row.clone()) for row in scores.split(1)])
    with torch.no_grad():
        scores = activation(scores)
        if apply_softmax and scores.ndim > 1 and scores.shape[1] > 1:
            scores = scores.softmax(dim=1)
    return scores[:, 0] if num_labels == 1 and scores.ndim > 1 else scores


def contained(scores: Tensor, *, as_numpy: bool, as_tensor: bool, single: bool) -> Any:
    """Scores (n, …) in the container asked for: a tensor, an array, or else a list of tensors."""
    result: Any
    if as_tensor:
        result = scores
    elif as_numpy:
        result = scores.float().cpu().numpy()
    else:
        result = list(scores)
    return result[0] if single else result


def without_scores(*, as_numpy: bool, as_tensor: bool) -> Any:
    """What scoring no pair gives."""
    if as_tensor:
        return torch.Tensor()
    return np.asarray([]) if as_numpy else []


def ranking(scores: np.ndarray, top_k: int | None) -> list[int]:
    """Numbers of the documents, the highest score first; of equal scores the earlier document.

    Args:
        scores: One for each document, (N,).
        top_k: How many to keep; None for all.
    """
    return np.argsort(-scores, kind="stable")[:top_k].tolist()
