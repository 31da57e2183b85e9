"""Tell what was mined, what was skipped and why, and how alike the texts are.

A value to read from, and a table to print. Nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

QUANTILES: Mapping[str, float] = {"min": 0, "25 %": 25, "median": 50, "75 %": 75, "max": 100}

EXPLANATIONS: Mapping[str, str] = {
    "positive": "positives of the anchor",
    "max_score": "score above max_score={}",
    "min_score": "score below min_score={}",
    "absolute_margin": "too near to the positive for absolute_margin={}",
    "relative_margin": "too near to the positive for relative_margin={}",
    "range_min": "before range_min={}",
    "range_max": "from range_max={} on",
    "not_chosen": "more than num_negatives={}",
}
"""What the reasons of `selection.py` mean."""

SETTING_OF_REASON = {"not_chosen": "num_negatives"}
"""The setting that a reason stands for, where it is not called the same."""


@dataclass(frozen=True)
class ScoreStatistics:
    """How scores are spread."""

    count: int
    values: dict[str, float]
    """Mean, standard deviation and quantiles by name, as far as there are enough scores for them."""

    @classmethod
    def of(cls, scores: np.ndarray) -> ScoreStatistics:
        """Of finite scores, (n,)."""
        if not len(scores):
            return cls(0, {})
        scores = scores.astype(np.float64)
        values = {"mean": float(scores.mean())}
        if len(scores) > 1:
            values["std"] = float(scores.std(ddof=1))
        quantiles = np.percentile(scores, list(QUANTILES.values())).tolist()
        return cls(len(scores), {**values, **dict(zip(QUANTILES, quantiles, strict=True))})


@dataclass(frozen=True, kw_only=True)
class MiningReport:
    """What came of mining; printed, it is a table."""

    rows: int
    """Rows of the dataset that was given."""

    pairs: int
    """Different pairs of anchor and positive in it."""

    anchors: int
    """Different anchors in it."""

    corpus: int
    """Different texts that negatives could be."""

    settings: dict[str, float] = field(default_factory=dict)
    """The rules in force, by argument."""

    candidates: int
    """Candidates looked at: an anchor and a text of the corpus."""

    skipped: dict[str, int]
    """How many of them are no negatives, by reason; each counts for the first reason that holds."""

    negatives: int
    """How many of them are negatives."""

    complete: int
    """Anchors with as many negatives as are wanted."""

    short: int
    """Anchors with fewer."""

    without: int
    """Anchors with none."""

    dropped: int
    """Pairs that are not in the result, because their anchor has too few negatives for its form."""

    written: int
    """Rows of the result."""

    scores: dict[str, ScoreStatistics]
    """Of the `positive` and `negative` in the result, and their `difference`."""

    def __str__(self) -> str:
        return "\n".join([*self.what_was_mined(), "", *self.score_table(), "", *self.candidate_table()])

    def what_was_mined(self) -> list[str]:
        wanted = self.settings["num_negatives"]
        lines = [
            f"Mined hard negatives for {number(self.anchors, 'anchor')} in {number(self.pairs, 'pair')}, out of "
            f"{number(self.corpus, 'text')}: the result has {number(self.written, 'row')}."
        ]
        if self.rows > self.pairs:
            lines.append(f"{number(self.rows - self.pairs, 'row')} of the dataset repeated another one.")
        if self.short or self.without:
            lines.append(
                f"Of the anchors {self.complete:,} have {wanted} negatives, {self.short:,} fewer, {self.without:,} none; "
                f"{number(self.dropped, 'pair')} therefore dropped. {self.advice()}"
            )
        return lines

    def advice(self) -> str:
        """What to change to find more negatives."""
        culprits = [name for name in self.settings if name not in ("num_negatives", "range_max", "range_min")]
        relaxed = f", or relax {', '.join(culprits)}" if culprits else ""
        return f"For more, raise range_max={self.settings['range_max']}{relaxed}, or give a larger corpus."

    def score_table(self) -> list[str]:
        lines = [f"{'scores':<8}" + "".join(f"{name:>12}" for name in self.scores)]
        lines.append(f"{'count':<8}" + "".join(f"{part.count:>12,}" for part in self.scores.values()))
        for name in ("mean", "std", *QUANTILES):
            values = [part.values.get(name) for part in self.scores.values()]
            shown = ["-" if value is None else f"{value:.4f}" for value in values]
            lines.append(f"{name:<8}" + "".join(f"{value:>12}" for value in shown))
        return lines

    def candidate_table(self) -> list[str]:
        counts = {
            EXPLANATIONS[reason].format(self.settings.get(SETTING_OF_REASON.get(reason, reason))): count
            for reason, count in self.skipped.items()
            if count or (reason in self.settings and not reason.startswith("range"))
        }
        lines = {"candidates": self.candidates, **{f"  skipped: {text}": n for text, n in counts.items()}}
        lines["  negatives"] = self.negatives
        width = max(map(len, lines))
        total = max(1, self.candidates)
        return [f"{text:<{width}}{count:>14,}{count / total:>9.1%}" for text, count in lines.items()]


def number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
