"""What an evaluator's answer means to training: the metrics by name, the one that counts, and what is better.

Nothing here decides when to evaluate or what to do with a score.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

BELOW_OUTPUT = "eval"
"""Folder below that of the model for what evaluators write."""

BARE_SCORE = "evaluator"
"""Name of the score of an evaluator that returns just a number."""


def run_evaluator(
    evaluator: Any,
    model: Any,
    output_path: str | None,
    epoch: float,
    steps: int,
    *,
    subfolder: str = BELOW_OUTPUT,
) -> dict[str, Any]:
    """Evaluate a model during training.

    Args:
        evaluator: Called as `evaluator(model, output_path=…, epoch=…, steps=…)`.
        model: The model.
        output_path: Folder below which the evaluator may write; None for none.
        epoch: When this is.
        steps: When in the epoch, or in all.
        subfolder: Where below `output_path` it may; empty for that folder itself.

    Returns:
        Metrics by name, as a trainer names them: each begins with `eval_`.

    Raises:
        ValueError: If there are several and the evaluator does not say which of them counts.
    """
    folder = None
    if output_path is not None:
        folder = Path(output_path) / subfolder
        folder.mkdir(parents=True, exist_ok=True)
    result = evaluator(model, output_path=None if folder is None else str(folder), epoch=epoch, steps=steps)
    metrics = dict(result) if isinstance(result, Mapping) else {BARE_SCORE: result}
    metrics = {name_in_metrics(name): value for name, value in metrics.items()}
    if score_in(metrics, evaluator) is None:
        raise ValueError(
            f"The evaluator returned {sorted(result)} and has primary_metric="
            f"{getattr(evaluator, 'primary_metric', None)!r}. Set it to the name of the metric that tells which "
            "model is the best."
        )
    return metrics


def score_in(metrics: Mapping[str, Any], evaluator: Any) -> Any:
    """The evaluator's score among a trainer's metrics; None if there is no evaluator, or it has not run."""
    if evaluator is None:
        return None
    return metrics.get(name_in_metrics(getattr(evaluator, "primary_metric", None) or BARE_SCORE))


def gain(score: float, evaluator: Any) -> float:
    """The score such that more is better."""
    return score if getattr(evaluator, "greater_is_better", True) else -score


def name_in_metrics(name: str) -> str:
    return name if name.startswith("eval_") else f"eval_{name}"
