"""Tell what an evaluator measured: a row of a CSV file, and lines of the log.

The one place that writes these files. Which numbers there are, and what they are called, is the
evaluators' business; the model card is filled through `BaseEvaluator.store_metrics_in_model_card_data`.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

logger = logging.getLogger("sentence_transformers.evaluation")


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What an evaluator found out about a model.

    Attributes:
        metrics: Numbers by name, without the evaluator's own name.
        primary: Which of them is the main score.
        columns: The values of the CSV file after `epoch` and `steps`, by column.
    """

    metrics: Mapping[str, float]
    primary: str
    columns: Mapping[str, Any] = field(default_factory=dict)


def write_csv_row(folder: str | Path, file_name: str, headers: Sequence[str], values: Sequence[Any]) -> Path:
    """Add one row to a CSV file; a new file gets the header first.

    Args:
        folder: Where the file is; made if need be.
        file_name: Name of the file.
        headers: Names of the columns.
        values: The row.

    Returns:
        Path of the file.
    """
    path = Path(folder) / file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists() or path.stat().st_size == 0
    text = io.StringIO(newline="")
    csv.writer(text).writerows([headers, values] if is_new else [values])
    # One unbuffered write: a crash leaves a whole row or none.
    with open(path, "ab", buffering=0) as file:
        file.write(text.getvalue().encode("utf-8"))
    return path


def log_metrics(evaluator: Any, metrics: Mapping[str, float], epoch: int, steps: int) -> None:
    """Log what was measured, and when."""
    name = getattr(evaluator, "name", "")
    dataset = f" on {name}" if name else ""
    logger.info("%s%s%s:", type(evaluator).__name__, dataset, moment(epoch, steps))
    for key, value in metrics.items():
        logger.info("  %s: %.6g", key, value)


def moment(epoch: int, steps: int) -> str:
    """When in training something happens, in words; nothing outside of training."""
    if epoch == -1:
        return ""
    return f" after epoch {epoch}" if steps == -1 else f" in epoch {epoch} after {steps} steps"
