"""Encoding in several processes.

Each worker holds a copy of the model on its device, takes chunks of inputs off a queue and puts results on
another. A worker that raises sends its traceback, one that dies is noticed, and one that hangs is given up where
the pool has a time limit: the caller gets an exception. Results carry the number of their request, so that calls
that share a pool do not mix. Nothing here knows how a chunk is computed.
"""

from __future__ import annotations

import copy
import io
import logging
import math
import multiprocessing as mp
import os
import pickle
import queue
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import torch

logger = logging.getLogger(__name__)

CHUNKS_PER_WORKER = 10
"""Chunks a worker gets when nobody says how large they should be: many enough to even out their pace."""

LARGEST_CHUNK = 5000

CHUNKS_UNDERWAY = 2
"""Chunks that are sent ahead for each worker. No more, so that a call that fails leaves little work behind."""

CPU_WORKERS = 4

SECONDS_TO_END = 5.0
"""What a worker that is asked to end gets before it is killed; one that is stopped or stuck never answers."""

Pool = dict[str, Any]


def start_pool(
    model: Any, devices: Sequence[str] | None, target: Callable[..., None], *, timeout: float | None = None
) -> Pool:
    """Start one worker process for each device.

    Args:
        model: The model; every worker gets a copy.
        devices: Devices, one entry for each worker; None for all GPUs, or four CPU workers without any.
        target: Called in each worker as `target(device, model, inputs, outputs)`.
        timeout: Seconds that a call waits for the next result of any worker; None for as long as it takes.

    Returns:
        A dictionary with `input` and `output` (queues), `processes` and `timeout`.

    Raises:
        ValueError: If the list of devices is empty, or the timeout no positive number.
    """
    if timeout is not None and not (isinstance(timeout, (int, float)) and timeout > 0):
        raise ValueError(f"timeout={timeout!r} is no time to wait. Pass seconds, or None to wait for ever.")
    devices = default_devices() if devices is None else list(devices)
    if not devices:
        raise ValueError(
            "A pool needs at least one device. Pass for example ['cpu', 'cpu'] or ['cuda:0', 'cuda:1']."
        )
    context = mp.get_context("spawn")
    inputs, outputs = context.Queue(), context.Queue()
    cpu_workers = sum(str(device) == "cpu" for device in devices)
    # Weights on the CPU lie in memory that all processes share; others cannot be handed over everywhere.
    sent = model if model.device.type == "cpu" else copy.deepcopy(model).to("cpu")
    processes = []
    for device in devices:
        process = context.Process(
            target=_start_worker, args=(target, str(device), sent, inputs, outputs, cpu_workers), daemon=True
        )
        process.start()
        processes.append(process)
    return {"input": inputs, "output": outputs, "processes": processes, "timeout": timeout}


def default_devices() -> list[str]:
    """All GPUs of the machine, or four CPU workers if it has none."""
    if torch.cuda.is_available():
        return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if hasattr(torch, "npu") and torch.npu.is_available():
        return [f"npu:{number}" for number in range(torch.npu.device_count())]
    return ["cpu"] * CPU_WORKERS


def stop_pool(pool: Pool) -> None:
    """End the workers of a pool and close its queues."""
    processes, pool["processes"] = pool["processes"], []
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(SECONDS_TO_END)
        if process.is_alive():
            process.kill()
            process.join()
    if "reader" in pool and processes:
        # This was the last writing end; without any, the thread that reads results comes to an end.
        pool["output"]._writer.close()
        pool["reader"].join(timeout=5)
    for name in ("input", "output"):
        pool[name].cancel_join_thread()
        pool[name].close()


def run_in_pool(
    pool: Pool,
    inputs: Sequence[Any],
    options: dict[str, Any],
    *,
    chunk_size: int | None,
    put: Callable[[Sequence[int], Any], None],
    update: Callable[[int], None] = lambda done: None,
) -> None:
    """Send inputs to the workers in chunks and hand over their results as they come.

    Args:
        pool: From `start_pool`.
        inputs: All inputs.
        options: Keyword arguments of the work on each chunk.
        chunk_size: Inputs of a chunk; None for a size that gives every worker several.
        put: Called with the numbers of a chunk's inputs and their results.
        update: Called with the number of inputs that are done.

    Raises:
        RuntimeError: If a worker raised (with its traceback) or died, none gave a result within the pool's
            timeout, or the pool was stopped.
    """
    workers = max(1, len(pool["processes"]))
    if chunk_size is None:
        chunk_size = max(1, min(math.ceil(len(inputs) / workers / CHUNKS_PER_WORKER), LARGEST_CHUNK))
    if chunk_size < 1:
        raise ValueError(f"chunk_size={chunk_size} sends nothing. Pass 1 or more, or None.")
    with request_to(pool, options) as request:
        starts = range(0, len(inputs), chunk_size)
        unsent = iter(starts)

        def send(chunks: int) -> None:
            for start in islice(unsent, chunks):
                pool["input"].put([(request, start), sealed(inputs[start : start + chunk_size]), options])

        send(CHUNKS_UNDERWAY * workers)
        for _ in starts:
            (_, start), result = _next_result(pool, request)
            send(1)
            numbers = range(start, min(start + chunk_size, len(inputs)))
            put(numbers, result)
            update(len(numbers))


