"""Supervised training on a table of examples, with the loss that suits it (`supervised.py`).

Reimers and Gurevych (2019), "Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks",
https://arxiv.org/abs/1908.10084.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sentence_transformers.recipes.judging import dev_judge, judged, judges
from sentence_transformers.recipes.report import Report
from sentence_transformers.recipes.running import only_run
from sentence_transformers.recipes.supervised import PromptedConfig, lesson_of, roles_of
from sentence_transformers.recipes.training import load, trained


@dataclass(kw_only=True)
class Config(PromptedConfig):
    """What supervised training is told."""


def run(config: Config) -> Report:
    """Train on a table of pairs, triplets, scored pairs or texts with labels, with the loss that suits it."""
    lesson = lesson_of(config)
    roles = roles_of(config, lesson)
    all_judges = judges(config.dev, config.test)
    with only_run("finetune", config) as run:
        run.measure("start", lambda: judged(load(config.model, config), all_judges))

        def make() -> tuple[Any, Any, Any]:
            model = load(config.model, config)
            return model, lesson.columns, lesson.loss(model)

        model = trained(
            run,
            make,
            config=config,
            judge=dev_judge(all_judges),
            roles=roles,
            arguments=lesson.arguments,
        )
        run.measure(f"trained on {lesson.kind}", lambda: judged(model, all_judges))
        return run.finish(model)
