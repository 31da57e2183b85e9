"""What is found out about the ways to run a model: the figures, and how they are shown."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from sentence_transformers.backend.exported import ExportedModel
from sentence_transformers.backend.untouched import every_module


@dataclass(frozen=True, kw_only=True)
class WayRow:
    """What was found out about a way; None for what was not."""

    way: str

    verdict: str
    """"chosen", "slower" than the chosen one, "too far" from float32 for what was asked, or "not here"."""

    reason: str = ""
    """Why it is too far, or not here."""

    texts_per_second: float | None = None
    times_float32: float | None = None
    """How many times as fast as float32 it computes many texts: the median over rounds in which both took turns."""

    single_ms: float | None = None
    """Milliseconds of a single text."""

    times_float32_single: float | None = None

    megabytes: float | None = None
    """Size of the weights, or of the files of a graph, in 10^6 bytes."""

    similarity: float | None = None
    """Mean cosine of its vectors and float32's; of a cross-encoder the correlation of the scores."""

    least_cosine: float | None = None
    greatest_difference: float | None = None
    """Of a cross-encoder's scores."""

    score: float | None = None
    """The evaluator's."""

    score_kept: float | None = None
    """That score as a share of float32's."""


@dataclass(frozen=True, kw_only=True)
class Optimized:
    """A model that runs in the chosen way, and what was found out about all ways."""

    model: Any
    way: str
    rows: list[WayRow]

    load_options: dict[str, Any]
    """Arguments of the constructor that opens the model the same way, once it is saved."""

    unit: str = "text"

    def table(self) -> str:
        """All rows as text."""
        columns = [
            Column(f"{self.unit}s/s", "texts_per_second", "{:,.0f}"),
            Column("× float32", "times_float32", "{:.2f}"),
            Column(f"ms a {self.unit}", "single_ms", "{:.2f}"),
            Column("× float32", "times_float32_single", "{:.2f}"),
            Column("MB", "megabytes", "{:,.1f}"),
            Column("mean cosine" if self._has("least_cosine") else "correlation", "similarity", "{:.4f}"),
            Column("least", "least_cosine", "{:.4f}"),
            Column("greatest difference", "greatest_difference", "{:.4f}"),
            Column("score", "score", "{:.4f}"),
            Column("kept", "score_kept", "{:.1%}"),
        ]
        columns = [column for column in columns if self._has(column.name)]
        lines = [["way", *(column.title for column in columns), ""]]
        for row in self.rows:
            note = f"{row.verdict}: {row.reason}" if row.reason else row.verdict
            lines.append([row.way, *(column.shown(row) for column in columns), note])
        widths = [max(map(len, cells)) for cells in zip(*(line[:-1] for line in lines), strict=True)]
        return "\n".join(
            "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:-1], widths[1:]), line[-1]]).rstrip()
            for line in lines
        )

    def _has(self, name: str) -> bool:
        return any(getattr(row, name) is not None for row in self.rows)

    def __str__(self) -> str:
        return self.table()


@dataclass(frozen=True)
class Column:
    """How a figure is shown."""

    title: str
    name: str
    form: str

    def shown(self, row: WayRow) -> str:
        value = getattr(row, self.name)
        return "-" if value is None else self.form.format(value)


class Likeness(NamedTuple):
    """How near results are to others; see `WayRow`."""

    similarity: float
    least_cosine: float | None = None
    greatest_difference: float | None = None


def compare_vectors(right: np.ndarray, others: np.ndarray) -> Likeness:
    """Mean and least cosine of the rows of two arrays (n, D); rows of zeros are like each other alone."""
    right, others = right.astype(np.float64), others.astype(np.float64)
    lengths = np.linalg.norm(right, axis=1) * np.linalg.norm(others, axis=1)  # (n,)
    same = (right == others).all(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = np.where(same, 1.0, (right * others).sum(axis=1) / lengths)  # (n,)
    cosines[(lengths == 0) & ~same] = 0.0
    return Likeness(float(cosines.mean()), least_cosine=float(cosines.min()))


def compare_scores(right: np.ndarray, others: np.ndarray) -> Likeness:
    """Correlation and greatest difference of scores, (n,) or (n, labels); NaN where only one of them varies."""
    right, others = (values.astype(np.float64).ravel() for values in (right, others))
    difference = float(np.abs(right - others).max())
    deviations = [values - values.mean() for values in (right, others)]
    length = np.linalg.norm(deviations[0]) * np.linalg.norm(deviations[1])
    if difference == 0:
        correlation = 1.0
    else:
        correlation = float(deviations[0] @ deviations[1] / length) if length > 0 else float("nan")
    return Likeness(correlation, greatest_difference=difference)


def megabytes(model: Any) -> float:
    """Size of a model's weights and graphs, in 10^6 bytes."""
    tensors = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    for part in every_module(model):
        if isinstance(part, ExportedModel):
            size += sum(file.stat().st_size for file in (part.graph, *part.format.companions(part.graph)))
    return size / 1e6


def share_kept(score: float, reference: float, *, greater_is_better: bool) -> float:
    """A score as a share of a reference's; NaN where one is negative or zero and the other is not."""
    if score == reference:
        return 1.0
    if greater_is_better == (reference > 0):  # also of two negated errors the smaller error is the better one
        better, worse = reference, score
    else:
        better, worse = score, reference
    return worse / better if worse * better > 0 else float("nan")
