"""One run of a recipe in its folder: steps that are done once, also when the process is killed between them.

    out/
      run.json        the recipe, its settings, and the figures so far
      run.lock        while a process is at work here; a killed one may leave it, and no longer holds it
      steps/NAME/     what a finished step has made; NAME.part while it is at work
      model/          the finished model
      metrics.json, report.md, curves.png

A step is finished when its folder has its name. Whoever starts the same recipe with the same settings in the
same folder goes on behind the last finished step, and training within one (`training.py`).
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sentence_transformers.recipes.config import RecipeConfig
from sentence_transformers.recipes.report import Report
from sentence_transformers.storage.durable import only_one_writer, rename, write_json_durably
from sentence_transformers.storage.folder import read_json, write_text

logger = logging.getLogger(__name__)

RECORD, STEPS, PART, MODEL, CARD = "run.json", "steps", ".part", "model", "README.md"
LOCK = "run.lock"


@contextmanager
def only_run(recipe: str, config: RecipeConfig) -> Iterator[Run]:
    """A run of a recipe that has its folder to itself within the block.

    Args:
        recipe: The recipe's name.
        config: What it is asked to do.

    Raises:
        ValueError: If the folder holds something else; nothing in it is touched then.
        RuntimeError: If another process is at work in the folder.
    """
    refuse_no_run(config.out)
    config.out.mkdir(parents=True, exist_ok=True)
    with only_one_writer(config.out / LOCK):
        yield Run(recipe, config)


class Run:
    """A run of a recipe; recipes get theirs from `only_run`.

    Args:
        recipe: The recipe's name.
        config: What it is asked to do.

    Raises:
        ValueError: If the folder holds a run of something else; nothing in it is touched then. A run that came to
            nothing, because it was refused what it asked for, is none.
    """

    def __init__(self, recipe: str, config: RecipeConfig) -> None:
        self.recipe, self.config, self.folder = recipe, config, config.out
        self.settings = json.loads(json.dumps(config.settings()))
        self.rows: dict[str, dict[str, Any]] = {}
        self.seconds: dict[str, float] = {}
        if config.overwrite:
            remove_run(self.folder)
        record = self.folder / RECORD
        if record.is_file():
            found = read_json(record)
            if found["rows"] or (self.folder / STEPS).is_dir():
                refuse_another(found, recipe, self.settings, self.folder)
                self.rows, self.seconds = found["rows"], found["seconds"]
        refuse_no_run(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._keep()

    def step(self, name: str, work: Callable[[Path], Any], *, goes_on: bool = False) -> Path:
        """The folder with what a step makes. The work is done unless an earlier process has finished it.

        Args:
            name: Of the step and its folder.
            work: Called with an empty folder to write to.
            goes_on: The work knows how to go on with what it finds, so a part that was begun is kept.
        """
        done = self.made(name)
        if done.is_dir():
            return done
        part = done.with_name(name + PART)
        if not goes_on:
            shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True, exist_ok=True)
        logger.info("%s: %s", self.recipe, name)
        started = time.monotonic()
        try:
            work(part)
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started
            self._keep()
        rename(part, done)
        return done

    def made(self, name: str) -> Path:
        """Where a step that is finished has its folder."""
        return self.folder / STEPS / name

    def measure(self, name: str, figures: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """Figures of one line of the table, measured unless an earlier process has; kept at once."""
        if name not in self.rows:
            started = time.monotonic()
            self.rows[name] = {"model": name, **figures()}
            self.seconds[f"measuring {name}"] = time.monotonic() - started
            self._keep()
        return self.rows[name]

    def finish(self, model: Any = None, *, step: str = "training") -> Report:
        """Save the finished model with its card, and write the report.

        Args:
            model: The model; None where the recipe makes none.
            step: The training it comes from, if it was trained. Its card is that of the finished model: only the
                model that was trained knows with what. The figures of this run stand behind it.
        """
        curves = {
            path.parent.name: json.loads(path.read_text(encoding="utf-8"))
            for path in sorted((self.folder / STEPS).glob("*/curve.json"))
        }
        report = Report(
            self.recipe, self.folder, self.settings, list(self.rows.values()), curves, dict(self.seconds)
        )
        if model is not None and not (self.folder / MODEL).is_dir():
            part = self.folder / (MODEL + PART)
            shutil.rmtree(part, ignore_errors=True)
            model.save_pretrained(str(part))
            for card in (self.made(step) / MODEL / CARD, part / CARD):
                if card.is_file():
                    text = card.read_text(encoding="utf-8").rstrip()
                    write_text(part / CARD, f"{text}\n\n## Figures of `{self.recipe}`\n\n{report.table()}\n")
                    break
            rename(part, self.folder / MODEL)
        report.write()
        return report

    def _keep(self) -> None:
        """Write down what is known so far."""
        record = {
            "recipe": self.recipe,
            "settings": self.settings,
            "rows": self.rows,
            "seconds": self.seconds,
        }
        write_json_durably(self.folder / RECORD, record)


def refuse_another(found: Mapping[str, Any], recipe: str, settings: Mapping[str, Any], folder: Path) -> None:
    """Refuse to go on with a run of another recipe or with other settings."""
    ways = f"Choose another folder for out, or pass overwrite=True to begin anew in {folder}."
    if found["recipe"] != recipe:
        raise ValueError(f"{folder} holds a run of {found['recipe']!r}, not of {recipe!r}. {ways}")
    before = found["settings"]
    differing = [name for name in {**before, **settings} if before.get(name) != settings.get(name)]
    if differing:
        changes = ", ".join(
            f"{name} was {before.get(name)!r}, now {settings.get(name)!r}" for name in differing
        )
        raise ValueError(f"{folder} holds a run with other settings: {changes}. {ways}")


def remove_run(folder: Path) -> None:
    """Remove a run, but nothing else.

    Raises:
        ValueError: If the folder holds something else.
    """
    refuse_no_run(folder)
    if not (folder / RECORD).is_file():
        return
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in (RECORD, LOCK):
            path.unlink()
    # Last, so that a folder of which only a part was removed is still known as a run.
    (folder / RECORD).unlink()


def refuse_no_run(folder: Path) -> None:
    """Refuse a folder that holds anything but a run, or what a process leaves that was killed before it had one."""
    if not folder.is_dir() or (folder / RECORD).is_file():
        return
    if any(path.name not in (RECORD + ".tmp", LOCK) for path in folder.iterdir()):
        raise ValueError(
            f"{folder} holds files, but no run of a recipe, so nothing in it is touched. Choose an empty or new folder "
            "for out."
        )
