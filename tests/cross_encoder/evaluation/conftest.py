"""A model that scores pairs by the number that the second text begins with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


class Numbers:
    """Class c of n has the score x · (c + 1) - c for the number x; it notes what it was asked."""

    def __init__(self, num_labels: int = 1) -> None:
        self.num_labels = num_labels
        self.calls: list[tuple[list[tuple[str, ...]], dict[str, Any]]] = []

    def predict(self, pairs: list[Any], **options: Any) -> np.ndarray:
        self.calls.append(([tuple(pair) for pair in pairs], options))
        values = np.array([float(second.split()[0]) for _, second in pairs], dtype=np.float32)
        if self.num_labels == 1:
            return values
        return np.stack([values * (c + 1) - c for c in range(self.num_labels)], axis=1)


@pytest.fixture
def numbers():
    """Makes such a model, with a number of labels."""
    return Numbers
