"""The loop that every kind of model encodes with.

    inputs → windows, tokenised ahead → batches by true length → forward → finish → sink

The engine owns order, batching, progress, and what happens when memory runs out; a model hands in how to
read inputs, how to run a batch and how to finish it. It may be called from many threads at once: all
state of a call is in the call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sentence_transformers.backend.openmp import helpers_let_go
from sentence_transformers.inference.lanes import MOST_LANES, lanes_for, opened, tokens_of_batch
from sentence_transformers.inference.memory import TokenBudget, is_out_of_memory, release_memory
from sentence_transformers.inference.plan import (
    WINDOW_CHARACTERS,
    WINDOW_ROWS,
    character_count,
    plan_batches,
    windows,
)
from sentence_transformers.inference.sinks import Sink
from sentence_transformers.inference.tokens import Source, ahead

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Job:
    """How one call computes its batches.

    `forward` runs the model on the features of a batch that lie on `device`; `finish` makes of its output
    what the sink takes. `budget` is shared by all calls on the model. `max_rows` limits a batch,
    `unit` is what the progress bar counts. `side_by_side` says whether batches may be computed at once, in several
    threads, `most_lanes` at most; it is asked where there is enough for two.
    """

    source: Source
    forward: Callable[[dict[str, Any]], dict[str, Any]]
    finish: Callable[[dict[str, Any]], Any]
    device: torch.device
    budget: TokenBudget
    max_rows: int | None = None
    show_progress_bar: bool = False
    unit: str = "text"
    side_by_side: Callable[[], bool] = lambda: False
    most_lanes: int = MOST_LANES


def run(job: Job, inputs: Sequence[Any], sink: Sink) -> None:
    """Compute every input once and write the results to their places in the sink."""
    first = first_occurrences(inputs)
    told = _listener.get()
    everything = range(len(inputs))
    numbers: Any = everything if first is None else np.flatnonzero(first == np.arange(len(first)))
    if len(numbers) == 1:
        stretches = [(0, 1)]
    else:
        sizes = [character_count(inputs[number]) for number in numbers]
        stretches = list(windows(sizes, max_rows=WINDOW_ROWS, max_size=WINDOW_CHARACTERS))

    def read(stretch: tuple[int, int]) -> tuple[Sequence[int], Any]:
        chosen = numbers[stretch[0] : stretch[1]]
        return chosen, job.source.read([inputs[number] for number in chosen])

    progress = progress_bar(len(inputs), shown=job.show_progress_bar, unit=job.unit)
    shared = helpers_let_go() if job.device.type == "cpu" else nullcontext()
    with progress as bar, shared, torch.inference_mode():
        bar.update(len(inputs) - len(numbers))
        told(len(inputs) - len(numbers), 0)
        several = len(numbers) > 1 and job.device.type == "cpu"
        for chosen, rows in ahead(read, stretches):
            lengths = rows.lengths
            for batch, parts in batches_of(job, rows, lengths, several=several):
                for places, results in parts:
                    sink.put([chosen[row] for row in places], results)
                    del results  # or it would be held while the next batch is computed
                bar.update(len(batch))
                told(len(batch), sum(lengths[row] for row in batch))
    if first is not None:
        sink.repeat(first)


def _nobody(rows: int, tokens: int) -> None:
    pass


_listener: ContextVar[Callable[[int, int], None]] = ContextVar("listener", default=_nobody)


@contextmanager
def listening(told: Callable[[int, int], None]) -> Iterator[None]:
    """Within the block, and in this thread, `told` hears the inputs and tokens of each batch that is done."""
    token = _listener.set(told)
    try:
        yield
    finally:
        _listener.reset(token)


Part = tuple[Sequence[int], Any]
"""Numbers of rows, and their results."""


def batches_of(
    job: Job, rows: Any, lengths: Sequence[int], *, several: bool
) -> Iterator[tuple[Sequence[int], Iterable[Part]]]:
    """The batches of a window with their results, one after the other or, where `several`, some at once."""
    lanes = lanes_for(sum(lengths), job.most_lanes) if several else 1
    if lanes > 1 and not job.side_by_side():
        lanes = 1
    batches = plan_batches(
        lengths,
        max_tokens=tokens_of_batch(sum(lengths), lanes, job.budget.tokens),
        max_rows=job.max_rows or job.source.usual_rows,
        packed=job.source.packed,
    )
    side_by_side = opened(min(lanes, len(batches)))
    if side_by_side is None:
        for batch in batches:
            yield batch, compute(job, rows, batch, lengths)
        return
    with side_by_side:
        yield from zip(
            batches, side_by_side.map(lambda batch: list(compute(job, rows, batch, lengths)), batches)
        )


def compute(job: Job, rows: Any, batch: Sequence[int], lengths: Sequence[int]) -> Iterator[Part]:
    """Run one batch; if memory runs out, run it in halves and keep later batches smaller."""
    tokens = sum(lengths[row] for row in batch)
    # A batch that was planned before the budget was lowered is not tried whole.
    if len(batch) == 1 or tokens <= job.budget.tokens:
        try:
            # In one expression, so that no name keeps the tensors of a batch that fails.
            results = job.finish(job.forward(to_device(job.source.collate(rows.take(batch)), job.device)))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(batch) == 1:
                raise MemoryError(
                    f"One input of {tokens} tokens does not fit into the memory of {job.device} by itself. Lower "
                    "model.max_seq_length, load the model in half precision, or use a device with more memory."
                ) from error
        else:
            job.budget.fitted(tokens)
            yield batch, results
            return
        # Here the error and the frames it held on to are gone, and with them the tensors of the failed batch.
        release_memory(job.device)
        job.budget.lower(tokens)
        logger.warning(
            "Out of memory on %s with a batch of %d tokens; going on with at most %d.",
            job.device,
            tokens,
            job.budget.tokens,
        )
    middle = len(batch) // 2
    for half in (batch[:middle], batch[middle:]):
        yield from compute(job, rows, half, lengths)


def first_occurrences(inputs: Sequence[Any]) -> np.ndarray | None:
    """For each input the number of the first one equal to it, (n,); None when all differ.

    None too when they are neither texts nor tuples of texts, whose contents nobody can change meanwhile.
    """
    if len(inputs) < 2 or not isinstance(inputs[0], (str, tuple)):
        return None
    seen: dict[Any, int] = {}
    first = np.empty(len(inputs), dtype=np.int64)
    for number, text in enumerate(inputs):
        if not isinstance(text, str) and not is_tuple_of_texts(text):
            return None
        first[number] = seen.setdefault(text, number)
    return None if len(seen) == len(inputs) else first


def is_tuple_of_texts(item: Any) -> bool:
    """Whether an input is a tuple, such as a pair, with nothing but texts in it."""
    return isinstance(item, tuple) and all(isinstance(part, str) for part in item)


def to_device(features: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Move the tensors of a batch to a device, without waiting for the copy where that is possible."""
    if device.type == "cpu":
        return features
    moved = {}
    for name, value in features.items():
        if isinstance(value, Tensor):
            if device.type == "cuda" and value.device.type == "cpu":
                value = value.pin_memory()
            value = value.to(device, non_blocking=True)
        moved[name] = value
    return moved


class _NoBar:
    def __enter__(self) -> _NoBar:
        return self

    def __exit__(self, *details: Any) -> None:
        pass

    def update(self, texts: int) -> None:
        pass


def progress_bar(texts: int, *, shown: bool, unit: str = "text") -> Any:
    """A bar that counts texts (or pairs, …), or something that looks like one and shows nothing."""
    if not shown:
        return _NoBar()
    from tqdm.auto import tqdm

    return tqdm(total=texts, desc="Encoding", unit=unit, unit_scale=True, smoothing=0.1)


def wants_progress(show_progress_bar: bool | None) -> bool:
    """Whether to show progress: as asked, else when the library's logger reports at INFO or below."""
    if show_progress_bar is not None:
        return bool(show_progress_bar)
    return logging.getLogger("sentence_transformers").getEffectiveLevel() in (logging.INFO, logging.DEBUG)
