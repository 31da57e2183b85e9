"""A model that is served: its batcher, and what a request asks of it.

Answers come with the tokens that were read for them. Nothing here knows HTTP but for the errors that callers see.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from sentence_transformers.backend.openmp import helpers_let_go
from sentence_transformers.inference.batcher import Batcher, BatcherClosed, BatchReport, QueueFull
from sentence_transformers.inference.prompts import prompt_name_of_task
from sentence_transformers.modules.normalize import Normalize
from sentence_transformers.serve.errors import ApiError, too_large, too_many, wrong
from sentence_transformers.serve.messages import WantedVectors
from sentence_transformers.serve.metrics import Metrics
from sentence_transformers.serve.settings import Settings

CHARACTERS_PER_TOKEN = 4

MOST_WORKERS = 4
"""Batches that are computed at once on a CPU; more of them would wait for each other's Python."""

LONGEST_WAIT = 60
"""Seconds after which at the latest a caller is told to come again."""


class CountingModel:
    """A model whose results are (result, tokens of the input), for a batcher.

    Counted in the batcher's thread, in which the model computes anyway: tokenising twice costs a hundredth of it.
    """

    def __init__(self, model: Any, method: str) -> None:
        self.model = model
        self.device = model.device
        self.compute = getattr(model, method)

    def is_singular_input(self, inputs: Any) -> bool:
        return False

    def encode(self, inputs: Sequence[Any], **options: Any) -> list[tuple[Any, int]]:
        source = self.model._source(inputs, packed=False, prompt=None)
        lengths = source.read(inputs).lengths
        return list(zip(self.compute(inputs, **options), lengths))


def usual_workers(model: Any) -> int:
    """How many batches of a model to compute at once: where PyTorch computes on a CPU, several."""
    if model.device.type != "cpu" or model.get_backend() != "torch":
        return 1
    return min(MOST_WORKERS, torch.get_num_threads())


