"""Many callers, one model: requests that come one at a time are computed together.

    submit, from any thread or event loop → queue → a worker thread: a batch → a future for each caller

A worker takes whatever waits when it becomes free, up to a budget of tokens, so that batches grow with the load
by themselves. Only a request that finds it idle waits a moment for companions. Several workers share what waits, and
the processor's cores. Nothing here knows what is computed.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from typing_extensions import Self

from sentence_transformers.backend.openmp import keep_helpers, release_helpers
from sentence_transformers.inference.engine import listening
from sentence_transformers.inference.fair_queue import FairQueue, Request, Share
from sentence_transformers.inference.mailbox import Awaited, Mailbox
from sentence_transformers.inference.memory import TokenBudget
from sentence_transformers.inference.plan import character_count
from sentence_transformers.inputs.collections import as_list
from sentence_transformers.inputs.tokens import is_token_ids

logger = logging.getLogger(__name__)

METHODS = ("encode", "predict")

USUAL_CHARACTERS_PER_TOKEN = 4.0
"""Until the first batch has shown how it is with this model and these texts."""

ENOUGH_TOKENS = 1024
"""For these nobody waits longer than `max_delay`: a larger batch is hardly faster, token by token."""

SHARE_OF_USUAL = 0.1
"""Of the time that batches take, so much may pass before the next one while callers come back: batches of half as many
inputs would cost more than that."""

OWN_OPTIONS = frozenset(
    (
        "sentences",
        "inputs",
        "batch_size",
        "show_progress_bar",
        "convert_to_numpy",
        "convert_to_tensor",
        "device",
        "pool",
        "chunk_size",
        "num_workers",
    )
)
"""Arguments of `encode` and `predict` that are the batcher's business, not a caller's."""


class QueueFull(RuntimeError):
    """More requests wait than the batcher was told to hold; try again later."""


class BatcherClosed(RuntimeError):
    """The batcher was closed and takes no further requests."""


@dataclass(frozen=True, kw_only=True)
class BatchReport:
    """What one batch was: `requests` and `inputs` in it, the `tokens` of those, `seconds` it took."""

    requests: int
    inputs: int
    tokens: int
    seconds: float


class Batcher:
    """Turns single requests from many threads and coroutines into batches of a model.

    A result is what the model gives for the same input alone, up to the rounding by which its results depend on
    the batch (about 1e-6 in float32).

    Requests are served in the order they came. Those with different options (a prompt, dimensions, …) cannot
    share a batch, and take turns; so do requests with more than `TURN` inputs with all others. A batch that fails
    is computed again request by request, so that only the requests at fault fail.

    Args:
        model: A `SentenceTransformer` or `CrossEncoder`; anything with the method, which takes a list and gives
            one result for each input.
        method: "encode", or "predict" for pairs.
        max_tokens: Tokens of a batch, as far as they can be told from the characters; None for what the engine
            computes at once on the model's device.
        max_inputs: Inputs of a batch at most; None for no limit but the tokens.
        max_delay: Seconds that a request waits for companions while the model is idle. It waits for no more of them
            than there were lately, so a single caller is not delayed. After a batch it may be a tenth of the time
            that batches take, if that is more, so that those who were answered can come back. 0: not at all.
        queue_limit: Inputs that may wait. An empty queue takes a request of any size.
        on_batch: Told of every batch that was computed, in the worker's thread.
        workers: Batches that are computed at once. While several are, each has its share of PyTorch's threads: on a
            CPU two batches with half of the cores each are done sooner than one after the other with all of them,
            above all when the cores have other work too, such as serving. Threads that first compute
            after that may find PyTorch's default number of threads lowered until the batcher is closed.

    Example:
        >>> from sentence_transformers import SentenceTransformer
        >>> from sentence_transformers.inference.batcher import Batcher
        >>> with Batcher(SentenceTransformer("all-MiniLM-L6-v2")) as batcher:
        ...     futures = [batcher.submit(text) for text in ("one", "two", "three")]
        ...     vectors = [future.result() for future in futures]
        >>> vectors[0].shape
        (384,)
    """

    def __init__(
        self,
        model: Any,
        *,
        method: str = "encode",
        max_tokens: int | None = None,
        max_inputs: int | None = None,
        max_delay: float = 0.005,
        queue_limit: int = 4096,
        on_batch: Callable[[BatchReport], None] | None = None,
        workers: int = 1,
    ) -> None:
        if method not in METHODS:
            raise ValueError(f"method={method!r} is none that batches. Pass 'encode' or 'predict'.")
        for name, value in (
            ("max_tokens", max_tokens),
            ("max_inputs", max_inputs),
            ("queue_limit", queue_limit),
            ("workers", workers),
        ):
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} lets nothing through. Pass 1 or more.")
        if not 0 <= max_delay < 60:
            raise ValueError(f"max_delay={max_delay} is no number of seconds to wait. Pass 0 to 60.")
        self.model = model
        self.method = method
        self.max_delay = max_delay
        self.queue_limit = queue_limit
        self.on_batch = on_batch
        device = getattr(model, "device", None) or torch.device("cpu")
        self._queue = FairQueue(
            max_tokens=max_tokens or TokenBudget(device).tokens,
            max_inputs=max_inputs,
            tokens_of=lambda characters: 1 + int(characters / self._characters_per_token),
        )
        self._load = 1.0
        self._seconds = 0.0
        self._mailboxes: dict[asyncio.AbstractEventLoop, Mailbox] = {}
        self._characters_per_token = USUAL_CHARACTERS_PER_TOKEN
        self._closed = False
        self._lock = threading.RLock()
        self._conditions = [threading.Condition(self._lock) for _ in range(workers)]
        self._idle = [False] * workers
        self._busy = 0
        self._requests_at_work = 0
        self._inputs_at_work = 0
        self._threads = torch.get_num_threads()
        # Daemons, because Python joins other threads before it runs what is registered for the exit.
        self._workers = [
            threading.Thread(target=self._work, args=[number], daemon=True, name=f"batcher-{number}")
            for number in range(workers)
        ]
        release_helpers()  # of who made the model, so that those of the first worker stay awake
        for worker in self._workers:
            worker.start()
        atexit.register(self.close)

    # -- for callers -------------------------------------------------------------------------------------

    def submit(self, inputs: Any, **options: Any) -> Future[Any]:
        """Ask for the result of one input, or of a list of them, and go on.

        Args:
            inputs: What the model's method takes: one input or a list.
            **options: Passed to the model's `encode` or `predict`; their values must be hashable.

        Returns:
            A future with what the method would return. Cancelled, it leaves the queue.

        Raises:
            QueueFull: If too many inputs wait already.
            BatcherClosed: If the batcher was closed.
            ValueError: If an option is not a caller's to choose, or the inputs are no collection.
        """
        future: Future[Any] = Future()
        self._accept(self._request(inputs, options, future), future)
        return future

    def submit_here(self, inputs: Any, **options: Any) -> asyncio.Future[Any]:
        """As `submit`, for a caller in an event loop that runs, with a future of this loop.

        Costs the loop less than `asyncio.wrap_future` of what `submit` returns: results of a batch wake it once.
        """
        loop = asyncio.get_running_loop()
        mailbox = self._mailboxes.get(loop)
        if mailbox is None:
            with self._lock:
                self._mailboxes = {
                    other: mailbox for other, mailbox in self._mailboxes.items() if not other.is_closed()
                }
                mailbox = self._mailboxes[loop] = Mailbox(loop)
        awaited = Awaited(mailbox)
        self._accept(self._request(inputs, options, awaited), awaited.future)
        return awaited.future

    def encode(self, inputs: Any, **options: Any) -> Any:
        """Wait for the result of one input or a list of them; arguments and errors are those of `submit`."""
        return self.submit(inputs, **options).result()

    async def aencode(self, inputs: Any, **options: Any) -> Any:
        """Await the result of one input or a list of them; cancelling takes the request back.

        Arguments and errors are those of `submit`.
        """
        return await self.submit_here(inputs, **options)

    predict = encode
    apredict = aencode

    @property
    def waiting(self) -> int:
        """Inputs in the queue."""
        return self._queue.inputs

    def close(self, *, cancel: bool = False) -> None:
        """Take no more requests, finish those that were accepted, and end the worker.

        Args:
            cancel: Whether to cancel what waits instead of computing it.
        """
        with self._lock:
            self._closed = True
            dropped = list(self._queue) if cancel else []
            for request in dropped:
                self._queue.remove(request)
            for condition in self._conditions:
                condition.notify()
        for request in dropped:
            request.future.cancel()
        for worker in self._workers:
            if worker is not threading.current_thread():
                worker.join()
        atexit.unregister(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: Any) -> None:
        self.close()

    # -- the queue ---------------------------------------------------------------------------------------

    def _accept(self, request: Request, future: Any) -> None:
        """Put a request into the queue; its caller's future tells when the caller gives up."""
        if not len(request.inputs):
            future.set_result(getattr(self.model, self.method)(request.inputs, **request.options))
            return
        with self._lock:
            if self._closed:
                raise BatcherClosed("This batcher was closed. Make a new one.")
            if self._queue.inputs and self._queue.inputs + request.waiting > self.queue_limit:
                raise QueueFull(
                    f"{self._queue.inputs} inputs wait already, and {request.waiting} more would exceed the limit of "
                    f"{self.queue_limit}. Try again later, or raise queue_limit."
                )
            self._queue.add(request)
            # A worker that waits for companions need not look at each of them.
            if self._queue.requests == 1 or self._is_enough():
                self._wake_a_worker()
        future.add_done_callback(lambda future: self._give_up(request) if future.cancelled() else None)

    def _request(self, inputs: Any, options: dict[str, Any], future: Any) -> Request:
        wrong = OWN_OPTIONS.intersection(options)
        if wrong:
            raise ValueError(
                f"{', '.join(sorted(wrong))} cannot be chosen for a request that shares its batch."
            )
        single = bool(self.model.is_singular_input(inputs))
        items = [inputs] if single else list(as_list(inputs))
        group = tuple(sorted(options.items(), key=lambda option: option[0]))
        try:
            hash(group)
        except TypeError as error:
            raise ValueError(f"The options {options!r} cannot be compared: pass plain values.") from error
        # What cannot share a batch: texts with token ids, and whatever an input may be beyond that.
        kinds = {type(item) for item in items}
        return Request(
            inputs=items,
            sizes=[size_of(item) for item in items],
            single=single,
            options=options,
            group=(frozenset(kinds), group),
            arrived=time.monotonic(),
            future=future,
        )

    def _give_up(self, request: Request) -> None:
        """A caller has cancelled."""
        with self._lock:
            self._queue.remove(request)
            self._wake_a_worker()
        self._settle(request)

    def _settle(self, request: Request) -> bool:
        """Whether the request's future is to be filled now: once, and not after it was cancelled."""
        with self._lock:
            if request.is_settled:
                return False
            request.is_settled = True
            return request.future.set_running_or_notify_cancel()

    def _is_enough(self) -> bool:
        """Whether what waits is a worker's share of the requests there were lately, or fills a batch."""
        return self._queue.requests * len(self._workers) >= int(self._load) or (
            self._queue.may_fill_a_batch() and self._queue.fills_a_batch()
        )

    def _wake_a_worker(self) -> None:
        """Have a worker look at the queue: always the first that is idle, so that a single caller always gets the
        same one, which has all the cores awake."""
        for condition, is_idle in zip(self._conditions, self._idle):
            if is_idle:
                condition.notify()
                return

    def _wait(self, number: int, seconds: float | None = None) -> None:
        """Let a worker wait until it is woken, or so long."""
        self._idle[number] = True
        self._conditions[number].wait(seconds)
        self._idle[number] = False

    def _next_batch(self, number: int, patient_until: float) -> tuple[list[Share], int] | None:
        """Wait for requests, then for companions of the first; None once closed and empty.

        Args:
            number: Of the worker that asks.
            patient_until: Up to when to wait though there is something to do, on the monotonic clock.

        Returns:
            The batch, and how many of PyTorch's threads are to compute it. Whoever takes it counts as busy.
        """
        with self._lock:
            while True:
                while not self._closed and (not self._queue.requests or any(self._idle[:number])):
                    self._wait(number)
                if not self._queue.requests:
                    return None
                until = self._queue.first().arrived + self.max_delay
                if self._queue.characters < ENOUGH_TOKENS * self._characters_per_token:
                    until = max(until, patient_until)
                patience = until - time.monotonic()
                if patience <= 0 or self._is_enough() or self._closed:
                    return self._take()
                self._wait(number, patience)

    def _take(self) -> tuple[list[Share], int]:
        """The next batch, which is a worker's share of all that waits or is being computed."""
        count = len(self._workers)
        self._load = recent(self._load, self._queue.requests + self._requests_at_work)
        shares = self._queue.take(at_most=-(-(self._queue.inputs + self._inputs_at_work) // count))
        self._note_work(shares, 1)
        if self._queue.requests:
            self._wake_a_worker()
        return shares, max(1, self._threads // min(count, self._busy + bool(self._queue.requests)))

    def _note_work(self, shares: list[Share], sign: int) -> None:
        """Count a batch that begins (1) or has ended (-1)."""
        self._busy += sign
        self._requests_at_work += sign * len(shares)
        self._inputs_at_work += sign * sum(share.stop - share.start for share in shares)

    # -- the workers -------------------------------------------------------------------------------------

    def _work(self, number: int) -> None:
        if number == 0:
            keep_helpers()
        patient_until = 0.0
        while (taken := self._next_batch(number, patient_until)) is not None:
            shares, threads = taken
            began = time.monotonic()
            try:
                if torch.get_num_threads() != threads and len(self._workers) > 1:
                    torch.set_num_threads(threads)  # of this thread
                self._compute(shares)
            except BaseException as error:  # whatever it is, nobody may wait for ever
                logger.exception("A batch could not be computed.")
                for share in shares:
                    self._fail(share.request, error)
            finally:
                now = time.monotonic()
                with self._lock:
                    self._note_work(shares, -1)
                    self._seconds = recent(self._seconds, now - began)
            patient_until = now + SHARE_OF_USUAL * self._seconds if self.max_delay else 0.0
            # No name keeps a result, or an error with its frames, until the next request comes.
            del shares, taken
        if len(self._workers) > 1:
            torch.set_num_threads(self._threads)  # what threads find that compute for the first time

    def _compute(self, shares: list[Share]) -> None:
        """Compute the shares together; if that fails, each by itself."""
        shares = [share for share in shares if not share.request.is_settled]
        if not shares:
            return
        try:
            results = self._run(shares)
        except Exception as error:
            if len(shares) == 1:
                self._fail(shares[0].request, error)
                return
            logger.debug("A batch of %d requests failed; trying each alone.", len(shares), exc_info=True)
        else:
            self._deliver(shares, results)
            return
        for share in shares:
            self._compute([share])

    def _run(self, shares: list[Share]) -> list[list[Any]]:
        """The results of each share."""
        inputs = [item for share in shares for item in share.inputs]
        tokens = 0

        def told(rows: int, further: int) -> None:
            nonlocal tokens
            tokens += further

        began = time.perf_counter()
        with listening(told):
            values = getattr(self.model, self.method)(
                inputs, show_progress_bar=False, **shares[0].request.options
            )
        seconds = time.perf_counter() - began
        if len(values) != len(inputs):
            raise RuntimeError(
                f"The model's {self.method} gave {len(values)} results for {len(inputs)} inputs. A batcher needs one "
                "for each."
            )
        self._learn(sum(size for share in shares for size in share.sizes), tokens)
        self._tell(BatchReport(requests=len(shares), inputs=len(inputs), tokens=tokens, seconds=seconds))
        split, start = [], 0
        for share in shares:
            stop = start + share.stop - share.start
            # Copies, so that who keeps one vector does not keep the whole batch.
            split.append([np.copy(row) if isinstance(row, np.ndarray) else row for row in values[start:stop]])
            start = stop
        return split

    def _tell(self, report: BatchReport) -> None:
        if self.on_batch is not None:
            try:
                self.on_batch(report)
            except Exception:
                logger.exception("What was told of a batch failed; the batch itself did not.")

    def _deliver(self, shares: list[Share], results: list[list[Any]]) -> None:
        """Add results to requests, and hand them over where they are complete."""
        complete = []
        with self._lock:
            for share, values in zip(shares, results):
                request = share.request
                request.results.update(zip(range(share.start, share.stop), values))
                if len(request.results) == len(request.inputs) and self._settle(request):
                    complete.append(request)
        for request in complete:
            in_order = [request.results[number] for number in range(len(request.inputs))]
            request.future.set_result(in_order[0] if request.single else together(in_order))
        wake(complete)

    def _fail(self, request: Request, error: BaseException) -> None:
        """Hand an error over, unless the caller has given up, and compute no more of the request."""
        with self._lock:
            self._queue.remove(request)
        if self._settle(request):
            request.future.set_exception(error)
            wake([request])

    def _learn(self, characters: int, tokens: int) -> None:
        """Adjust how many characters make a token, a little with each batch."""
        if tokens:
            seen = min(max(characters / tokens, 0.1), 16.0)
            self._characters_per_token += 0.1 * (seen - self._characters_per_token)


def recent(before: float, now: float) -> float:
    """The larger of a number and its recent course: what a short lull makes smaller is not forgotten at once."""
    return max(now, (before + now) / 2)


def wake(requests: list[Request]) -> None:
    """Wake the event loops in which requests that were answered are awaited, each once."""
    for mailbox in {request.future.mailbox for request in requests if isinstance(request.future, Awaited)}:
        mailbox.wake()


def size_of(item: Any) -> int:
    """Characters of an input, as a measure of its length; of token ids, about those they stand for."""
    characters = character_count(item)
    return int(characters * USUAL_CHARACTERS_PER_TOKEN) if is_token_ids(item) else characters


def together(results: list[Any]) -> Any:
    """Results as the method returns them: an array where they are arrays or numbers, else a list."""
    if isinstance(results[0], (np.ndarray, np.generic)):
        return np.stack(results)
    return results
