"""Matryoshka training: embeddings that can be shortened, and models whose last layers can be left out.

Kusupati et al. (2022), "Matryoshka Representation Learning", https://arxiv.org/abs/2205.13147, for widths. Li et al.
(2024), "2D Matryoshka Sentence Embeddings", https://arxiv.org/abs/2402.14776, for layers, and for both together.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from sentence_transformers.losses.adaptive_layer import AdaptiveLayerLoss, Matryoshka2dLoss
from sentence_transformers.losses.matryoshka import MatryoshkaLoss
from sentence_transformers.recipes.config import option
from sentence_transformers.recipes.judging import Judge, dev_judge, judges
from sentence_transformers.recipes.layers import layers_of, with_layers
from sentence_transformers.recipes.report import Report
from sentence_transformers.recipes.running import Run, only_run
from sentence_transformers.recipes.supervised import Lesson, PromptedConfig, lesson_of, roles_of
from sentence_transformers.recipes.training import load, trained

NAMES = {"widths": "Matryoshka", "layers": "adaptive layers", "both": "2D Matryoshka"}


@dataclass(kw_only=True)
class Config(PromptedConfig):
    """What Matryoshka training is told."""

    over: Literal["widths", "layers", "both"] = option(
        "widths", help="What can be cut afterwards: the vectors, the model's depth, or both."
    )
    widths: list[int] = option(
        [], help="Widths to train and judge; the model's own and the powers of two down to a sixteenth of it."
    )
    layers: list[int] = option([], help="How many layers to judge with; every number there is.")
    plain: bool = option(False, help="Train the same loss without all this as well, to compare.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.widths and self.over == "layers":
            raise ValueError(
                "widths are trained only over widths or both. Leave them out, or pass over='both'."
            )
        if self.layers and self.over == "widths":
            raise ValueError(
                "layers are trained only over layers or both. Leave them out, or pass over='both'."
            )


def run(config: Config) -> Report:
    """Train embeddings that can be shortened, or models that can do with fewer layers (Matryoshka)."""
    start = load(config.model, config)
    widths = chosen_widths(config, start.get_sentence_embedding_dimension())
    depths = chosen_depths(config, start)
    lesson = lesson_of(config)
    roles = roles_of(config, lesson)
    if lesson.loss_name == "softmax" and config.over != "layers":
        raise ValueError(
            "The loss 'softmax' takes vectors of one width only, and cannot be trained over several. Pass "
            "over='layers', or a table with scores, pairs or triplets."
        )
    all_judges = judges(config.dev, config.test)
    with only_run("matryoshka", config) as run:
        measure_cut(run, "start", start, widths, depths, all_judges)

        def train(name: str, wrapped: bool) -> Any:
            def make() -> tuple[Any, Any, nn.Module]:
                model = load(config.model, config)
                return model, lesson.columns, loss_of(config, lesson, model, widths if wrapped else None)

            judge = dev_judge(all_judges)
            return trained(
                run, make, config=config, name=name, judge=judge, roles=roles, arguments=lesson.arguments
            )

        if config.plain:
            measure_cut(run, "plain", train("plain", wrapped=False), widths, depths, all_judges)
        model = train("training", wrapped=True)
        measure_cut(run, NAMES[config.over], model, widths, depths, all_judges)
        return run.finish(model)


def loss_of(config: Config, lesson: Lesson, model: Any, widths: Sequence[int] | None) -> nn.Module:
    """The loss of the lesson, over widths, layers or both; by itself without widths."""
    loss = lesson.loss(model)
    if widths is None:
        return loss
    if config.over == "widths":
        return MatryoshkaLoss(model, loss, list(widths))
    if config.over == "layers":
        return AdaptiveLayerLoss(model, loss)
    return Matryoshka2dLoss(model, loss, list(widths))


def chosen_widths(config: Config, width: int) -> list[int]:
    """The widths, the widest first."""
    if config.over == "layers":
        return [width]
    wrong = [cut for cut in config.widths if not 1 <= cut <= width]
    if wrong:
        raise ValueError(f"The model's vectors have {width} dimensions and cannot be cut to {wrong[0]}.")
    powers = [2**power for power in range(width.bit_length()) if width / 16 <= 2**power < width]
    return sorted({width, *(config.widths or powers)}, reverse=True)


def chosen_depths(config: Config, model: Any) -> list[int | None]:
    """How many layers to judge with, all of them first; None for all where layers are not looked at."""
    if config.over == "widths":
        return [None]
    count = len(layers_of(model))
    wrong = [layers for layers in config.layers if not 1 <= layers <= count]
    if wrong:
        raise ValueError(f"The model has {count} layers, and cannot be judged with {wrong[0]}.")
    return sorted({count, *(config.layers or range(1, count))}, reverse=True)


def measure_cut(
    run: Run,
    name: str,
    model: Any,
    widths: Sequence[int],
    depths: Sequence[int | None],
    all_judges: Sequence[Judge],
) -> None:
    """Measure a model at each width, a row of the table for each number of layers."""
    for place, depth in enumerate(depths):
        row = name if place == 0 else f"{name}, {depth} layer{'s' * (depth != 1)}"

        def figures(depth: int | None = depth) -> dict[str, float]:
            cut = model if depth is None else with_layers(copy.deepcopy(model), range(depth))
            found = {}
            for judge in all_judges:
                for width in widths:
                    with cut.truncate_sentence_embeddings(width):
                        label = judge.label if len(widths) == 1 else f"{judge.label} {width}"
                        found[label] = judge(cut)
            return found

        run.measure(row, figures)
