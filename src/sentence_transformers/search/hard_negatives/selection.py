"""Decide which of the candidates of an anchor become its negatives.

Pure functions over the scores of candidates that stand best first. Texts, models and files are not known here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sentence_transformers.tensors.topk import Best

SAMPLING_STRATEGIES = ("top", "random")

Limit = Callable[[Tensor, float], Tensor]

# What a score is held against, from the lowest score of the anchor's positives (a,) and the threshold: a
# candidate may not score higher than this; for `min_score` not lower.
LIMITS: Mapping[str, Limit] = {
    "max_score": lambda positive, threshold: torch.full_like(positive, threshold),
    "min_score": lambda positive, threshold: torch.full_like(positive, threshold),
    "absolute_margin": lambda positive, threshold: positive - threshold,
    "relative_margin": lambda positive, threshold: positive - positive.abs() * threshold,
}

THRESHOLDS = tuple(LIMITS)
"""Names of the rules that look at scores."""

REASONS = ("positive", *THRESHOLDS, "range_min", "range_max", "not_chosen")
"""Why a candidate is no negative, in the order in which it is asked: it counts for the first that holds."""

CANDIDATES_PER_NEGATIVE = 10
"""Candidates looked at for each negative that is wanted, by default, where scores may rule some out."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a negative must be, checked at the door; see `mine_hard_negatives` for each of them."""

    num_negatives: int = 3
    range_min: int = 0
    range_max: int | None = None
    max_score: float | None = None
    min_score: float | None = None
    absolute_margin: float | None = None
    relative_margin: float | None = None
    sampling_strategy: str = "top"
    include_positives: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in [("num_negatives", 1), ("range_min", 0)]:
            value = getattr(self, name)
            if not is_whole(value) or value < least:
                raise ValueError(f"{name}={value!r} must be a whole number of {least} or more.")
        if self.range_max is not None:
            self.check_range(self.range_max)
        for name in THRESHOLDS:
            threshold = getattr(self, name)
            if threshold is not None and math.isnan(threshold):
                raise ValueError(f"{name} is not a number (NaN). Pass a number, or None for no such rule.")
        if self.max_score is not None and self.min_score is not None and self.min_score > self.max_score:
            raise ValueError(
                f"min_score={self.min_score} is above max_score={self.max_score}, which no score can meet. "
                "Pass a lower min_score or a higher max_score."
            )
        if self.sampling_strategy not in SAMPLING_STRATEGIES:
            raise ValueError(
                f"sampling_strategy={self.sampling_strategy!r} must be one of "
                f"{', '.join(map(repr, SAMPLING_STRATEGIES))}. Pass what comes after `margin` by keyword: its "
                "order differs between releases."
            )

    def check_range(self, range_max: int) -> None:
        if not is_whole(range_max) or range_max <= self.range_min:
            raise ValueError(
                f"range_max={range_max!r} must be a whole number above range_min={self.range_min}, or None for a "
                "fitting one."
            )
        if range_max - self.range_min < self.num_negatives:
            raise ValueError(
                f"From range_min={self.range_min} to range_max={range_max} there are only "
                f"{range_max - self.range_min} candidates, which is too few for num_negatives="
                f"{self.num_negatives}. Pass a higher range_max, or a lower range_min or num_negatives."
            )

    @property
    def thresholds(self) -> dict[str, float]:
        """The rules about scores that are in force."""
        values = {name: getattr(self, name) for name in THRESHOLDS}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def places(self) -> dict[str, int]:
        """The rules about places."""
        places = {name: getattr(self, name) for name in ("num_negatives", "range_min", "range_max")}
        return {name: value for name, value in places.items() if value is not None}

    def with_range(self, most_positives: int) -> Rules:
        """The same rules with a `range_max`."""
        if self.range_max is not None:
            return self
        rules_out = any(name != "min_score" for name in self.thresholds)
        candidates = self.num_negatives * (CANDIDATES_PER_NEGATIVE if rules_out else 1)
        return replace(self, range_max=self.range_min + candidates + most_positives)


