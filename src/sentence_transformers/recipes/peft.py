"""Training an adapter: the model's weights stay as they are, and small matrices beside them learn.

Hu et al. (2021), "LoRA: Low-Rank Adaptation of Large Language Models", https://arxiv.org/abs/2106.09685.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentence_transformers.recipes.config import option
from sentence_transformers.recipes.extras import need
from sentence_transformers.recipes.judging import dev_judge, judged, judges
from sentence_transformers.recipes.report import Report
from sentence_transformers.recipes.running import only_run
from sentence_transformers.recipes.supervised import PromptedConfig, lesson_of, roles_of
from sentence_transformers.recipes.training import load, trained


@dataclass(kw_only=True)
class Config(PromptedConfig):
    """What the training of an adapter is told."""

    rank: int = option(16, help="Width of the adapter's matrices.", least=1)
    alpha: float = option(32, help="Their weight, as a multiple of 1 / rank.", least=0)
    dropout: float = option(0.1, help="Share of what they read that is left out in training.", least=0)
    target_modules: list[str] = option(
        [], help="Layers that get one, by the end of their names; those usual for the architecture."
    )
    learning_rate: float = option(5e-4, help="Highest learning rate.", least=0)
    full_learning_rate: float | None = option(
        None, help="Train all weights as well, with this learning rate, to compare.", least=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dropout >= 1:
            raise ValueError(f"dropout={self.dropout} leaves nothing to read. Pass less than 1, such as 0.1.")


def run(config: Config) -> Report:
    """Train a LoRA adapter instead of the model's weights (PEFT)."""
    need("peft", to="train adapters", extra="train")
    lesson = lesson_of(config)
    taught: dict[str, Any] = {"roles": roles_of(config, lesson), "arguments": lesson.arguments}
    all_judges = judges(config.dev, config.test)
    with only_run("peft", config) as run:
        judge = dev_judge(all_judges)
        whole = load(config.model, config)
        run.measure("start", lambda: judged(whole, all_judges))
        count = sum(parameter.numel() for parameter in whole.parameters())

        def figures(model: Any, learned: int, files: Path) -> dict[str, Any]:
            megabytes = sum(path.stat().st_size for path in files.rglob("*.safetensors")) / 1e6
            return {
                **judged(model, all_judges),
                "trained parameters": learned,
                "% of all": round(100 * learned / count, 2),
                "MB saved": round(megabytes, 2),
            }

        if config.full_learning_rate is not None:
            other = dataclasses.replace(config, learning_rate=config.full_learning_rate)

            def make_whole() -> tuple[Any, Any, Any]:
                model = load(config.model, config)
                return model, lesson.columns, lesson.loss(model)

            full = trained(run, make_whole, config=other, name="all weights", judge=judge, **taught)
            run.measure("all weights", lambda: figures(full, count, run.made("all weights")))

        def make() -> tuple[Any, Any, Any]:
            model = load(config.model, config)
            model.add_adapter(lora(config))
            return model, lesson.columns, lesson.loss(model)

        model = trained(run, make, config=config, judge=judge, **taught)
        run.measure("LoRA", lambda: figures(model, adapter_size(model), run.made("training")))
        return run.finish(model)


def lora(config: Config) -> Any:
    """The adapter a config asks for."""
    from peft import LoraConfig, TaskType

    return LoraConfig(
        task_type=TaskType.FEATURE_EXTRACTION,
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=config.target_modules or None,
    )


def adapter_size(model: Any) -> int:
    """How many parameters the adapter of a model has."""
    return sum(weights.numel() for weights in model.get_adapter_state_dict().values())
