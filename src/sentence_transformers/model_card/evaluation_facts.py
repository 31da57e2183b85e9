"""Results of evaluators, kept as plain values and turned into tables and hub metadata.

Only the results are kept, never the evaluator: it may hold a whole corpus.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sentence_transformers.model_card.markdown import table

RETRIEVAL_EVALUATORS = ("InformationRetrieval", "NanoBEIR", "NanoEvaluator")


@dataclass(frozen=True)
class EvaluationResult:
    """What one evaluator measured; `metrics` are named without the evaluator's own name."""

    evaluator: str
    name: str
    description: str
    primary_metric: str | None
    metrics: dict[str, float]

    @classmethod
    def of(cls, evaluator: Any, metrics: Mapping[str, Any]) -> EvaluationResult:
        """Read an evaluator's name and description, and its metrics as plain floats."""
        name = getattr(evaluator, "name", "") or ""
        primary = getattr(evaluator, "primary_metric", None)
        return cls(
            evaluator=type(evaluator).__name__,
            name=name,
            description=getattr(evaluator, "description", None) or words_of(type(evaluator).__name__),
            primary_metric=primary.removeprefix(f"{name}_") if primary else None,
            metrics={key.removeprefix(f"{name}_"): float(value) for key, value in metrics.items()},
        )

    @property
    def is_retrieval(self) -> bool:
        return any(part in self.evaluator for part in RETRIEVAL_EVALUATORS)


def words_of(class_name: str) -> str:
    """`TripletEvaluator` -> `Triplet`, `MSEEvaluator` -> `MSE`, `InformationRetrieval…` -> two words."""
    name = re.sub(r"Evaluator$", "", class_name)
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name) or class_name


def evaluation_tables(results: Sequence[EvaluationResult]) -> list[dict[str, str]]:
    """One table for results of the same kind, with a column for each data set."""
    groups: dict[tuple[str, tuple[str, ...]], list[EvaluationResult]] = {}
    for result in results:
        groups.setdefault((result.evaluator, tuple(result.metrics)), []).append(result)
    tables = []
    for (evaluator, metrics), members in groups.items():
        primary = members[0].primary_metric
        tables.append(
            {
                "description": members[0].description,
                "class_name": evaluator,
                "dataset_names": ", ".join(member.name for member in members if member.name),
                "table_lines": table(
                    ["Metric", *(member.name or "Value" for member in members)],
                    [
                        [f"**{metric}**" if metric == primary else metric]
                        + [member.metrics[metric] for member in members]
                        for metric in metrics
                    ],
                ),
            }
        )
    return tables


def model_index(model_name: str, results: Sequence[EvaluationResult]) -> list[dict[str, Any]]:
    """The results as the hub's `model-index`; values that are not finite are left out."""
    entries = [
        {
            "task": {"type": result.description.lower().replace(" ", "-"), "name": result.description},
            "dataset": {"name": readable(result.name) or "Unknown", "type": result.name or "unknown"},
            "metrics": [
                {"type": metric, "value": value, "name": readable(metric).title()}
                for metric, value in result.metrics.items()
                if math.isfinite(value)
            ],
        }
        for result in results
    ]
    return [{"name": model_name, "results": entries}] if entries else []


def readable(name: str) -> str:
    return name.replace("_", " ").replace("-", " ")
