"""Search for hyperparameters: trainings with other settings each, of which the best on dev is kept.

Settings are chosen by optuna's Tree-structured Parzen Estimator (Bergstra et al. 2011, "Algorithms for
Hyper-Parameter Optimization") from the figures of all trials before. Each trial is a step with a sampler of its own
seed, so that a search that was killed goes on with the very trials it would have had.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentence_transformers.recipes.config import option
from sentence_transformers.recipes.extras import need
from sentence_transformers.recipes.judging import judged, judges
from sentence_transformers.recipes.report import Report
from sentence_transformers.recipes.running import MODEL, Run, only_run
from sentence_transformers.recipes.supervised import LOSSES, PromptedConfig, lesson_of, roles_of
from sentence_transformers.recipes.training import load, trained
from sentence_transformers.storage.folder import read_json, write_json

SETTINGS = "settings.json"
SEARCHED: Mapping[str, str] = {
    "learning_rate": "learning_rates",
    "warmup_ratio": "warmup_ratios",
    "batch_size": "batch_sizes",
}
"""What one training is told, and the field that says here what to choose it from."""

DRAWN_FIRST = 4
"""Trials with settings drawn at random, before earlier figures guide the choice."""


@dataclass(kw_only=True)
class Config(PromptedConfig):
    """What a search for hyperparameters is told."""

    trials: int = option(10, help="Trainings.", least=1)
    learning_rates: list[float] = option(
        [1e-6, 2e-4], help="Lowest and highest learning rate; give it twice. One fixes it."
    )
    warmup_ratios: list[float] = option([0.0, 0.3], help="Lowest and highest share of warm-up; the same.")
    batch_sizes: list[int] = option([16, 32, 64], help="Sizes of a batch to choose from.")
    losses: list[str] = option([], help="Losses to choose from, by name; that of `loss` if none are given.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dev is None:
            raise ValueError("Trials are compared on dev, which is not given. Pass dev.")
        for name in ("learning_rates", "warmup_ratios"):
            values = getattr(self, name)
            if len(values) not in (1, 2) or min(values) < 0:
                raise ValueError(
                    f"{name}={values} is no range. Pass the lowest and the highest value, or one."
                )
        if max(self.warmup_ratios) > 1:
            raise ValueError(f"warmup_ratios={self.warmup_ratios} are no shares of the steps. Pass 0 to 1.")
        if min(self.learning_rates) == 0:
            raise ValueError("A learning rate of 0 trains nothing. Pass a positive one.")
        if not self.batch_sizes or min(self.batch_sizes) < 1:
            raise ValueError(
                f"batch_sizes={self.batch_sizes} holds no size. Pass 1 or more, once or several times."
            )
        unknown = [name for name in self.losses if name not in LOSSES]
        if unknown:
            raise ValueError(f"There is no loss {unknown[0]!r}. There are: {', '.join(LOSSES)}.")


def run(config: Config) -> Report:
    """Search for the learning rate, batch size, warm-up and loss that are best on dev (optuna)."""
    need("optuna", to="search for hyperparameters", extra="tune")
    refuse_single_values(config)
    losses: list[str | None] = [*config.losses] or [config.loss]
    lessons = {name: lesson_of(dataclasses.replace(config, loss=name)) for name in losses}
    roles = roles_of(config, next(iter(lessons.values())))
    all_judges = judges(config.dev, config.test)
    dev = all_judges[0]
    with only_run("hyperparameter-search", config) as run:
        run.measure("start", lambda: judged(load(config.model, config), all_judges))
        tried: list[tuple[dict[str, Any], float]] = []
        for number in range(1, config.trials + 1):
            name = f"trial {number}"

            def choose(folder: Path, number: int = number) -> None:
                write_json(folder / SETTINGS, next_settings(config, tried, number))

            settings = read_json(run.step(f"{name} settings", choose) / SETTINGS)

            def figures(name: str = name, settings: Mapping[str, Any] = settings) -> dict[str, Any]:
                lesson = lessons[settings.get("loss", config.loss)]

                def make() -> tuple[Any, Any, Any]:
                    model = load(config.model, config)
                    return model, lesson.columns, lesson.loss(model)

                chosen = {key: value for key, value in settings.items() if key != "loss"}
                model = trained(
                    run,
                    make,
                    config=dataclasses.replace(config, **chosen),
                    name=name,
                    judge=dev,
                    roles=roles,
                    arguments=lesson.arguments,
                )
                return {dev.label: dev(model), **written(settings)}

            tried.append((settings, run.measure(name, figures)[dev.label]))
            forget_all_but_the_best(run, tried)
        number = best_of(tried)
        model = load(str(run.made(f"trial {number}") / MODEL), config)
        run.measure(
            f"best: trial {number}", lambda: {**judged(model, all_judges), **written(tried[number - 1][0])}
        )
        return run.finish(model, step=f"trial {number}")


def refuse_single_values(config: Config) -> None:
    """Refuse what trials would not use, because it is searched for.

    Raises:
        ValueError: If such a field is not as it is by itself.
    """
    for one in dataclasses.fields(config):
        if one.name in SEARCHED and getattr(config, one.name) != one.default:
            value, plural = getattr(config, one.name), SEARCHED[one.name]
            raise ValueError(
                f"{one.name}={value} would not be used: it is searched for. Pass {plural}, with one value to fix it."
            )


def next_settings(
    config: Config, tried: Sequence[tuple[Mapping[str, Any], float]], number: int
) -> dict[str, Any]:
    """Settings for the next trial, decided by the earlier ones, the seed and the trial's number alone.

    Args:
        config: The ranges.
        tried: Settings and figures of earlier trials, in order.
        number: Of the trial.
    """
    import optuna

    distributions = distributions_of(config)
    loudness = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        sampler = optuna.samplers.TPESampler(
            seed=config.seed + number, n_startup_trials=DRAWN_FIRST, multivariate=False
        )
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for settings, figure in tried:
            study.add_trial(
                optuna.trial.create_trial(params=dict(settings), distributions=distributions, value=figure)
            )
        return dict(study.ask(distributions).params)
    finally:
        optuna.logging.set_verbosity(loudness)


def distributions_of(config: Config) -> dict[str, Any]:
    """What can be chosen, by the name of the config's field."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    rates, shares = config.learning_rates, config.warmup_ratios
    found: dict[str, Any] = {
        "learning_rate": FloatDistribution(min(rates), max(rates), log=True),
        "warmup_ratio": FloatDistribution(min(shares), max(shares)),
        "batch_size": CategoricalDistribution(config.batch_sizes),
    }
    if config.losses:
        found["loss"] = CategoricalDistribution(config.losses)
    return found


def written(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as cells of a table, which would round small numbers away."""
    return {
        name.replace("_", " "): f"{value:.3g}" if isinstance(value, float) else value
        for name, value in settings.items()
    }


def best_of(tried: Sequence[tuple[Mapping[str, Any], float]]) -> int:
    """Number of the best trial, the first of equally good ones; the first one is number 1."""
    return max(range(len(tried)), key=lambda place: (tried[place][1], -place)) + 1


def forget_all_but_the_best(run: Run, tried: Sequence[tuple[Mapping[str, Any], float]]) -> None:
    """Remove the models of trials that others have surpassed; their curves stay."""
    for number in range(1, len(tried) + 1):
        if number != best_of(tried):
            shutil.rmtree(run.made(f"trial {number}") / MODEL, ignore_errors=True)
