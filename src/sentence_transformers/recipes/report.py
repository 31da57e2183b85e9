"""What a recipe found out: rows of figures, curves, and the files that keep them.

`metrics.json` holds everything, `report.md` the table for people, `curves.png` the curves where matplotlib is
installed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sentence_transformers.storage.environment import get_installed_version
from sentence_transformers.storage.folder import replacing, write_json, write_text

logger = logging.getLogger(__name__)

METRICS, TABLE, CURVES = "metrics.json", "report.md", "curves.png"
NAMED = ("torch", "transformers", "sentence-transformers")
MOST_NAMED = 10
"""Curves up to which each is named in the picture."""


@dataclass(frozen=True)
class Report:
    """Figures of one run.

    `rows` are the lines of the table: "model" says what was measured, the other keys are figures (per cent,
    unless the key names a unit). `curves` holds what was written down while training: for each training the
    trainer's log entries, with `step`, `epoch` and figures.
    """

    recipe: str
    folder: Path
    settings: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    curves: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    """How long each step took, in all the processes it took."""

    @property
    def model_path(self) -> Path | None:
        """Folder of the finished model; None where a recipe makes none, such as `quantization`."""
        path = self.folder / "model"
        return path if path.is_dir() else None

    def row(self, name: str) -> Mapping[str, Any]:
        """The figures of one line of the table."""
        for row in self.rows:
            if row["model"] == name:
                return row
        raise KeyError(
            f"Nothing was measured of {name!r}, only of {', '.join(row['model'] for row in self.rows)}."
        )

    def table(self) -> str:
        """The rows as a table in Markdown."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        lines = ["| " + " | ".join(names) + " |", "| " + " | ".join("---" for _ in names) + " |"]
        lines += ["| " + " | ".join(shown(row.get(name)) for name in names) + " |" for row in self.rows]
        return "\n".join(lines)

    def write(self) -> None:
        """Write the files of the report."""
        versions = {name: get_installed_version(name) for name in NAMED}
        everything = {
            "recipe": self.recipe,
            "settings": dict(self.settings),
            "rows": [dict(row) for row in self.rows],
            "curves": {name: list(entries) for name, entries in self.curves.items()},
            "seconds": {name: round(seconds, 1) for name, seconds in self.seconds.items()},
            "versions": {name: version for name, version in versions.items() if version},
        }
        write_json(self.folder / METRICS, everything)
        settings = "\n".join(
            f"- {name}: {value}" for name, value in self.settings.items() if value is not None
        )
        write_text(self.folder / TABLE, f"# {self.recipe}\n\n{self.table()}\n\n{settings}\n")
        draw(self.curves, self.folder / CURVES)


def shown(value: Any) -> str:
    """A cell of the table."""
    if value is None:
        return ""
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def draw(curves: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Draw the curves of all trainings, one picture for the losses and one for each figure of dev."""
    figures = [entry for entries in curves.values() for entry in entries]
    names = list(dict.fromkeys(name for entry in figures for name in entry if drawable(name)))
    if not names:
        return
    try:
        from matplotlib.figure import Figure
    except ImportError:
        logger.info("No curves are drawn without matplotlib: pip install 'sentence-transformers[demo]'")
        return
    figure = Figure(figsize=(7, 3 * len(names)), layout="constrained")
    all_axes = figure.subplots(len(names), squeeze=False)[:, 0]
    for axes, name in zip(all_axes, names, strict=True):
        for training, entries in curves.items():
            points = [(entry["step"], entry[name]) for entry in entries if name in entry]
            if points:
                marker = "o" if len(points) < 20 else None
                axes.plot(*zip(*points, strict=True), marker=marker, markersize=3, label=training)
        axes.set(xlabel="step", ylabel=name)
        axes.grid(alpha=0.3)
        if len(curves) <= MOST_NAMED:
            axes.legend(fontsize="small")
    with replacing(path) as other:
        figure.savefig(other, format="png", dpi=110)


def drawable(name: str) -> bool:
    """Whether a figure of the trainer's log is worth a picture."""
    return name == "loss" or name.startswith("dev")
