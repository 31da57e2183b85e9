"""How fast models embed, and how large they are.

Models are timed in turns, so that a machine which is busy for a while is so for all of them.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentence_transformers.recipes.judging import Judge
from sentence_transformers.recipes.running import Run
from sentence_transformers.storage.folder import write_json

SPEEDS = "speeds.json"
ROUNDS = 3
MOST_TEXTS = 1000
"""Texts that are embedded to see how fast it is."""


@dataclass(frozen=True)
class Speed:
    """How fast a model embeds."""

    texts_per_second: float
    times_of_start: float
    """How many times as fast as the model of the first line."""


def measured_speeds(run: Run, models: Mapping[str, Any], texts: Sequence[str]) -> dict[str, Speed]:
    """The speed of each model, by its line in the table; measured once. The first model is the start.

    Empty without texts.
    """
    if not texts:
        return {}

    def work(folder: Path) -> None:
        write_json(folder / SPEEDS, texts_per_second(models, texts))

    found = json.loads((run.step("speeds", work) / SPEEDS).read_text(encoding="utf-8"))
    start = found[next(iter(models))]
    return {name: Speed(found[name], round(found[name] / start, 2)) for name in models}


def texts_per_second(
    models: Mapping[str, Any], texts: Sequence[str], rounds: int = ROUNDS
) -> dict[str, float]:
    """Texts that each model embeds in a second, in the best of some rounds."""
    texts = list(texts)[:MOST_TEXTS]
    best = dict.fromkeys(models, math.inf)
    # The first call of a model is slower than those that follow, and does not count.
    for model in models.values():
        model.encode(texts[:64], show_progress_bar=False)
    for _ in range(rounds):
        for name, model in models.items():
            started = time.perf_counter()
            model.encode(texts, show_progress_bar=False)
            best[name] = min(best[name], time.perf_counter() - started)
    return {name: round(len(texts) / seconds, 1) for name, seconds in best.items()}


def judged_texts(judges: Sequence[Judge]) -> list[str]:
    """Different texts that judges look at, those of the last one first: what speed is measured on."""
    texts: list[str] = []
    for judge in reversed(judges):
        for name in ("sentences1", "sentences2", "corpus"):
            texts += getattr(judge.evaluator, name, [])
    return list(dict.fromkeys(texts))


def megabytes(model: Any) -> float:
    """What a model's weights take, in MB of a million bytes."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.parameters())
    return round(size / 1e6, 2)
