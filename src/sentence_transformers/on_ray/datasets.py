"""Vectors or scores as a further column of a Ray data set.

    data set → blocks of rows → actors on the machines of the cluster → the same rows with a column more

Ray reads, moves and retries; the actors stand in `actors.py`. Nothing is computed before the data set is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sentence_transformers.inference.options import DEFAULT_BATCH_SIZE, NEEDS_RANGES
from sentence_transformers.on_ray.actors import ColumnActor, Task, check_columns
from sentence_transformers.on_ray.tasks import (
    Room,
    check_count,
    check_installed,
    encoding_task,
    scoring_task,
)

if TYPE_CHECKING:
    from ray.data import Dataset

ROWS_PER_CALL = 1024
"""Rows an actor gets at once: enough to sort by length and fill batches, few enough that all actors get some."""


def encode_dataset(
    dataset: Dataset,
    model: Any,
    *,
    column: str = "text",
    output_column: str = "embedding",
    actors: int | tuple[int, int] | None = None,
    num_gpus: float = 0,
    num_cpus: float | None = None,
    rows_per_call: int = ROWS_PER_CALL,
    model_options: Mapping[str, Any] | None = None,
    ray_options: Mapping[str, Any] | None = None,
    task: str | None = None,
    prompt_name: str | None = None,
    prompt: str | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    precision: str = "float32",
    ranges: Any = None,
    normalize_embeddings: bool = False,
    truncate_dim: int | None = None,
    deterministic: bool = False,
) -> Dataset:
    """Add embeddings to a Ray data set, computed by actors on the machines of its cluster.

    Vectors are those that `SentenceTransformer.encode` gives in one process, up to its rounding.

    Args:
        dataset: The data set; its other columns are left as they are.
        model: Name or folder of a model, which every actor loads for itself (a folder must be there on each
            machine); or a `SentenceTransformer`, which is sent to them with its weights as they are now.
        column: The column with the inputs.
        output_column: The column to add; a tensor (D,) in each row.
        actors: How many actors there are; a pair for at least and at most so many; None for one or more, as
            there is room. Tasks that read the data need cores too: where actors would take all there are, Ray
            begins with one and adds others as it finds room.
        num_gpus: GPUs for each actor, which may be a fraction. With 0 it computes on the CPU.
        num_cpus: Cores for each actor, and the threads that one on the CPU computes with; None for one.
        rows_per_call: Rows that an actor gets at once.
        model_options: Arguments of `SentenceTransformer(name, …)`, such as `backend` or `revision`.
        ray_options: Further options of `Dataset.map_batches`, such as `resources` or `runtime_env`.
        task: "query" or "document", to encode as `encode_query` or `encode_document` do; or another route.
        prompt_name: As in `encode`.
        prompt: As in `encode`.
        batch_size: As in `encode`: inputs that the model computes at a time.
        precision: As in `encode`; "int8" and "uint8" need `ranges`.
        ranges: Least and largest value of each dimension, (2, D), for "int8" and "uint8".
        normalize_embeddings: As in `encode`.
        truncate_dim: As in `encode`.
        deterministic: As in `encode`; bits are the same on machines of the same kind with the same `num_cpus`.

    Returns:
        The data set with the column, which Ray computes when it is used.

    Raises:
        ImportError: If Ray is not installed.
        ValueError: If an argument makes no sense, there is no such column, or no such model
            (`ModelNotFoundError`). What is wrong with rows shows when Ray computes them.

    Example:
        >>> import ray  # doctest: +SKIP
        >>> from sentence_transformers.on_ray import encode_dataset
        >>> texts = ray.data.read_parquet("s3://bucket/texts")  # doctest: +SKIP
        >>> done = encode_dataset(texts, "all-MiniLM-L6-v2", actors=8, num_gpus=1)  # doctest: +SKIP
        >>> done.write_parquet("s3://bucket/embeddings")  # doctest: +SKIP
    """
    check_data_set(dataset, (column,), output_column, instead="encode")
    if precision in NEEDS_RANGES and ranges is None:
        raise ValueError(
            f"precision={precision!r} needs the range of each dimension, and no actor sees all rows. Pass ranges, "
            "(2, D), taken from a sample: np.stack([sample.min(axis=0), sample.max(axis=0)])."
        )
    room = Room(num_cpus=num_cpus, num_gpus=num_gpus, ray_options=ray_options)
    work = encoding_task(
        model,
        room=room,
        model_options=model_options,
        task=task,
        prompt_name=prompt_name,
        prompt=prompt,
        batch_size=batch_size,
        precision=precision,
        ranges=ranges,
        normalize_embeddings=normalize_embeddings,
        truncate_dim=truncate_dim,
        deterministic=deterministic,
    )
    return with_column(dataset, work, (column,), output_column, actors, room, rows_per_call)


def predict_dataset(
    dataset: Dataset,
    model: Any,
    *,
    columns: tuple[str, str] = ("query", "text"),
    output_column: str = "score",
    actors: int | tuple[int, int] | None = None,
    num_gpus: float = 0,
    num_cpus: float | None = None,
    rows_per_call: int = ROWS_PER_CALL,
    model_options: Mapping[str, Any] | None = None,
    ray_options: Mapping[str, Any] | None = None,
    prompt_name: str | None = None,
    prompt: str | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    activation_fn: Any = None,
    apply_softmax: bool = False,
    deterministic: bool = False,
) -> Dataset:
    """Add the scores of pairs to a Ray data set, computed by actors on the machines of its cluster.

    Args:
        dataset: As in `encode_dataset`.
        model: Name or folder of a model, or a `CrossEncoder`; see `encode_dataset`.
        columns: The columns with the first and the second text of each pair.
        output_column: The column to add; a number in each row, or a tensor (labels,).
        actors: As in `encode_dataset`.
        num_gpus: As in `encode_dataset`.
        num_cpus: As in `encode_dataset`.
        rows_per_call: As in `encode_dataset`.
        model_options: Arguments of `CrossEncoder(name, …)`.
        ray_options: As in `encode_dataset`.
        prompt_name: As in `CrossEncoder.predict`.
        prompt: As in `predict`.
        batch_size: As in `predict`.
        activation_fn: As in `predict`.
        apply_softmax: As in `predict`.
        deterministic: As in `predict`.

    Returns:
        The data set with the column, which Ray computes when it is used.

    Raises:
        ImportError: If Ray is not installed.
        ValueError: As in `encode_dataset`.

    Example:
        >>> from sentence_transformers.on_ray import predict_dataset
        >>> name = "cross-encoder/ms-marco-MiniLM-L6-v2"
        >>> scored = predict_dataset(pairs, name, columns=("query", "passage"), num_gpus=1)  # doctest: +SKIP
    """
    if isinstance(columns, str) or len(columns) != 2:
        raise ValueError(f"columns={columns!r} names no pair. Pass two names, such as ('query', 'text').")
    check_data_set(dataset, columns, output_column, instead="predict")
    room = Room(num_cpus=num_cpus, num_gpus=num_gpus, ray_options=ray_options)
    work = scoring_task(
        model,
        room=room,
        model_options=model_options,
        prompt_name=prompt_name,
        prompt=prompt,
        batch_size=batch_size,
        activation_fn=activation_fn,
        apply_softmax=apply_softmax,
        deterministic=deterministic,
    )
    return with_column(dataset, work, columns, output_column, actors, room, rows_per_call)


def check_data_set(dataset: Any, columns: Sequence[str], output_column: str, *, instead: str) -> None:
    """Raise `ValueError` unless this is a Ray data set, with these columns as far as they are known already."""
    check_installed()
    from ray.data import Dataset

    if not isinstance(dataset, Dataset):
        raise ValueError(
            f"{type(dataset).__name__} is no Ray data set. Make one, for example with ray.data.from_items, or use "
            f"{instead}, which takes lists."
        )
    # Where they are not known, asking would run the steps before this one; then an actor says it.
    names = dataset.columns(fetch_if_missing=False)
    if names is not None:
        check_columns(names, columns, output_column)


def with_column(
    dataset: Dataset,
    work: Task,
    columns: Sequence[str],
    output_column: str,
    actors: int | tuple[int, int] | None,
    room: Room,
    rows_per_call: int,
) -> Dataset:
    """The data set with what actors compute."""
    from ray.data import ActorPoolStrategy

    check_count("rows_per_call", rows_per_call)
    sizes = pool_sizes(actors, room)
    return dataset.map_batches(
        ColumnActor,
        fn_constructor_kwargs={"task": work, "columns": tuple(columns), "output_column": output_column},
        compute=ActorPoolStrategy(**sizes),
        batch_size=rows_per_call,
        batch_format="pyarrow",
        **room.as_options(),
    )


def pool_sizes(actors: int | tuple[int, int] | None, room: Room) -> dict[str, int]:
    """Arguments of Ray's `ActorPoolStrategy`."""
    import ray

    if actors is None:
        return {"min_size": 1}
    if isinstance(actors, tuple) and len(actors) == 2:
        for number in actors:
            check_count("actors", number)
        if actors[0] > actors[1]:
            raise ValueError(
                f"actors={actors!r} wants more at least than at most. Pass the smaller number first."
            )
        return {"min_size": actors[0], "max_size": actors[1]}
    check_count("actors", actors)
    assert isinstance(actors, int)
    if actors * (room.cpus or 0) < ray.cluster_resources().get("CPU", 0):
        return {"size": actors}
    # A fixed pool that holds every core keeps the tasks that read its rows from ever running.
    return {"min_size": 1, "max_size": actors}
