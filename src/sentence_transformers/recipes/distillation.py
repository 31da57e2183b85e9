"""Distillation: a smaller student learns to give the embeddings of its teacher.

Knowledge distillation (Hinton, Vinyals, Dean 2015, https://arxiv.org/abs/1503.02531) with embeddings in place of
classes, as in Reimers and Gurevych (2020, https://arxiv.org/abs/2004.09813), in one language. What students there
are stands in `students.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sentence_transformers.recipes.config import option
from sentence_transformers.recipes.judging import dev_judge, judges
from sentence_transformers.recipes.layers import with_layers
from sentence_transformers.recipes.report import Report
from sentence_transformers.recipes.running import only_run
from sentence_transformers.recipes.speeds import judged_texts, measured_speeds
from sentence_transformers.recipes.students import has_length_one, like_teacher, made_anew, projected
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

TARGETS = "targets.npy"


@dataclass(kw_only=True)
class Config(TaughtConfig):
    """What distillation is told: the teacher is `model`, and one of three ways says what the student is."""

    student: str | None = option(None, help="A smaller model that learns: a folder, or a name.")
    keep_layers: list[int] = option([], help="Or some layers of the teacher, by their numbers from 0.")
    new_layers: int | None = option(None, help="Or so many new layers over the teacher's words.", least=1)
    new_width: int | None = option(
        None, help="Or new layers so wide; as many as the teacher's, or new_layers.", least=1
    )
    match: Literal["dense", "pca"] = option(
        "dense",
        help="Where widths differ: the student gets a linear layer to the teacher's, or the teacher's vectors are "
        "projected to the student's.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        ways = [self.student is not None, bool(self.keep_layers), self.makes_anew]
        if sum(ways) != 1:
            raise ValueError(
                "It has to be clear what the student is. Pass one of student, keep_layers, and new_layers or new_width."
            )

    @property
    def makes_anew(self) -> bool:
        """Whether the student begins without layers that have learned something."""
        return self.new_layers is not None or self.new_width is not None


def run(config: Config) -> Report:
    """Teach a smaller model to give the embeddings of a larger one (knowledge distillation)."""
    teacher = load(config.model, config)
    untaught = student(config)
    with only_run("distillation", config) as run:
        all_judges = judges(config.dev, config.test)
        targets = taught_vectors(run, config)
        width = untaught.get_sentence_embedding_dimension()
        if config.match == "pca" and width != teacher.get_sentence_embedding_dimension():

            def project(folder: Path, vectors: Path = targets) -> None:
                shorter = projected(np.load(vectors), width, length_one=has_length_one(teacher))
                np.save(folder / TARGETS, shorter)

            targets = run.step("targets", project) / TARGETS

        def make() -> tuple[Any, Any, Any]:
            model = student(config)
            data = lesson(config_texts(config), np.load(targets))
            return model, data, loss_of(config, model)

        model = trained(run, make, config=config, judge=dev_judge(all_judges), arguments=arguments())
        models = {"start": teacher, "untaught student": untaught, "student": model}
        speeds = measured_speeds(run, models, judged_texts(all_judges) or config_texts(config))
        for name, one in models.items():
            run.measure(
                name, lambda name=name, one=one: beside_teacher(run, all_judges, one, speeds.get(name))
            )
        return run.finish(model)


def student(config: Config) -> Any:
    """The student before it has learned anything; the same one each time."""
    teacher = load(config.model, config)
    if config.keep_layers:
        return with_layers(teacher, config.keep_layers)
    if config.student is not None:
        found = load(config.student, config)
    else:
        # The teacher that is changed is another than the one whose vectors are asked for.
        found = made_anew(
            load(config.model, config), layers=config.new_layers, width=config.new_width, seed=config.seed
        )
    return like_teacher(found, teacher, wide=config.match == "dense", seed=config.seed)
