"""Try the ways to run a model on somebody's texts, and choose one.

A way is measured beside float32, in turns, so that a machine whose speed changes meanwhile is fair to both; then it
is let go, unless it is the best so far: no more than three copies of a model exist at a time. The ways themselves
stand in `ways.py`.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch

from sentence_transformers.encoder.way_report import (
    Optimized,
    WayRow,
    compare_scores,
    compare_vectors,
    megabytes,
    share_kept,
)
from sentence_transformers.encoder.ways import REFERENCE, WAYS, NotHereError, Way, Workshop, spread
from sentence_transformers.inference.prompts import choose_prompt
from sentence_transformers.storage.environment import get_device_name

logger = logging.getLogger(__name__)

LEAST_GAIN = 1.05
"""How many times as fast as float32 a way must be to be worth its differences."""

SINGLE_TEXTS = 16
"""Texts that are computed one at a time."""

LEAST_SECONDS = 0.2
"""Few texts are computed several times in each round, for about so long."""

WARMING_CALLS = 4
"""Calls after which what is prepared for a model's weights is there."""

GAINS = {"throughput": "times_float32", "latency": "times_float32_single"}
"""What `fastest_at` can be: the figure that decides."""


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What a call of `optimize` asks for, checked; see there."""

    target: str | None = None
    least_similarity: float | None = 0.98
    evaluator: Callable[[Any], Any] | None = None
    least_score_kept: float | None = None
    ways: Sequence[str] | None = None
    fastest_at: str = "throughput"
    folder: Path | None = None
    rounds: int = 3
    calls: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of every call of `encode` or `predict`."""

    def __post_init__(self) -> None:
        for name in ("least_similarity", "least_score_kept"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, (int, float)) and 0 <= value <= 1):
                raise ValueError(f"{name}={value!r} is no share. Pass a number from 0 to 1, or None.")
        if self.least_score_kept is not None and self.evaluator is None:
            raise ValueError("least_score_kept speaks of an evaluator's score. Pass an evaluator, too.")
        if self.evaluator is not None and not callable(self.evaluator):
            raise ValueError(
                f"evaluator={self.evaluator!r} cannot be called with a model. Pass an evaluator."
            )
        if self.fastest_at not in GAINS:
            raise ValueError(f"fastest_at={self.fastest_at!r} is unknown. Pass one of {', '.join(GAINS)}.")
        if isinstance(self.ways, str):
            raise ValueError(f"ways={self.ways!r} is a text. Pass a list of names.")
        unknown = [name for name in self.ways or () if name not in WAYS]
        if unknown:
            raise ValueError(f"There is no way {unknown[0]!r} to run a model. Known: {', '.join(WAYS)}.")
        if isinstance(self.rounds, bool) or not isinstance(self.rounds, int) or self.rounds < 1:
            raise ValueError(f"rounds={self.rounds!r} measures nothing. Pass a whole number, 1 or more.")
        if self.folder is not None and (
            self.folder.is_file() or (self.folder.is_dir() and any(self.folder.iterdir()))
        ):
            raise ValueError(f"{self.folder} is not empty. Pass a new folder to save the chosen model in.")


def choose(model: Any, texts: Sequence[Any], wishes: Wishes) -> Optimized:
    """Try the ways that are wished, and choose the fastest of those that stay near enough.

    Args:
        model: A model of any kind; it is left as it is.
        texts: What to try them on.
        wishes: What is asked for.
    """
    texts = checked_texts(texts)
    if model.get_backend() != "torch":
        raise ValueError(
            f"The model is a graph already (backend={model.get_backend()!r}). Load it with backend='torch': the ways to "
            "run it are made of its weights."
        )
    device = device_for(model, wishes.target)
    target = "cpu" if device.type == "cpu" else "gpu"
    trial = Trial(reference_model(model, device), texts, wishes)
    best: tuple[Any, WayRow] | None = None
    rows = [trial.reference]
    names = wishes.ways or [name for name, way in WAYS.items() if target in way.targets]
    for name in dict.fromkeys(names):
        if name == REFERENCE:
            continue
        logger.info("Trying %s.", name)
        made, row = trial.tried(name, WAYS[name])
        rows.append(row)
        gain = getattr(row, GAINS[wishes.fastest_at])
        least = LEAST_GAIN if best is None else getattr(best[1], GAINS[wishes.fastest_at])
        if made is not None and row.verdict == "slower" and gain > least:
            best = made, row
        del made
    chosen, way = (trial.workshop.copied(), REFERENCE) if best is None else (best[0], best[1].way)
    rows = [replace(row, verdict="chosen") if row.way == way else row for row in rows]
    if wishes.folder is not None:
        chosen.save_pretrained(str(wishes.folder))
    options = dict(WAYS[way].load_options)
    return Optimized(model=chosen, way=way, rows=rows, load_options=options, unit=model.input_unit)


