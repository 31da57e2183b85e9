"""Layer reduction: some layers of a teacher are kept, and learn to give the embeddings of the whole.

Knowledge distillation (Hinton, Vinyals, Dean 2015, https://arxiv.org/abs/1503.02531) with a student that begins as
a part of its teacher. How layers are taken out stands in `layers.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sentence_transformers.recipes.config import option
from sentence_transformers.recipes.judging import Judge, dev_judge, judges
from sentence_transformers.recipes.layers import check_layers, evenly_spaced, layers_of, with_layers
from sentence_transformers.recipes.report import Report
from sentence_transformers.recipes.running import Run, only_run
from sentence_transformers.recipes.speeds import judged_texts, measured_speeds
from sentence_transformers.recipes.teaching import (
    TaughtConfig,
    arguments,
    beside_teacher,
    config_texts,
    lesson,
    loss_of,
    taught_vectors,
)
from sentence_transformers.recipes.training import load, trained


@dataclass(kw_only=True)
class Config(TaughtConfig):
    """What layer reduction is told."""

    layers: list[int] = option(
        [],
        help="How many layers to keep; several times for a table of them. Half of them if nothing is said.",
    )
    keep_layers: list[int] = option(
        [],
        help="Which layers to keep, from 0, instead of how many; those spread most evenly if nothing is said.",
    )
    model_layers: int | None = option(
        None,
        help="Which of several students becomes the finished model: its layers; the last if none is named.",
    )
    reset_last: int = option(
        0, help="Give so many of the kept layers, from the end, new random weights.", least=0
    )
    train: bool = option(True, help="Let the student learn; without, layers are only taken out.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers and self.keep_layers:
            raise ValueError("Both layers and keep_layers say what to keep. Pass one of them.")
        if self.model_layers is not None and self.model_layers not in self.layers:
            raise ValueError(f"model_layers={self.model_layers} is none of layers={self.layers}.")

    @property
    def learns(self) -> bool:
        return self.train


def run(config: Config) -> Report:
    """Keep some layers of a model, and teach them to give the embeddings of all (layer reduction)."""
    teacher = load(config.model, config)
    all_layers = len(layers_of(teacher))
    kept_layers = chosen_layers(config, all_layers)
    with only_run("layer-reduction", config) as run:
        all_judges = judges(config.dev, config.test)
        students = {names_of(keep): student(run, config, keep, all_judges) for keep in kept_layers}

        models = {"start": teacher, **students}
        speeds = measured_speeds(run, models, judged_texts(all_judges) or config_texts(config))
        for name, model in models.items():
            run.measure(
                name,
                lambda name=name, model=model: {
                    "layers": len(layers_of(model)),
                    **beside_teacher(run, all_judges, model, speeds.get(name)),
                },
            )
        wanted = config.model_layers or len(kept_layers[-1])
        finished = next(model for keep, model in zip(kept_layers, students.values()) if len(keep) == wanted)
        return run.finish(finished, step=training_of(wanted))


def chosen_layers(config: Config, count: int) -> list[list[int]]:
    """The layers that each student keeps, of so many of the teacher."""
    found = [evenly_spaced(layers, count) for layers in dict.fromkeys(config.layers or [max(1, count // 2)])]
    if config.keep_layers:
        found = [config.keep_layers]
    for keep in found:
        check_layers(keep, count, config.reset_last)
    return found


def names_of(keep: list[int]) -> str:
    """What a student is called."""
    return f"layers {' '.join(map(str, keep))}"


def training_of(layers: int) -> str:
    """What the training of a student with so many layers is called."""
    return f"{layers}-layers"


def student(run: Run, config: Config, keep: list[int], all_judges: list[Judge]) -> Any:
    """The teacher with these layers, trained unless it shall not be."""

    def begin() -> Any:
        return with_layers(load(config.model, config), keep, reset_last=config.reset_last, seed=config.seed)

    if not config.train:
        return begin()

    vectors = taught_vectors(run, config)

    def make() -> tuple[Any, Any, Any]:
        model = begin()
        data = lesson(config_texts(config), np.load(vectors))
        return model, data, loss_of(config, model)

    return trained(
        run,
        make,
        config=config,
        name=training_of(len(keep)),
        judge=dev_judge(all_judges),
        arguments=arguments(),
    )
