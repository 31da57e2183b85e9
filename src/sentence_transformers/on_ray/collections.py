"""Vectors or scores of a list of inputs, computed on a cluster, in the order of the inputs.

Chunks go to actors as they become free, and results come back into one array. Data sets that no machine could hold
stand in `datasets.py`, the actors in `actors.py`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sentence_transformers.cross_encoder.pairs import read_pairs
from sentence_transformers.inference.engine import progress_bar, wants_progress
from sentence_transformers.inference.options import DEFAULT_BATCH_SIZE, NEEDS_RANGES
from sentence_transformers.inference.workers import CHUNKS_PER_WORKER, LARGEST_CHUNK
from sentence_transformers.inputs.collections import as_list
from sentence_transformers.on_ray.actors import ModelActor, Task
from sentence_transformers.on_ray.tasks import Room, check_count, encoding_task, scoring_task
from sentence_transformers.tensors.precision import quantize_embeddings

logger = logging.getLogger(__name__)

RESTARTS = 3
"""How often an actor whose machine is lost starts anew elsewhere, and its chunk with it."""


def encode(
    inputs: Iterable[Any],
    model: Any,
    *,
    actors: int | None = None,
    num_gpus: float = 0,
    num_cpus: float | None = None,
    chunk_size: int | None = None,
    model_options: Mapping[str, Any] | None = None,
    ray_options: Mapping[str, Any] | None = None,
    task: str | None = None,
    prompt_name: str | None = None,
    prompt: str | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    show_progress_bar: bool | None = None,
    precision: str = "float32",
    ranges: Any = None,
    normalize_embeddings: bool = False,
    truncate_dim: int | None = None,
    deterministic: bool = False,
) -> np.ndarray:
    """Compute embeddings on a cluster; the result is that of `SentenceTransformer.encode`, up to its rounding.

    Runs on the cluster that this process is connected to (`ray.init(address=…)`, or the variable `RAY_ADDRESS`), and
    without one on this machine.

    Args:
        inputs: A collection of texts, or of what else the model takes.
        model: As in `encode_dataset`.
        actors: How many actors there are; None for as many as there is room for now. More than that wait for
            room, which a cluster that grows will make.
        num_gpus: As in `encode_dataset`.
        num_cpus: As in `encode_dataset`.
        chunk_size: Inputs that are sent to an actor at a time; None for a size that gives every actor several.
        model_options: As in `encode_dataset`.
        ray_options: Further options of Ray's actors, such as `resources` or `runtime_env`.
        task: As in `encode_dataset`.
        prompt_name: As in `SentenceTransformer.encode`.
        prompt: As in `encode`.
        batch_size: As in `encode`: inputs that the model computes at a time.
        show_progress_bar: As in `encode`.
        precision: As in `encode`.
        ranges: Least and largest value of each dimension, (2, D), for "int8" and "uint8"; None to take them
            from all vectors of the call.
        normalize_embeddings: As in `encode`.
        truncate_dim: As in `encode`.
        deterministic: As in `encode_dataset`.

    Returns:
        An array (n, D), in the order of the inputs; (0,) for none.

    Raises:
        ImportError: If Ray is not installed.
        ValueError: If an argument or an input makes no sense, or there is no such model (`ModelNotFoundError`).
        ray.exceptions.RayError: If an actor failed; Ray gives it the type of what was raised there, too.

    Example:
        >>> from sentence_transformers.on_ray import encode
        >>> vectors = encode(["one", "two", "three"], "all-MiniLM-L6-v2", actors=2)  # doctest: +SKIP
        >>> vectors.shape  # doctest: +SKIP
        (3, 384)
    """
    if isinstance(inputs, str):
        raise ValueError("This is one text, for which no cluster is needed. Pass a list of texts.")
    items = as_list(inputs)
    if precision in NEEDS_RANGES and deterministic and ranges is None:
        raise ValueError(
            f"precision={precision!r} takes its ranges from all texts of a call, so no text's codes are its own. Pass "
            "ranges, or deterministic=False."
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
    ranges_come_last = precision in NEEDS_RANGES and ranges is None
    if ranges_come_last:  # from all vectors, which are together only in the end
        work = replace(work, precision="float32")
    vectors = computed(work, items, room, actors, chunk_size, shown=wants_progress(show_progress_bar))
    return quantize_embeddings(vectors, precision) if ranges_come_last and len(items) else vectors  # type: ignore[arg-type]


def predict(
    pairs: Iterable[Any],
    model: Any,
    *,
    actors: int | None = None,
    num_gpus: float = 0,
    num_cpus: float | None = None,
    chunk_size: int | None = None,
    model_options: Mapping[str, Any] | None = None,
    ray_options: Mapping[str, Any] | None = None,
    prompt_name: str | None = None,
    prompt: str | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    show_progress_bar: bool | None = None,
    activation_fn: Any = None,
    apply_softmax: bool = False,
    deterministic: bool = False,
) -> np.ndarray:
    """Score pairs of texts on a cluster; the result is that of `CrossEncoder.predict`, up to its rounding.

    Args:
        pairs: A collection of pairs of texts.
        model: Name or folder of a model, or a `CrossEncoder`; see `encode_dataset`.
        actors: As in `encode`.
        num_gpus: As in `encode_dataset`.
        num_cpus: As in `encode_dataset`.
        chunk_size: As in `encode`.
        model_options: Arguments of `CrossEncoder(name, …)`.
        ray_options: As in `encode`.
        prompt_name: As in `CrossEncoder.predict`.
        prompt: As in `predict`.
        batch_size: As in `predict`.
        show_progress_bar: As in `predict`.
        activation_fn: As in `predict`.
        apply_softmax: As in `predict`.
        deterministic: As in `predict`.

    Returns:
        An array (n,), or (n, labels) where there are several, in the order of the pairs.

    Raises:
        ImportError: If Ray is not installed.
        ValueError: As in `encode`.
        ray.exceptions.RayError: As in `encode`.

    Example:
        >>> from sentence_transformers.on_ray import predict
        >>> pairs = [("How tall is it?", "It is 300 m tall."), ("How tall is it?", "It is red.")]
        >>> predict(pairs, "cross-encoder/ms-marco-MiniLM-L6-v2", actors=2)  # doctest: +SKIP
    """
    items, single = read_pairs(pairs)
    if single:
        raise ValueError("This is one pair, for which no cluster is needed. Pass a list of pairs.")
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
    return computed(work, items, room, actors, chunk_size, shown=wants_progress(show_progress_bar))


def computed(
    work: Task, items: Sequence[Any], room: Room, actors: int | None, chunk_size: int | None, *, shown: bool
) -> np.ndarray:
    """What actors make of the inputs, in their order."""
    if actors is not None:
        check_count("actors", actors)
    if chunk_size is not None:
        check_count("chunk_size", chunk_size)
    if not len(items):
        return np.asarray([])  # as in one process
    import ray
    from ray.util import ActorPool

    if not ray.is_initialized():
        ray.init()
    count = min(actors or room_for(room, ray.available_resources()), len(items))
    if chunk_size is None:
        chunk_size = max(1, min(math.ceil(len(items) / count / CHUNKS_PER_WORKER), LARGEST_CHUNK))
    chunks = [items[start : start + chunk_size] for start in range(0, len(items), chunk_size)]
    actor = ray.remote(ModelActor).options(
        **{"max_restarts": RESTARTS, "max_task_retries": RESTARTS, **room.as_options()}
    )
    started = [actor.remote(work) for _ in range(min(count, len(chunks)))]
    found: np.ndarray | None = None
    done = 0
    try:
        with progress_bar(len(items), shown=shown) as bar:
            for values in ActorPool(started).map(lambda one, chunk: one.compute.remote(chunk), chunks):
                if found is None:
                    found = np.empty((len(items), *values.shape[1:]), dtype=values.dtype)
                found[done : done + len(values)] = values
                done += len(values)
                bar.update(len(values))
    finally:
        for each in started:
            ray.kill(each)
    assert found is not None
    return found


def room_for(room: Room, free: Mapping[str, float]) -> int:
    """Actors that the free parts of a cluster have room for; one at least, which then waits."""
    wanted = {"CPU": room.cpus or 0, "GPU": room.num_gpus}
    count = min((int(free.get(name, 0) // share) for name, share in wanted.items() if share), default=1)
    if count < 1:
        logger.warning(
            "The cluster has no room now for an actor with %g cores and %g GPUs: waiting until it has. Other work that "
            "is done with it, or a machine more, makes room; smaller num_cpus and num_gpus need less.",
            wanted["CPU"],
            wanted["GPU"],
        )
    return max(1, count)
