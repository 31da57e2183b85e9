"""Losses that hold for shortened embeddings too."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from sentence_transformers.losses.base import LossPart, LossWrapper, added_up, total
from sentence_transformers.losses.features import Features
from sentence_transformers.losses.papers import bibtex
from sentence_transformers.tensors.embeddings import Embeddings

logger = logging.getLogger(__name__)


class MatryoshkaLoss(LossWrapper):
    """Applies a loss to embeddings cut to several widths, so that they can be shortened after training.

    After Kusupati et al. 2022, "Matryoshka Representation Learning" (https://arxiv.org/abs/2205.13147). The
    loss is the sum over widths of weight × inner loss. Vectors are scaled to length 1 after they are cut, at
    the full width too: where the inner loss compares them by dot products or distances, it sees unit vectors.

    Args:
        model: The model.
        loss: The inner loss, of any kind, cached or not.
        matryoshka_dims: The widths; none may exceed that of the model. It should be one of them, for
            otherwise embeddings that are not shortened are not trained.
        matryoshka_weights: Weight of each width; None for 1 each.
        n_dims_per_step: Compute only so many widths in each step, chosen at random; -1 for all.

    Raises:
        ValueError: If a width is not one the model's embeddings can be cut to, or the weights do not match.
    """

    def __init__(
        self,
        model: Any,
        loss: nn.Module,
        matryoshka_dims: Sequence[int],
        matryoshka_weights: Sequence[float] | None = None,
        n_dims_per_step: int = -1,
    ) -> None:
        super().__init__(model, loss)
        dims = list(matryoshka_dims)
        weights: list[float] = [1] * len(dims) if matryoshka_weights is None else list(matryoshka_weights)
        width = width_of(model)
        check_dims(dims, weights, width)
        if width is not None and width not in dims:
            logger.warning(
                "matryoshka_dims=%s does not have the model's own width, %d: embeddings that are not shortened "
                "will not be trained. Add it unless that is intended.",
                dims,
                width,
            )
        # Widest first: that is how they are described and logged.
        pairs = sorted(zip(dims, weights), reverse=True)
        self.matryoshka_dims = tuple(dim for dim, _ in pairs)
        self.matryoshka_weights = tuple(weight for _, weight in pairs)
        self.n_dims_per_step = n_dims_per_step

    def context(self, columns: Sequence[Features]) -> Any:
        chosen = list(range(len(self.matryoshka_dims)))
        if 0 < self.n_dims_per_step < len(chosen):
            chosen = sorted(random.sample(chosen, self.n_dims_per_step))
        return chosen, super().context(columns)

    def run(self, model: nn.Module, features: Features, context: Any = None) -> Embeddings:
        return super().run(model, features, None if context is None else context[1])

    def parts(
        self,
        embeddings: Sequence[Embeddings],
        labels: Tensor | None,
        *,
        rows: slice | None = None,
        context: Any = None,
    ) -> Iterator[LossPart]:
        chosen, inner_context = context
        for number in chosen:
            dim, weight = self.matryoshka_dims[number], self.matryoshka_weights[number]
            shortened = [cut_to(dim, column) for column in embeddings]
            value = total(added_up(self.inner.parts(shortened, labels, rows=rows, context=inner_context)))
            yield LossPart(f"dim_{dim}", weight * value)

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        return {
            "loss": type(self.loss).__name__,
            "matryoshka_dims": self.matryoshka_dims,
            "matryoshka_weights": self.matryoshka_weights,
            "n_dims_per_step": self.n_dims_per_step,
        }

    @property
    def citation(self) -> str:
        """BibTeX of the paper."""
        return bibtex(
            "misc",
            "kusupati2024matryoshka",
            title="Matryoshka Representation Learning",
            author=[
                "Aditya Kusupati",
                "Gantavya Bhatt",
                "Aniket Rege",
                "Matthew Wallingford",
                "Aditya Sinha",
                "Vivek Ramanujan",
                "William Howard-Snyder",
                "Kaifeng Chen",
                "Sham Kakade",
                "Prateek Jain",
                "Ali Farhadi",
            ],
            year=2024,
            arxiv="2205.13147 cs.LG",
        )


def cut_to(width: int, column: Embeddings) -> Embeddings:
    """The leading dimensions of each vector, scaled to length 1."""
    shortened = column.truncate(width)
    return shortened.with_tensors([F.normalize(tensor, dim=-1) for tensor in shortened.tensors])


def width_of(model: Any) -> int | None:
    """Width of the model's embeddings, before any truncation; None where it is not known."""
    for module in reversed(list(getattr(model, "children", list)())):
        width = getattr(module, "get_sentence_embedding_dimension", lambda: None)()
        if width is not None:
            return width
    return None


def check_dims(dims: Sequence[int], weights: Sequence[float], width: int | None) -> None:
    """Stop if the widths or their weights make no sense."""
    if not dims:
        raise ValueError("matryoshka_dims is empty. Name at least one width, such as [256, 128, 64].")
    if min(dims) < 1 or (width is not None and max(dims) > width):
        raise ValueError(
            f"matryoshka_dims={list(dims)}: an embedding of this model has {width} dimensions and can be cut to "
            f"1 to {width} of them."
        )
    if len(weights) != len(dims):
        raise ValueError(
            f"There are {len(dims)} matryoshka_dims and {len(weights)} matryoshka_weights; give one weight for "
            "each."
        )