class Served:
    """One model, open from the first request until it is closed.

    Args:
        name: Under which callers know it.
        model: A `SentenceTransformer` or `CrossEncoder`.
        settings: Limits, and how to batch.
    """

    def __init__(self, name: str, model: Any, settings: Settings) -> None:
        self.name = name
        self.model = model
        self.settings = settings
        self.metrics: Metrics | None = None
        self.is_reranker = getattr(model, "model_type", None) == "CrossEncoder"
        self.workers = settings.workers or usual_workers(model)
        self._inputs_per_second = 0.0
        self._lock = threading.Lock()
        self._batcher: Batcher | None = None
        if self.is_reranker and model.num_labels != 1:
            raise ValueError(
                f"{name} gives {model.num_labels} scores for each pair. A reranker has to give one (num_labels=1)."
            )

    # -- opening and closing -----------------------------------------------------------------------------

    @property
    def batcher(self) -> Batcher:
        """What requests are put into."""
        with self._lock:
            if self._batcher is None:
                self._batcher = Batcher(
                    CountingModel(self.model, "predict" if self.is_reranker else "encode"),
                    max_tokens=self.settings.batch_tokens,
                    max_delay=self.settings.max_delay,
                    queue_limit=self.settings.queue_limit,
                    on_batch=self.note,
                    workers=self.workers,
                )
            return self._batcher

    @property
    def waiting(self) -> int:
        """Inputs in the queue."""
        return 0 if self._batcher is None else self._batcher.waiting

    def warm_up(self) -> None:
        """Compute something, so that the first caller does not wait for what is made at first use."""
        self.batcher.encode([("a", "b")] if self.is_reranker else ["a"])

    def close(self) -> None:
        """Finish what was accepted."""
        with self._lock:
            batcher, self._batcher = self._batcher, None
        if batcher is not None:
            batcher.close()

    def note(self, report: BatchReport) -> None:
        """Count a batch."""
        rate = self.workers * report.inputs / max(report.seconds, 1e-6)
        self._inputs_per_second += 0.2 * (rate - self._inputs_per_second)
        if self.metrics is not None:
            self.metrics.inputs.add(report.inputs, self.name)
            self.metrics.tokens.add(report.tokens, self.name)
            self.metrics.batch_inputs.observe(report.inputs, self.name)
            self.metrics.batch_requests.observe(report.requests, self.name)
            self.metrics.batch_seconds.observe(report.seconds, self.name)

    # -- what requests ask -------------------------------------------------------------------------------

    def submit(self, inputs: Sequence[Any], options: dict[str, Any]) -> asyncio.Future[list[tuple[Any, int]]]:
        """Put inputs into the queue.

        Raises:
            ApiError: If it is full (429), or the server is being stopped (503).
        """
        try:
            return self.batcher.submit_here(inputs, **options)
        except QueueFull:
            raise too_many(
                "This server has more to do than it can hold. Come again in a while.",
                seconds=self.seconds_of_queue(),
            ) from None
        except BatcherClosed:
            raise ApiError(503, "This server is being stopped.", code="stopping") from None

    def seconds_of_queue(self) -> int:
        """How long what waits will take, about."""
        rate = self._inputs_per_second
        return 1 if rate <= 0 else max(1, min(LONGEST_WAIT, math.ceil(self.waiting / rate)))

    def embed(
        self, inputs: list[str] | list[list[int]], wanted: WantedVectors
    ) -> asyncio.Future[list[tuple[Any, int]]]:
        """Vectors of texts or token ids, each with its number of tokens."""
        if isinstance(inputs[0], str):
            self.check_tokens(sum(self.tokens_at_most(text) for text in inputs))
        else:
            self.check_ids(inputs)
        return self.submit(inputs, self.options(wanted))

    def score(self, query: str, documents: list[str]) -> asyncio.Future[list[tuple[Any, int]]]:
        """Scores of documents for a query, each with the tokens of the pair."""
        self.check_tokens(sum(self.tokens_at_most(query + document) for document in documents))
        return self.submit([(query, document) for document in documents], {})

    def compare(self, first: np.ndarray, second: np.ndarray) -> list[list[float]]:
        """Similarity of all vectors (n, D) with all others (m, D): n rows of m numbers."""
        with helpers_let_go():
            return self.model.similarity(first, second).tolist()

    def options(self, wanted: WantedVectors) -> dict[str, Any]:
        """Arguments of `encode`; those that a request leaves at their defaults share batches."""
        options: dict[str, Any] = {}
        name = wanted.prompt_name
        if wanted.task is not None:
            options["task"] = wanted.task
            name = name if name is not None else prompt_name_of_task(self.model.prompts, wanted.task)
        if name is not None:
            if name not in self.model.prompts:
                raise wrong("prompt_name", "The model has no prompt of this name.")
            options["prompt_name"] = name
        if wanted.dimensions is not None:
            width = self.model.get_sentence_embedding_dimension()
            if width is not None and wanted.dimensions > width:
                raise wrong(
                    "dimensions", f"The model's vectors have {width} dimensions. Ask for 1 to {width}."
                )
            options["truncate_dim"] = wanted.dimensions
        if wanted.normalize or (wanted.dimensions is not None and self.gives_unit_vectors):
            options["normalize_embeddings"] = True
        return options

    @property
    def gives_unit_vectors(self) -> bool:
        """Whether vectors have length one as the model gives them."""
        return any(isinstance(module, Normalize) for module in self.model)

    # -- limits ------------------------------------------------------------------------------------------

    def tokens_at_most(self, text: str) -> int:
        """About how many tokens are read of a text."""
        guess = 2 + len(text) // CHARACTERS_PER_TOKEN
        limit = self.model.max_seq_length
        return guess if limit is None else min(guess, limit)

    def check_tokens(self, tokens: int) -> None:
        if tokens > self.settings.max_tokens:
            raise too_large(
                f"The request has about {tokens} tokens, more than the {self.settings.max_tokens} of one request. "
                "Send several."
            )

    def check_ids(self, rows: list[list[int]]) -> None:
        """Refuse token ids that the model cannot read."""
        vocabulary = getattr(self.model.config, "vocab_size", None)
        if not isinstance(vocabulary, int):
            raise wrong("input", "This model takes texts, no token ids.")
        limit = self.model.max_seq_length
        self.check_tokens(sum(map(len, rows)))
        for number, row in enumerate(rows):
            if limit is not None and len(row) > limit:
                raise wrong("input", f"Input {number} has {len(row)} token ids; the model reads {limit}.")
            if min(row) < 0 or max(row) >= vocabulary:
                raise wrong(
                    "input",
                    f"Input {number} has a token id outside of the model's own vocabulary, which is 0 to "
                    f"{vocabulary - 1}.",
                )
