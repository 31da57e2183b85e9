"""How a model computes many inputs: in this process, or in others.

A kind of model says what it makes of a batch and where the results go; the loop over batches stands in
`inference/engine.py`, the processes in `inference/workers.py` and `inference/ranks.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from sentence_transformers.backend.arranged import BATCH_TOKENS, never_arranged, pays_for_any_batch
from sentence_transformers.backend.exported import ExportedModel
from sentence_transformers.backend.fixed_shapes import fixed_shapes
from sentence_transformers.backend.untouched import has_hooks
from sentence_transformers.encoder.graph_rows import (
    MOST_GRAPH_LANES,
    GraphRows,
    graph_rows,
    torch_is_watched,
)
from sentence_transformers.inference.engine import Job, progress_bar, run
from sentence_transformers.inference.lanes import MOST_LANES
from sentence_transformers.inference.memory import TokenBudget
from sentence_transformers.inference.ranks import Ranks
from sentence_transformers.inference.sinks import ListSink, Sink
from sentence_transformers.inference.tokens import Source
from sentence_transformers.inference.workers import Pool, run_in_pool, serve, start_pool, stop_pool
from sentence_transformers.inputs.packing import ROW_LENGTHS, PackedLayout
from sentence_transformers.modules.transformer.module import Transformer

ROWS = "rows"
"""Key under which the features of each row by itself are handed on."""


class ComputingMixin:
    """Runs of the engine over the inputs of one call, for a model that knows how to read them."""

    input_unit: str = "text"
    """What the progress bar counts."""
    _ranks: Ranks | None = None
    """Processes of a distributed run that compute for this one, during an evaluation."""

    # What a model has.
    device: torch.device
    training: bool
    to: Callable[..., Any]
    eval: Callable[..., Any]
    _source: Callable[..., Source]
    _budgets: dict[str, TokenBudget]
    __call__: Callable[..., Any]
    children: Callable[[], Iterator[nn.Module]]
    named_children: Callable[[], Iterator[tuple[str, nn.Module]]]
    _runs_plainly: bool
    _through: Callable[[Iterable[tuple[str, nn.Module]], Any], Any]

    def _budget(self) -> TokenBudget:
        """The token budget of the device the model is on, shared by all calls."""
        return self._budget_on(self.device)

    def _budget_on(self, device: torch.device) -> TokenBudget:
        budget = self._budgets.get(str(device))
        if budget is None:
            budget = TokenBudget(device)
            graph = getattr(next(iter(self.children()), None), "held_model", None)
            if device.type == "cpu" and isinstance(graph, ExportedModel):
                budget.tokens = graph.batch_tokens or budget.tokens
            elif device.type == "cpu" and pays_for_any_batch():
                budget.tokens = min(budget.tokens, BATCH_TOKENS)
            budget = self._budgets.setdefault(str(device), budget)
        return budget

    def _compute_here(
        self,
        items: Sequence[Any],
        sink: Sink,
        *,
        finish: Callable[[dict[str, Any]], Any],
        packed: bool,
        prompt: str | None,
        device: Any,
        max_rows: int | None,
        shows_progress: bool,
        module_kwargs: dict[str, Any],
        reading_kwargs: dict[str, Any],
        notes: Mapping[str, Any] = MappingProxyType({}),
        deterministic: bool = False,
    ) -> None:
        """Compute inputs in this process.

        Args:
            items: The inputs.
            sink: Where the results go.
            finish: Makes of a batch's features what the sink takes.
            packed: Whether rows may be packed.
            prompt: Put in front of every text.
            device: Where to compute; None for where the model is.
            max_rows: Inputs of a batch at most.
            shows_progress: Whether to show a bar.
            module_kwargs: For the modules' `forward`.
            reading_kwargs: For the first module's side of inputs.
            notes: Entries that the features of every batch get, for the modules to see.
            deterministic: Whether an input's result must not depend on the others, to the last bit.
        """
        if device is not None and torch.device(device) != self.device:
            self.to(device)
        if self.training:
            self.eval()
        here = self.device
        source = self._source(items, packed=packed, prompt=prompt, **reading_kwargs)
        graph = graph_rows(self, source, here) if packed and not module_kwargs else None
        job = Job(
            source=graph or source,
            # Called, not `forward`ed: what spreads weights over processes collects them in hooks.
            forward=graph.forward if graph else lambda features: self({**features, **notes}, **module_kwargs),
            finish=finish,
            device=here,
            budget=self._budget_on(here),
            max_rows=max_rows,
            show_progress_bar=shows_progress,
            unit=self.input_unit,
            side_by_side=lambda: packed and not module_kwargs and is_shared_by_threads(self, graph),
            most_lanes=MOST_GRAPH_LANES if graph else MOST_LANES,
        )
        if not deterministic:
            run(job, items, sink)
            return
        with never_arranged():
            # One batch after the other, since other numbers of threads give other last digits.
            job = replace(job, side_by_side=lambda: False)
            if job.source.packed and not module_kwargs and self._runs_plainly and first_keeps_bits(self):
                with fixed_shapes():
                    run(self._rows_apart(job, notes), items, sink)
            else:  # one input at a time, so that the shape of nothing depends on another input
                run(replace(job, max_rows=1), items, sink)

    def _rows_apart(self, job: Job, notes: Mapping[str, Any]) -> Job:
        """The job with batches for the first part only, and row after row given to those behind it."""
        (_, part), *others = self.named_children()
        first: Any = part

        def forward(features: dict[str, Any]) -> dict[str, Any]:
            if 0 in features[ROW_LENGTHS] and first.transformer_task != "feature-extraction":
                raise ValueError(
                    "An input has no token at all, and so no score of its own: in a batch it is scored by its padding. "
                    "Leave it out, or pass deterministic=False."
                )
            features = first({**features, **notes})
            layout = PackedLayout.read(features)
            assert layout is not None, "the source packs"
            return {ROWS: [*layout.each_row(features)]}

        def finish(outputs: dict[str, Any]) -> Any:
            found = [job.finish(self._through(others, row)) for row in outputs[ROWS]]
            if isinstance(found[0], Tensor):
                return torch.cat(found)
            return [result for results in found for result in results]

        return replace(job, forward=forward, finish=finish)

    def _is_shared_work(self, items: Sequence[Any], pool: Pool | None, device: Any) -> bool:
        """Whether other processes are to compute these inputs."""
        by_ranks = pool is None and self._ranks is not None and self._ranks.takes(items)
        return by_ranks or pool is not None or isinstance(device, (list, tuple))

    def _compute_in_processes(
        self,
        items: Sequence[Any],
        sink: Sink,
        work: dict[str, Any],
        *,
        pool: Pool | None,
        devices: Any,
        chunk_size: int | None,
        shows_progress: bool,
    ) -> None:
        """Compute inputs in worker processes: of a pool, of a distributed run, or started and ended here.

        Args:
            items: The inputs.
            sink: Where the results go.
            work: Options of `_encode_share`, which computes them there.
            pool: From `start_multi_process_pool`.
            devices: Devices to start a worker on each, when there is no pool.
            chunk_size: Inputs that are sent at a time.
            shows_progress: Whether to show a bar.
        """
        ranks = self._ranks if pool is None else None
        started = self.start_multi_process_pool(list(devices)) if pool is None and ranks is None else None

        def put(numbers: Sequence[int], result: Any) -> None:
            sink.put(numbers, result if isinstance(sink, ListSink) else torch.as_tensor(result))

        if ranks is not None:
            ranks.run(items, work, put)
            return
        try:
            with progress_bar(len(items), shown=shows_progress, unit=self.input_unit) as bar:
                run_in_pool(
                    started or pool or {}, items, work, chunk_size=chunk_size, put=put, update=bar.update
                )
        finally:
            if started is not None and started["processes"]:
                self.stop_multi_process_pool(started)

    def _encode_share(self, inputs: Sequence[Any], options: dict[str, Any]) -> Any:
        """Compute what another process has sent, where the model is."""
        raise NotImplementedError

    def start_multi_process_pool(
        self, target_devices: list[str] | None = None, *, timeout: float | None = None
    ) -> Pool:
        """Start worker processes that encode, each with a copy of the model.

        A call that uses the pool raises `RuntimeError` when a worker raises, dies, or (with a timeout) hangs.

        Args:
            target_devices: One device for each worker; None for all GPUs, or four workers on the CPU.
            timeout: Seconds that a call waits for the next result of any worker, the workers' start included,
                before it stops the pool and raises; None waits for as long as it takes.

        Returns:
            The pool, with `input`, `output` and `processes`; pass it to `encode(…, pool=…)`.
        """
        return start_pool(self, target_devices, type(self)._multi_process_worker, timeout=timeout)

    @staticmethod
    def stop_multi_process_pool(pool: Pool) -> None:
        """End the workers of a pool."""
        stop_pool(pool)

    @staticmethod
    def _multi_process_worker(device: str, model: Any, inputs: Any, outputs: Any) -> None:
        model.to(device)
        serve(model._encode_share, inputs, outputs)


def first_keeps_bits(model: Any) -> bool:
    """Whether the first part of a model is a transformer that gives a row the same bits in any batch."""
    first = next(model.children(), None)
    with torch.inference_mode():
        return type(first) is Transformer and first.keeps_bits


def is_shared_by_threads(model: Any, graph: GraphRows | None = None) -> bool:
    """Whether several threads may run a model at once, and nobody looks who would see batches in another order.

    So where it is made of our own parts and the transformer runs by our own forward or is a `graph` whose rows run
    through it here, without hooks, and the calling thread has switched nothing that would not reach other threads.
    """
    parts = list(model.children())
    return (
        type(parts[0]) is Transformer
        and all(type(part).__module__.startswith("sentence_transformers.") for part in parts)
        and model._runs_plainly
        and not has_hooks(model)
        and not torch_is_watched()
        and (parts[0].runs_natively if graph is None else graph.graph.prepare_side_by_side())
    )