@dataclass(frozen=True)
class Selection:
    """The negatives of some anchors, best first."""

    scores: Tensor
    """(a, n), minus infinity where there are fewer than n."""

    rows: Tensor
    """Rows of the corpus, (a, n), -1 where there are fewer than n."""

    candidates: int
    """How many candidates were looked at."""

    skipped: dict[str, int]
    """How many of them are no negatives, by reason."""


def select_negatives(
    candidates: Best,
    are_positives: Tensor,
    lowest_positives: Tensor,
    rules: Rules,
    generator: torch.Generator | None = None,
) -> Selection:
    """Choose the negatives of some anchors.

    Candidates that break a rule about scores are left out first. Of the others, those from place `range_min`
    to before place `range_max` are open to choice, counted from 0 with the best.

    Args:
        candidates: Scores and rows, (a, k), best first; rows of -1 at the end where there are fewer.
        are_positives: Whether each is a positive of its anchor, (a, k).
        lowest_positives: The lowest score of the positives of each anchor, (a,).
        rules: The rules, with a `range_max`.
        generator: Draws the random sample.
    """
    found = candidates.rows >= 0
    passes = found.clone()
    skipped = {}
    for reason, breaks in broken_rules(candidates.scores, are_positives, lowest_positives, rules):
        skipped[reason] = int((passes & breaks).count_nonzero())
        passes &= ~breaks
    place = passes.cumsum(dim=1) - 1  # (a, k), among those that pass
    too_early, too_late = place < rules.range_min, place >= (rules.range_max or torch.inf)
    is_open = passes & ~too_early & ~too_late
    chosen = is_open & is_among_first(is_open, rules, generator)
    skipped["range_min"] = int((passes & too_early).count_nonzero())
    skipped["range_max"] = int((passes & too_late).count_nonzero())
    skipped["not_chosen"] = int((is_open & ~chosen).count_nonzero())

    shape = (len(found), rules.num_negatives)
    scores = candidates.scores.new_full(shape, -torch.inf)
    rows = candidates.rows.new_full(shape, -1)
    where = (chosen.nonzero()[:, 0], (chosen.cumsum(dim=1) - 1)[chosen])
    scores[where], rows[where] = candidates.scores[chosen], candidates.rows[chosen]
    return Selection(scores, rows, int(found.count_nonzero()), skipped)


def broken_rules(
    scores: Tensor, are_positives: Tensor, lowest_positives: Tensor, rules: Rules
) -> Iterator[tuple[str, Tensor]]:
    """Each rule that does not depend on other candidates, and which candidates break it, (a, k)."""
    if not rules.include_positives:
        yield "positive", are_positives
    for name, threshold in rules.thresholds.items():
        limit = LIMITS[name](lowest_positives, threshold).unsqueeze(1)  # (a, 1)
        # Put so that a NaN breaks the rule.
        yield name, ~(scores >= limit if name == "min_score" else scores <= limit)


def is_among_first(is_open: Tensor, rules: Rules, generator: torch.Generator | None) -> Tensor:
    """Of the open candidates, (a, k), the number that is wanted: the first ones, or a random sample."""
    if rules.sampling_strategy == "top":
        return is_open.cumsum(dim=1) <= rules.num_negatives
    lots = torch.rand(is_open.shape, generator=generator).masked_fill(~is_open, -1)
    drawn = lots.topk(min(rules.num_negatives, lots.shape[1]), dim=1).indices
    return torch.zeros_like(is_open).scatter(1, drawn, True)


def in_order(candidates: Best) -> Best:
    """Candidates sorted by their scores, (a, k); those that score the same keep their order."""
    scores, order = candidates.scores.sort(dim=1, descending=True, stable=True)
    return Best(scores, candidates.rows.gather(1, order))


def is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