def stream_through_pool(
    pool: Pool, chunks: Iterable[Sequence[Any]], options: dict[str, Any]
) -> Generator[Any, None, None]:
    """Results of chunks, in their order, while later chunks are computed and more are read.

    Args:
        pool: From `start_pool`. Other calls wait until the last result was taken, or the iterator closed.
        chunks: Inputs, a chunk at a time; no more are read than `CHUNKS_UNDERWAY` for each worker.
        options: Keyword arguments of the work on each chunk.

    Raises:
        RuntimeError: If a worker raised (with its traceback) or died, none gave a result within the pool's
            timeout, or the pool was stopped.
    """
    with request_to(pool, options) as request:
        unsent = enumerate(chunks)
        results: dict[int, Any] = {}
        sent = given = 0

        def send(count: int) -> int:
            done = 0
            for number, chunk in islice(unsent, count):
                pool["input"].put([(request, number), sealed(chunk), options])
                done += 1
            return done

        sent = send(CHUNKS_UNDERWAY * len(pool["processes"]))
        while given < sent:
            while given not in results:
                (_, number), result = _next_result(pool, request)
                results[number] = result
            yield results.pop(given)
            given += 1
            sent += send(1)


@contextmanager
def request_to(pool: Pool, options: dict[str, Any]) -> Iterator[int]:
    """Have a pool for oneself within the block; gives the number of the request.

    Raises:
        RuntimeError: If the pool was stopped.
    """
    # What cannot be sent shows here. The queue's own thread would only print the error, and nobody would
    # ever answer.
    pickle.dumps(options)
    with pool.setdefault("lock", threading.Lock()):
        if not pool["processes"]:
            raise RuntimeError(
                "The pool has been stopped. Start a new one with model.start_multi_process_pool()."
            )
        pool["request"] = request = pool.get("request", 0) + 1
        yield request


def _next_result(pool: Pool, request: int) -> tuple[tuple[int, int], Any]:
    timeout, began = pool.get("timeout"), time.monotonic()
    while True:
        try:
            key, result = _arrived(pool).get(timeout=1.0)
        except queue.Empty:
            if not pool["processes"]:
                raise RuntimeError("The pool was stopped while it was at work.") from None
            dead = [process for process in pool["processes"] if not process.is_alive()]
            if dead:
                codes = [process.exitcode for process in dead]
                stop_pool(pool)
                raise RuntimeError(
                    f"{len(dead)} worker process(es) died (exit codes {codes}). The pool "
                    "was stopped. Out of memory is the usual reason; where the script starts the pool at its top "
                    "level, move that under `if __name__ == '__main__':`."
                ) from None
            if not pool["reader"].is_alive():
                raise RuntimeError("A worker process sent something that cannot be read here.") from None
            if timeout is not None and time.monotonic() - began >= timeout:
                stop_pool(pool)
                raise RuntimeError(
                    f"No worker process gave a result for {timeout:g} seconds, the pool's timeout. The pool was "
                    "stopped. Where the work takes that long, start a pool with a longer timeout, or pass a smaller "
                    "chunk_size."
                ) from None
            continue
        if key[0] != request:  # left over from a request that failed
            continue
        if isinstance(result, WorkerFailure):
            raise RuntimeError(f"A worker process failed:\n{result.traceback}")
        return key, opened(result)


def _arrived(pool: Pool) -> queue.SimpleQueue[Any]:
    """Results as they come, read by a thread.

    A worker that dies while it writes leaves half a result in the queue, and whoever reads that waits
    without end: not the caller.
    """
    if "arrived" not in pool:
        pool["arrived"] = queue.SimpleQueue()
        pool["reader"] = threading.Thread(
            target=_read_results, args=(pool["output"], pool["arrived"]), daemon=True, name="results"
        )
        pool["reader"].start()
    return pool["arrived"]


def _read_results(outputs: Any, arrived: queue.SimpleQueue[Any]) -> None:
    while True:
        try:
            arrived.put(outputs.get())
        except Exception:  # the pool has been stopped, or this is no result
            logger.debug("No further results are read.", exc_info=True)
            return


class Parcel:
    """Something pickled, for the other side to open.

    Queues pickle in a thread of their own, which prints errors and goes on, and they send each tensor as an
    open file, of which a process may have about a thousand.
    """

    def __init__(self, content: Any) -> None:
        buffer = io.BytesIO()
        torch.save(content, buffer)
        self.data = buffer.getvalue()

    def open(self) -> Any:
        """The content, its tensors on the CPU."""
        return torch.load(io.BytesIO(self.data), map_location="cpu", weights_only=False)


def sealed(value: Any) -> Any:
    """A value ready to be put into a queue: texts and plain arrays as they are, else a parcel."""
    plain = isinstance(value, np.ndarray) and not value.dtype.hasobject
    texts = isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value)
    return value if plain or texts else Parcel(value)


def opened(value: Any) -> Any:
    """What was sealed."""
    return value.open() if isinstance(value, Parcel) else value


class WorkerFailure:
    """What a worker sends in place of a result when its work raised."""

    def __init__(self, text: str) -> None:
        self.traceback = text


def _start_worker(
    target: Callable[..., None], device: str, model: Any, inputs: Any, outputs: Any, cpu_workers: int
) -> None:
    if device == "cpu":
        # Workers that each use every core only get in each other's way.
        torch.set_num_threads(threads_of_a_worker(cpu_workers))
    target(device, model, inputs, outputs)


def threads_of_a_worker(cpu_workers: int) -> int:
    """Threads that each of so many workers on the CPU computes with."""
    return max(1, (os.cpu_count() or 1) // max(1, cpu_workers))


def serve(work: Callable[[Any, dict[str, Any]], Any], inputs: Any, outputs: Any) -> None:
    """Work on chunks off one queue until the process is ended, and put the results on the other.

    Args:
        work: Called with a chunk's inputs and options.
        inputs: Queue of `[key, inputs, options]`.
        outputs: Queue for `[key, result]`; `opened(result)` is what the work gave.
    """
    while True:
        key, chunk, options = inputs.get()
        try:
            result = sealed(work(opened(chunk), options))
        except Exception:
            result = WorkerFailure(traceback.format_exc())
        outputs.put([key, result])
