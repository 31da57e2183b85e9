"""Losses that hold for a model with fewer layers too."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sentence_transformers.losses.base import LossPart, LossWrapper, added_up, total
from sentence_transformers.losses.features import Features, unwrapped
from sentence_transformers.losses.functional import divergence
from sentence_transformers.losses.matryoshka import MatryoshkaLoss
from sentence_transformers.losses.papers import bibtex
from sentence_transformers.tensors.embeddings import Embeddings

LAYER_WEIGHTS: dict[str, Callable[[int], float]] = {
    "uniform": lambda layer: 1.0,
    "log": lambda layer: 1 / (1 + math.log(1 + layer)),
    "linear": lambda layer: 1 / (1 + layer),
}
"""Weight of an earlier layer by its number."""


@dataclass
class Layers:
    """The earlier layers that count for one batch, chosen once it is known how many there are."""

    seed: int
    """What decides; the same layers are chosen whenever some rows of the batch are embedded."""

    per_step: int
    """How many to choose; any other number than 1 to all but one for all."""

    inner: Any
    """What the inner loss computed for the batch."""

    chosen: list[int] | None = field(default=None)

    def of(self, count: int) -> list[int]:
        """Numbers of the chosen layers among `count` earlier ones.

        Raises:
            ValueError: If columns are embedded by models of different depth.
        """
        chosen = list(range(count))
        if 0 < self.per_step < count:
            chosen = sorted(random.Random(self.seed).sample(chosen, self.per_step))
        if self.chosen not in (None, chosen):
            raise ValueError(
                "AdaptiveLayerLoss compares the columns layer by layer, and they are embedded by models with "
                "different numbers of layers."
            )
        self.chosen = chosen
        return chosen


class AdaptiveLayerLoss(LossWrapper):
    """Applies a loss to what earlier layers give too, so that layers can be taken off after training.

    After Li et al. 2024, "2D Matryoshka Sentence Embeddings" (https://arxiv.org/abs/2402.14776). The output
    of an earlier layer (number 0 is what the first layer is given) runs through the later parts of the model,
    such as pooling. The loss is the sum of

    - last_layer_weight × inner loss of the last layer,
    - prior_layers_weight × mean over the chosen layers of layer weight × inner loss,
    - kl_div_weight × kl_temperature × sum over the chosen layers of the Kullback-Leibler divergence of their
      embeddings from those of the last layer. Embeddings become distributions by a softmax over their
      dimensions; the last layer is a teacher there and gets no gradient.

    Args:
        model: The model, whose first part is a Transformer, or a Router to one.
        loss: The inner loss, of any kind, cached or not.
        n_layers_per_step: How many earlier layers to choose in each step, at random; -1 for all.
        last_layer_weight: Weight of the last layer.
        prior_layers_weight: Weight of the earlier layers together.
        kl_div_weight: Weight of the divergence.
        kl_temperature: What embeddings are divided by before the softmax; 0 for no divergence.
        layer_weighting: Weight of an earlier layer by its number i: "uniform", 1; "log", 1 / (1 + log(1 + i));
            "linear", 1 / (1 + i); or a function of i.

    Raises:
        ValueError: If `layer_weighting` is unknown, or if the inner loss chooses layers itself.
    """

    def __init__(
        self,
        model: Any,
        loss: nn.Module,
        n_layers_per_step: int = 1,
        last_layer_weight: float = 1.0,
        prior_layers_weight: float = 1.0,
        kl_div_weight: float = 1.0,
        kl_temperature: float = 0.3,
        layer_weighting: str | Callable[[int], float] = "uniform",
    ) -> None:
        super().__init__(model, loss)
        if not callable(layer_weighting) and layer_weighting not in LAYER_WEIGHTS:
            raise ValueError(
                f"layer_weighting={layer_weighting!r} is unknown. Pass a function of a layer's number, or one of: "
                f"{', '.join(map(repr, LAYER_WEIGHTS))}."
            )
        if any(isinstance(part, AdaptiveLayerLoss) for part in loss.modules()):
            raise ValueError(
                "The inner loss has an AdaptiveLayerLoss in it, and layers can be chosen only once."
            )
        self.n_layers_per_step = n_layers_per_step
        self.last_layer_weight = last_layer_weight
        self.prior_layers_weight = prior_layers_weight
        self.kl_div_weight = kl_div_weight
        self.kl_temperature = kl_temperature
        self.layer_weighting = layer_weighting

    def get_layer_weight(self, layer_idx: int) -> float:
        """Weight of an earlier layer; number 0 is what the first layer is given."""
        if callable(self.layer_weighting):
            return self.layer_weighting(layer_idx)
        return LAYER_WEIGHTS[self.layer_weighting](layer_idx)

    def context(self, columns: Sequence[Features]) -> Any:
        return Layers(random.getrandbits(32), self.n_layers_per_step, super().context(columns))

    def run(self, model: nn.Module, features: Features, context: Any = None) -> Embeddings:
        outputs = model({**features, "output_hidden_states": True})
        if "all_layer_embeddings" not in outputs:
            raise ValueError(
                "AdaptiveLayerLoss needs the output of every layer, and the first part of this model, "
                f"{type(next(iter(unwrapped(model).children()), model)).__name__}, gives none. Use it with a "
                "model that begins with a Transformer."
            )
        *earlier, _ = outputs["all_layer_embeddings"]
        later = later_parts(unwrapped(model), features)
        layers = []
        for number in context.of(len(earlier)):
            shallower = {**features, "token_embeddings": earlier[number]}
            for part in later:
                shallower = part(shallower)
            layers.append(Embeddings.read(shallower).values)
        last = Embeddings.read(outputs)
        return Embeddings(last.values, last.mask, tuple(layers))

    def parts(
        self,
        embeddings: Sequence[Embeddings],
        labels: Tensor | None,
        *,
        rows: slice | None = None,
        context: Any = None,
    ) -> Iterator[LossPart]:
        def inner(columns: Sequence[Embeddings]) -> Tensor:
            return total(added_up(self.inner.parts(columns, labels, rows=rows, context=context.inner)))

        last = [Embeddings(column.values, column.mask) for column in embeddings]
        yield LossPart("last_layer", self.last_layer_weight * inner(last))
        weight = self.prior_layers_weight / max(1, len(context.chosen))
        for place, number in enumerate(context.chosen):
            layer = [Embeddings(column.layers[place], column.mask) for column in embeddings]
            yield LossPart(f"layer_{number}", weight * self.get_layer_weight(number) * inner(layer))
            if self.kl_div_weight and self.kl_temperature > 0:
                logits, targets = (
                    torch.cat([vectors_of(column, rows) for column in columns]) / self.kl_temperature
                    for columns in (layer, last)
                )
                distance = divergence(logits, targets.detach().softmax(dim=-1))
                yield LossPart("divergence", self.kl_div_weight * self.kl_temperature * distance)

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        weighting = self.layer_weighting
        return {
            "loss": type(self.loss).__name__,
            "n_layers_per_step": self.n_layers_per_step,
            "last_layer_weight": self.last_layer_weight,
            "prior_layers_weight": self.prior_layers_weight,
            "kl_div_weight": self.kl_div_weight,
            "kl_temperature": self.kl_temperature,
            "layer_weighting": (
                weighting
                if isinstance(weighting, str)
                else getattr(weighting, "__name__", type(weighting).__name__)
            ),
        }

    @property
    def citation(self) -> str:
        """BibTeX of the paper."""
        return bibtex(
            "misc",
            "li20242d",
            title="2D Matryoshka Sentence Embeddings",
            author=["Xianming Li", "Zongxi Li", "Jing Li", "Haoran Xie", "Qing Li"],
            year=2024,
            arxiv="2402.14776 cs.CL",
        )


class Matryoshka2dLoss(AdaptiveLayerLoss):
    """`AdaptiveLayerLoss` around `MatryoshkaLoss`: models that can be cut in depth and in width.

    After Li et al. 2024, "2D Matryoshka Sentence Embeddings" (https://arxiv.org/abs/2402.14776).

    Args:
        model: As in `AdaptiveLayerLoss`.
        loss: The inner loss, of any kind, cached or not.
        matryoshka_dims: As in `MatryoshkaLoss`.
        matryoshka_weights: As in `MatryoshkaLoss`.
        n_layers_per_step: As in `AdaptiveLayerLoss`.
        n_dims_per_step: As in `MatryoshkaLoss`.
        last_layer_weight: As in `AdaptiveLayerLoss`.
        prior_layers_weight: As in `AdaptiveLayerLoss`.
        kl_div_weight: As in `AdaptiveLayerLoss`.
        kl_temperature: As in `AdaptiveLayerLoss`.
        layer_weighting: As in `AdaptiveLayerLoss`.

    Raises:
        ValueError: As in both.
    """

    loss: MatryoshkaLoss

    def __init__(
        self,
        model: Any,
        loss: nn.Module,
        matryoshka_dims: Sequence[int],
        matryoshka_weights: Sequence[float] | None = None,
        n_layers_per_step: int = 1,
        n_dims_per_step: int = 1,
        last_layer_weight: float = 1.0,
        prior_layers_weight: float = 1.0,
        kl_div_weight: float = 1.0,
        kl_temperature: float = 0.3,
        layer_weighting: str | Callable[[int], float] = "uniform",
    ) -> None:
        super().__init__(
            model,
            MatryoshkaLoss(model, loss, matryoshka_dims, matryoshka_weights, n_dims_per_step),
            n_layers_per_step=n_layers_per_step,
            last_layer_weight=last_layer_weight,
            prior_layers_weight=prior_layers_weight,
            kl_div_weight=kl_div_weight,
            kl_temperature=kl_temperature,
            layer_weighting=layer_weighting,
        )

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card: those of both wrappers, and the loss inside."""
        return {**super().get_config_dict(), **self.loss.get_config_dict()}


def later_parts(model: nn.Module, features: Features) -> list[Any]:
    """The parts of a model behind its transformer; where that is one of several, behind the one chosen."""
    first, *later = model.children()
    while hasattr(first, "sub_modules"):
        route = first.route_for(features.get("task"), features.get("modality"))
        first, *further = first.sub_modules[route]
        later = [*further, *later]
    return later


def vectors_of(column: Embeddings, rows: slice | None) -> Tensor:
    """The vectors of some rows, (n, D): one for each row, or for each token that counts."""
    chosen = column[rows or slice(None)]
    return chosen.values if chosen.mask is None else chosen.values[chosen.mask.bool()]