class Seconds(NamedTuple):
    """What a model takes in one round."""

    all: float
    """For all texts at once."""

    single: float
    """For one alone, the median of some."""


class Trial:
    """The model in float32, with what it was measured to give, for others to be held against.

    Args:
        model: That model, on the device it is to run on.
        texts: What to compute.
        wishes: What is asked for.
    """

    def __init__(self, model: Any, texts: Sequence[Any], wishes: Wishes) -> None:
        self.model = model
        self.texts = texts
        self.wishes = wishes
        self.singles = spread(texts, SINGLE_TEXTS)
        prompt = choose_prompt(
            model.prompts,
            default_prompt_name=model.default_prompt_name,
            prompt=wishes.calls.get("prompt"),
            prompt_name=wishes.calls.get("prompt_name"),
        )
        self.workshop = Workshop(model, model.device, texts, prompt)
        self.results = self.warmed(model)
        started = perf_counter()
        self.compute(model, texts)
        self.repeats = min(50, max(1, math.ceil(LEAST_SECONDS / (perf_counter() - started))))
        self.score = None if wishes.evaluator is None else main_score(wishes.evaluator, model)
        alone = [self.measured(model) for _ in range(wishes.rounds)]
        self.reference = self.row(REFERENCE, model, self.results, self.score, [(own, own) for own in alone])

    def compute(self, model: Any, texts: Sequence[Any]) -> np.ndarray:
        """Vectors (n, D) or scores (n,) or (n, labels) of some texts."""
        call = getattr(model, "predict", None) or model.encode
        return np.asarray(call(texts, show_progress_bar=False, **self.wishes.calls))

    def warmed(self, model: Any) -> np.ndarray:
        """The results for all texts, after which a model is as fast as it gets."""
        for text in self.singles[:1] * WARMING_CALLS + self.singles:
            self.compute(model, [text])
        return self.compute(model, self.texts)

    def measured(self, model: Any) -> Seconds:
        """What a model takes."""
        started = perf_counter()
        for _ in range(self.repeats):
            self.compute(model, self.texts)
        seconds = (perf_counter() - started) / self.repeats
        alone = []
        for text in self.singles:
            started = perf_counter()
            self.compute(model, [text])
            alone.append(perf_counter() - started)
        return Seconds(seconds, median(alone))

    def tried(self, name: str, way: Way) -> tuple[Any, WayRow]:
        """A model that runs in a way, and what was found out about it; no model where it cannot be had."""
        try:
            way.check(self.workshop.device)
            model = way.make(self.workshop)
            results = self.warmed(model)
        except Exception as error:
            # Trying is the purpose: what an architecture, an installation or a machine cannot do shows in many ways.
            logger.debug("%s cannot be had.", name, exc_info=True)
            return None, WayRow(way=name, verdict="not here", reason=reason_of(error))
        score = None if self.wishes.evaluator is None else main_score(self.wishes.evaluator, model)
        pairs = []
        for number in range(self.wishes.rounds):
            if number % 2 == 0:
                reference, own = self.measured(self.model), self.measured(model)
            else:
                own, reference = self.measured(model), self.measured(self.model)
            pairs.append((reference, own))
        row = self.row(name, model, results, score, pairs)
        fault = self.fault(row)
        return model, replace(row, verdict="too far", reason=fault) if fault else row

    def row(
        self,
        way: str,
        model: Any,
        results: np.ndarray,
        score: float | None,
        pairs: Sequence[tuple[Seconds, Seconds]],
    ) -> WayRow:
        """The figures of a way, from what was measured of float32 and of it in each round."""
        compare = compare_scores if hasattr(self.model, "predict") else compare_vectors
        return WayRow(
            way=way,
            verdict="slower",
            texts_per_second=len(self.texts) / median(own.all for _, own in pairs),
            times_float32=median(reference.all / own.all for reference, own in pairs),
            single_ms=1000 * median(own.single for _, own in pairs),
            times_float32_single=median(reference.single / own.single for reference, own in pairs),
            megabytes=megabytes(model),
            score=score,
            score_kept=None if score is None else self.kept(score),
            **compare(self.results, results)._asdict(),
        )

    def kept(self, score: float) -> float:
        """A score as a share of float32's."""
        assert self.score is not None
        greater = getattr(self.wishes.evaluator, "greater_is_better", True)
        return share_kept(score, self.score, greater_is_better=greater)

    def fault(self, row: WayRow) -> str:
        """In what a way falls short of the wishes; nothing if it does not."""
        wishes, similarity, kept = self.wishes, row.similarity, row.score_kept
        # "Not as much as", since what is no number is not near enough either.
        if wishes.least_similarity is not None and not (similarity or 0) >= wishes.least_similarity:
            return f"least_similarity is {wishes.least_similarity:g}"
        if wishes.least_score_kept is not None and not (kept or 0) >= wishes.least_score_kept:
            return f"least_score_kept is {wishes.least_score_kept:g}"
        return ""


