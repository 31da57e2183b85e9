"""A projection that keeps the cosines between texts, rather than the variance of their vectors.

Principal components keep what differs most among all texts. How near two related texts are is a small part of that,
and it is what similarity is judged by. So the components are only where this starts: the projection is then moved,
step by step, until related texts have the cosines in few dimensions that they have in all. Needs no labels, only
vectors. Nothing here knows a model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

PAIRS_AT_ONCE = 512
LEARNING_RATE = 2e-3
"""Of Adam, for directions of length one."""


def keep_cosines(
    directions: np.ndarray,
    vectors: np.ndarray,
    pairs: Sequence[tuple[int, int]],
    *,
    epochs: int,
    seed: int,
) -> np.ndarray:
    """Move the directions of a projection so that pairs of texts keep their cosines.

    The loss is the mean squared difference between cosines before and behind the projection: of the pairs, and of
    all first texts of a batch with all second ones.

    Args:
        directions: The projection to start from, (W, D).
        vectors: Embeddings of texts, (N, D).
        pairs: Numbers of two texts each that have something to do with each other.
        epochs: Passes over the pairs.
        seed: Of the order of the pairs.

    Returns:
        The projection, (W, D).
    """
    chance = np.random.default_rng(seed)
    normalized = F.normalize(torch.from_numpy(np.asarray(vectors, dtype=np.float32)))
    places = torch.as_tensor(pairs)  # (P, 2)
    moved = torch.tensor(directions, dtype=torch.float32, requires_grad=True)
    with torch.inference_mode(mode=False), torch.enable_grad():
        optimizer = torch.optim.Adam([moved], lr=LEARNING_RATE)
        for _ in range(epochs):
            for batch in torch.from_numpy(chance.permutation(len(places))).split(PAIRS_AT_ONCE):
                first, second = (normalized[places[batch, side]] for side in (0, 1))  # (B, D)
                wanted = first @ second.T
                found = F.normalize(first @ moved.T) @ F.normalize(second @ moved.T).T
                loss = F.mse_loss(found.diagonal(), wanted.diagonal()) + F.mse_loss(found, wanted)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return moved.detach().numpy().astype(np.float64)
