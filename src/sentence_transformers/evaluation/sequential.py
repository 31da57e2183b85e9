"""Several evaluators as one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sentence_transformers.evaluation.base import BaseEvaluator

logger = logging.getLogger(__name__)


class SequentialEvaluator(BaseEvaluator):
    """Runs evaluators one after the other, and returns the metrics of all.

    Args:
        evaluators: The evaluators. Give each a name where several of a kind report the same metrics.
        main_score_function: Makes the main score from the list of theirs; the last one by default.

    Example:
        >>> evaluator = SequentialEvaluator([first, second], main_score_function=lambda scores: sum(scores) / 2)
    """

    def __init__(
        self,
        evaluators: Iterable[BaseEvaluator],
        main_score_function: Callable[[list[float]], float] = lambda scores: scores[-1],
    ) -> None:
        super().__init__()
        self.evaluators = list(evaluators)
        self.main_score_function = main_score_function
        self.primary_metric = "sequential_score"

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        """Run all evaluators; arguments as in `BaseEvaluator.__call__`.

        Returns:
            The metrics of all evaluators, the number of one that returns just a number as `evaluator_<i>`, and
            `sequential_score`, which is 0 if there are no evaluators. Of equal names the last one counts.
        """
        metrics: dict[str, float] = {}
        scores: list[float] = []
        for number, evaluator in enumerate(self.evaluators):
            result = evaluator(model, output_path, epoch, steps)
            if not isinstance(result, Mapping):
                result = {f"evaluator_{number}": result}
            again = sorted(metrics.keys() & result.keys())
            if again:
                logger.warning("Several evaluators report %s. Give each of them a name.", ", ".join(again))
            primary = getattr(evaluator, "primary_metric", None)
            scores.append(result[primary] if primary in result else next(iter(result.values())))
            metrics.update(result)
        metrics["sequential_score"] = self.main_score_function(scores) if scores else 0.0
        return self.prefix_name_to_metrics(metrics, "")