# -- the parts of it ---------------------------------------------------------------------------------------


def checked_texts(texts: Any) -> Sequence[Any]:
    """The texts as a list.

    Raises:
        ValueError: If there are not even two.
    """
    if isinstance(texts, (str, Mapping)) or not hasattr(texts, "__iter__"):
        raise ValueError(f"texts is {type(texts).__name__}. Pass a list of some hundred texts, or of pairs.")
    found = list(texts)
    if len(found) < 2:
        raise ValueError(
            f"texts has {len(found)} of them, from which nothing follows. Pass some hundred like those the model will read."
        )
    return found


def device_for(model: Any, target: str | None) -> torch.device:
    """The device that a target stands for.

    Raises:
        RuntimeError: If there is none.
    """
    if target is None:
        return torch.device(model.device)
    if target != "gpu":
        try:
            device = torch.device(target)
        except RuntimeError as error:
            raise ValueError(
                f"target={target!r} is unknown. Pass 'cpu', 'gpu', or a device such as 'cuda:1'."
            ) from error
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise RuntimeError(
                f"target={target!r}, but PyTorch sees {torch.cuda.device_count()} CUDA devices."
            )
        return device
    best = get_device_name()
    if best == "cpu":
        raise RuntimeError(
            "target='gpu', but PyTorch sees no GPU here. Run this where one is (with a PyTorch built for it), or pass "
            "target='cpu'."
        )
    return model.device if model.device.type == best else torch.device(best)


def reference_model(model: Any, device: torch.device) -> Any:
    """A copy of a model, in float32 and on a device; where the model is like that already, over the same weights."""
    tensors = list(chain(model.parameters(), model.buffers()))
    place = torch.empty(0, device=device).device  # with its number, which "cuda" lacks
    alike = all(
        tensor.device == place and (not tensor.is_floating_point() or tensor.dtype == torch.float32)
        for tensor in tensors
    )
    copied = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors} if alike else {})
    if not alike:
        copied.to(device).float()
    copied._target_device = device
    return copied.eval()


def main_score(evaluator: Callable[[Any], Any], model: Any) -> float:
    """The number that an evaluator says a model is worth.

    Raises:
        ValueError: If it gives several, and says of none that it is the main one.
    """
    found = evaluator(model)
    if not isinstance(found, Mapping):
        return float(found)
    primary = getattr(evaluator, "primary_metric", None)
    if primary not in found:
        raise ValueError(
            f"The evaluator gives {', '.join(found)}, and its primary_metric is {primary!r}. Set that to one of them."
        )
    return float(found[primary])


def reason_of(error: BaseException) -> str:
    """Why something failed, in a line."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return (
        first
        if isinstance(error, (NotHereError, ImportError, ValueError))
        else f"{type(error).__name__}: {first}"
    )
