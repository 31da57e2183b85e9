"""Evaluation in a distributed run: one process evaluates, and all of them encode.

While the first process evaluates, the others serve it: whenever it encodes, every process takes a share of
the inputs with its own copy of the model. How a share is encoded is not known here.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch

from sentence_transformers.tensors.distributed import get_rank, get_world_size, is_dist_initialized

LONGEST_WAIT = timedelta(days=2)
"""How long processes wait for the one that evaluates: its arithmetic between two calls may take long."""


@contextmanager
def distributed_evaluation(model: Any, enabled: bool = True) -> Iterator[bool]:
    """Let the first process of a distributed run evaluate a model, and the others encode for it.

        with distributed_evaluation(model) as evaluates:
            metrics = evaluator(model) if evaluates else None

    The other processes enter the block only once the first one has left it. Every process must come here, and
    hold the same weights.

    Args:
        model: The model; every process has a copy.
        enabled: False lets every process evaluate by itself. Models whose weights are spread over the processes
            need that: none of them can encode alone.

    Yields:
        Whether this process is to evaluate. True outside a distributed run.

    Raises:
        RuntimeError: In the other processes, if the first one failed.
    """
    if not (enabled and is_dist_initialized() and get_world_size() > 1):
        yield True
        return
    ranks = Ranks(getattr(model, "_encode_share", None))
    try:
        if get_rank() > 0:
            failure = ranks.serve()
            if failure is not None:
                raise RuntimeError(f"The evaluation failed in the first process:\n{failure.traceback}")
            yield False
            return
        model._ranks = ranks
        try:
            yield True
        except BaseException:
            ranks.end(Failure(traceback.format_exc()))
            raise
        else:
            ranks.end()
        finally:
            model._ranks = None
    finally:
        torch.distributed.destroy_process_group(ranks.group)


class Failure:
    """What a process sends in place of a result when its work raised."""

    def __init__(self, text: str) -> None:
        self.traceback = text


class End:
    """Tells the others that the first process is done, or how it failed."""

    def __init__(self, failure: Failure | None) -> None:
        self.failure = failure


class Ranks:
    """The processes of a distributed run, as workers of the first of them.

    Args:
        work: Called with some inputs and options, in every process; None if there is nothing to share.
    """

    def __init__(self, work: Callable[[Sequence[Any], dict[str, Any]], Any] | None) -> None:
        self.work = work
        # Apart from the run's own group: objects go through the CPU, whatever the run computes on.
        self.group = torch.distributed.new_group(backend="gloo", timeout=LONGEST_WAIT)
        self.is_busy = False

    def takes(self, inputs: Sequence[Any]) -> bool:
        """Whether to share these inputs: there are enough of them, and this is no share already."""
        return self.work is not None and not self.is_busy and len(inputs) >= get_world_size()

    def run(
        self, inputs: Sequence[Any], options: dict[str, Any], put: Callable[[Sequence[int], Any], None]
    ) -> None:
        """Have all processes work on their share of the inputs; called by the first of them.

        Args:
            inputs: All inputs.
            options: Of the work.
            put: Called with the numbers of a share's inputs and their results.

        Raises:
            RuntimeError: If the work failed in any process, with its traceback.
        """
        count = get_world_size()
        self._send(options)
        results = self._work_together([inputs[number::count] for number in range(count)], options)
        for number, result in enumerate(results):
            if isinstance(result, Failure):
                raise RuntimeError(f"Process {number} of the distributed run failed:\n{result.traceback}")
            put(range(number, len(inputs), count), result)

    def serve(self) -> Failure | None:
        """Work for the first process until it is done; how it failed, if it did."""
        while not isinstance(options := self._send(None), End):
            self._work_together(None, options)
        return options.failure

    def end(self, failure: Failure | None = None) -> None:
        """Let the others go on, or fail too."""
        self._send(End(failure))

    def _send(self, value: Any) -> Any:
        """The first process's value, in all of them."""
        values = [value]
        torch.distributed.broadcast_object_list(values, src=0, group=self.group)
        return values[0]

    def _work_together(self, shares: list[Any] | None, options: dict[str, Any]) -> list[Any]:
        """Hand out shares, work, and collect the results; the others give and get None."""
        own: list[Any] = [None]
        torch.distributed.scatter_object_list(own, shares, src=0, group=self.group)
        self.is_busy = True
        try:
            result = self.work(own[0], options) if self.work is not None else None
        except Exception:
            result = Failure(traceback.format_exc())
        finally:
            self.is_busy = False
        results: list[Any] | None = [None] * get_world_size() if get_rank() == 0 else None
        torch.distributed.gather_object(result, results, dst=0, group=self.group)
        return results or []
