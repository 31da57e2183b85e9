"""What runs on the machines of a cluster: a model, loaded once, that computes what it is sent.

An actor gets its `Task` when it starts, which says where the model comes from and what to compute. Which inputs it
gets, and how many such actors there are, is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from sentence_transformers.cross_encoder.model import CrossEncoder
from sentence_transformers.inference.workers import Parcel
from sentence_transformers.sentence_transformer.model import SentenceTransformer
from sentence_transformers.tensors.precision import quantize_embeddings

KINDS: Mapping[str, type[SentenceTransformer] | type[CrossEncoder]] = {
    "encode": SentenceTransformer,
    "predict": CrossEncoder,
}
"""Method that computes -> the kind of model that has it."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What each actor computes.

    Attributes:
        method: A key of `KINDS`.
        model: Name or folder of the model, or a reference to a `Parcel` with the model itself.
        model_options: Arguments of the model's constructor, for a name.
        device: Where the model goes.
        threads: Threads that a model on the CPU computes with; None for as many as torch chooses.
        options: Arguments of the method.
        precision: What the vectors are stored as.
        ranges: Least and largest value of each dimension, (2, D), for the precisions that need them.
    """

    method: str
    model: Any
    model_options: Mapping[str, Any]
    device: str
    threads: int | None
    options: Mapping[str, Any]
    precision: str = "float32"
    ranges: np.ndarray | None = field(default=None, compare=False)


class ModelActor:
    """Computes lists of inputs."""

    def __init__(self, task: Task) -> None:
        self.task = task
        if task.threads is not None:
            torch.set_num_threads(task.threads)
        self.model = loaded(task)

    def compute(self, inputs: Sequence[Any]) -> np.ndarray:
        """Vectors (n, D) of inputs, or scores (n,) or (n, labels) of pairs."""
        if not len(inputs):
            return self._stored(np.zeros(self._shape_of_nothing(), dtype=np.float32))
        method = getattr(self.model, self.task.method)
        return self._stored(method(inputs, show_progress_bar=False, **self.task.options))

    def _stored(self, values: np.ndarray) -> np.ndarray:
        if self.task.precision == "float32":
            return values
        return quantize_embeddings(values, self.task.precision, self.task.ranges)  # type: ignore[arg-type]

    def _shape_of_nothing(self) -> tuple[int, ...]:
        if isinstance(self.model, CrossEncoder):
            return (0, self.model.num_labels) if self.model.num_labels > 1 else (0,)
        width = self.model.get_sentence_embedding_dimension() or 0
        return (0, min(width, self.task.options.get("truncate_dim") or width))


class ColumnActor(ModelActor):
    """Computes columns of tables: what `map_batches` of a data set calls.

    Args:
        task: What to compute.
        columns: The column with the inputs, or the two with the texts of each pair.
        output_column: The column that is added.
    """

    def __init__(self, task: Task, columns: Sequence[str], output_column: str) -> None:
        super().__init__(task)
        self.columns = columns
        self.output_column = output_column

    def __call__(self, table: Any) -> Any:
        """The table (an Arrow one) with a column more; the others are left as they are."""
        check_columns(table.column_names, self.columns, self.output_column)
        for name in self.columns:
            empty = table.column(name).null_count
            if empty:
                raise ValueError(
                    f"Column {name!r} holds nothing in {empty} of {len(table)} rows. Fill or filter these rows first."
                )
        values = [table.column(name).to_pylist() for name in self.columns]
        inputs = values[0] if len(values) == 1 else list(zip(*values))
        return table.append_column(self.output_column, arrow_column(self.compute(inputs)))


def loaded(task: Task) -> Any:
    """The model of a task, on its device."""
    if isinstance(task.model, str):
        return KINDS[task.method](task.model, device=task.device, **task.model_options)
    import ray

    parcel: Parcel = ray.get(task.model)
    return parcel.open().to(task.device)


def check_columns(names: Sequence[str], columns: Sequence[str], output_column: str) -> None:
    """Raise `ValueError` unless there are these columns, and none of the name of the one to come."""
    for column in columns:
        if column not in names:
            there = ", ".join(map(repr, names)) or "none"
            raise ValueError(f"The data set has no column {column!r}. Its columns: {there}.")
    if output_column in names:
        raise ValueError(
            f"The data set has a column {output_column!r} already. Pass another output_column, or drop that one first."
        )


def arrow_column(values: np.ndarray) -> Any:
    """Numbers (n,) as a plain column, vectors (n, D) as one of tensors."""
    import pyarrow
    from ray.data.extensions import ArrowTensorArray

    values = np.ascontiguousarray(values)
    return pyarrow.array(values) if values.ndim == 1 else ArrowTensorArray.from_numpy(values)
