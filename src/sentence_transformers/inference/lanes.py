"""Batches computed side by side on a CPU: each by a thread that has a share of PyTorch's threads.

A step that all cores share ends when the slowest of them does, and all wait while one of them has other work;
many steps are too short to be shared at all. Batches that have a core each wait for nobody: on two cores that is a
tenth faster, and several times where something else runs beside it. Nothing here knows models.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import TypeVar

import torch

from sentence_transformers.backend.openmp import release_helpers

MOST_LANES = 8
"""Batches at once: more of them would wait for each other's Python."""

FEWEST_TOKENS = 512
"""Of a batch: from so many on it is computed as fast, token by token, as any larger one."""

BATCHES_PER_LANE = 4
"""So that lanes end at about the same time."""

Task = TypeVar("Task")
Result = TypeVar("Result")


_place = threading.local()


def lanes_for(tokens: int, most: int = MOST_LANES) -> int:
    """How many batches to compute at once where there are so many tokens in all; 1 for one after the other."""
    return max(1, min(torch.get_num_threads(), most, tokens // FEWEST_TOKENS))


def is_lane() -> bool:
    """Whether this thread is a lane."""
    return getattr(_place, "is_lane", False)


def tokens_of_batch(tokens: int, lanes: int, most: int) -> int:
    """Tokens of a batch, `most` at most, with which `lanes` are busy to the end."""
    if lanes == 1:
        return most
    each = max(1, min(BATCHES_PER_LANE, tokens // (lanes * FEWEST_TOKENS)))
    return min(most, -(-tokens // (lanes * each)))


class Lanes:
    """Threads that compute batches; to be used in a `with` block.

    Args:
        count: How many.

    Raises:
        RuntimeError: If no thread can be started: there are too many, or Python is about to end.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        threads, share = torch.get_num_threads(), max(1, torch.get_num_threads() // count)
        if share > 1:
            release_helpers()  # or there would be more of them than cores while the lanes have theirs
        started = threading.Barrier(count + 1)

        def start() -> None:
            _place.is_lane = True
            # Asked for first, because the first question sets the number to the default again.
            torch.get_num_threads()
            torch.set_num_threads(share)
            with suppress(threading.BrokenBarrierError):
                started.wait()

        self._pool = ThreadPoolExecutor(count, thread_name_prefix="lane", initializer=start)
        try:
            for _ in range(count):
                self._pool.submit(_nothing)
        except RuntimeError:
            started.abort()
            self._pool.shutdown()
            raise
        started.wait()
        # What a thread sets for itself is also what threads find that begin later.
        torch.set_num_threads(threads)

    def __enter__(self) -> Lanes:
        return self

    def __exit__(self, *details: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def map(self, compute: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """What `compute` makes of each task, in their order; a few are computed ahead.

        Context variables are those of the caller, and no gradients are kept.
        """

        def computed(task: Task) -> Result:
            with torch.inference_mode():
                return compute(task)

        waiting: deque[Future[Result]] = deque()
        for task in tasks:
            if len(waiting) >= 2 * self.count:
                yield waiting.popleft().result()
            waiting.append(self._pool.submit(copy_context().run, computed, task))
        while waiting:
            yield waiting.popleft().result()


def opened(count: int) -> Lanes | None:
    """So many lanes; None where one batch after the other is all there can be."""
    if count < 2:
        return None
    try:
        return Lanes(count)
    except RuntimeError:
        return None


def _nothing() -> None:
    pass
