"""A model learns the embeddings that another gives the same texts.

Shared by the recipes that make models smaller. The teacher reads every text once, into a file; students are then
trained on the texts and that file. Which student it is, they say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import nn

from sentence_transformers.losses.embed_distill import EmbedDistillLoss, MSELoss
from sentence_transformers.recipes.config import TrainedConfig, option
from sentence_transformers.recipes.judging import Judge, judged
from sentence_transformers.recipes.running import Run
from sentence_transformers.recipes.speeds import Speed, megabytes
from sentence_transformers.recipes.tables import read_rows, read_texts, some_of
from sentence_transformers.recipes.training import load
from sentence_transformers.training.batch_samplers import LengthGroupedBatchSampler

VECTORS = "teacher.npy"


@dataclass(kw_only=True)
class TaughtConfig(TrainedConfig):
    """What a student is taught with."""

    model: str = option("all-MiniLM-L6-v2", help="The teacher: a folder, or a name.")
    texts: list[Path] = option(
        [],
        help="Texts to learn from: lines of a .txt, or columns of a table (also .gz). Several times, if you like.",
    )
    columns: list[str] = option([], help="Columns of tables to read, of those that have them; else `text`.")
    loss: Literal["mse", "cosine"] = option("mse", help="How far the student is from the teacher.")
    batch_size: int = option(64, help="Rows in a batch.", least=1)
    learning_rate: float = option(2e-4, help="Highest learning rate.", least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.texts and self.learns:
            raise ValueError("There is nothing to learn from. Pass at least one file of texts.")

    @property
    def learns(self) -> bool:
        """Whether there will be any training."""
        return True


def texts_of_files(paths: Sequence[Path], columns: Sequence[str], limit: int | None, seed: int) -> list[str]:
    """Different texts of some files, `limit` of them drawn at random."""
    texts: dict[str, None] = {}
    for path in paths:
        for found in texts_of_file(path, columns):
            texts.setdefault(found)
    return some_of(list(texts), limit, seed)


def texts_of_file(path: Path, columns: Sequence[str]) -> list[str]:
    """The texts of a file; of a table those in the columns of these names.

    Raises:
        ValueError: If it is a table that has none of them.
    """
    if not columns or ".txt" in path.suffixes[-2:]:
        return read_texts(path)
    rows = read_rows(path)
    there = [name for name in columns if name in rows[0]]
    if not there:
        raise ValueError(
            f"{path} has none of the columns {', '.join(map(repr, columns))}. It has {', '.join(map(repr, rows[0]))}."
        )
    return [row[name] for row in rows for name in there if row[name]]


def pairs_of_file(path: Path, columns: Sequence[str]) -> list[tuple[str, str]]:
    """Texts that stand beside each other in a row of a table; none if it has less than two of the columns."""
    if ".txt" in path.suffixes[-2:]:
        return []
    rows = read_rows(path)
    there = [name for name in columns if name in rows[0]]
    return [
        (row[first], row[second])
        for first, second in pairwise(there)
        for row in rows
        if row[first] and row[second]
    ]


def config_texts(config: TaughtConfig) -> list[str]:
    """The texts that a config asks to learn from: the same ones each time."""
    return texts_of_files(config.texts, config.columns, config.limit, config.seed)


def taught_vectors(run: Run, config: TaughtConfig) -> Path:
    """A file with the teacher's vector of each text, (N, D); made now, or by an earlier process."""

    def embed(folder: Path) -> None:
        load(config.model, config).encode_to(
            folder / VECTORS, config_texts(config), show_progress_bar=not config.quiet
        )

    return run.step("teacher", embed, goes_on=True) / VECTORS


def lesson(texts: Sequence[str], vectors: np.ndarray) -> Any:
    """A data set of texts and the vectors (N, D) they shall get, which are not copied."""
    import pyarrow
    from datasets import Dataset

    width = vectors.shape[1]
    labels = pyarrow.FixedSizeListArray.from_arrays(
        pyarrow.array(np.ascontiguousarray(vectors).reshape(-1)), width
    )
    return Dataset(pyarrow.table({"text": pyarrow.array(list(texts)), "label": labels}))


def loss_of(config: TaughtConfig, student: Any) -> nn.Module:
    """The loss that a config asks for."""
    return MSELoss(student) if config.loss == "mse" else EmbedDistillLoss(student, "cosine")


def arguments() -> Mapping[str, Any]:
    """Training arguments of teaching. Texts of like length stand together, so that little of a batch is padding."""
    return {"batch_sampler": LengthGroupedBatchSampler}


def beside_teacher(run: Run, judges: Sequence[Judge], model: Any, speed: Speed | None) -> dict[str, Any]:
    """Figures of a model: how good, and how much of the teacher's figure that is; how large, and how fast.

    The teacher is the line "start", which is measured first.
    """
    found: dict[str, Any] = judged(model, judges)
    if judges:
        # Of several judges, the first one of a test set says how much is left.
        label = next((judge for judge in judges if judge.name != "dev"), judges[0]).label
        whole = run.rows["start"][label] if "start" in run.rows else found[label]
        found["% of start"] = round(100 * found[label] / whole, 2) if whole else None
    found["MB"] = megabytes(model)
    if speed is not None:
        found.update({"texts/s": speed.texts_per_second, "speed-up": speed.times_of_start})
    return found
