"""Requests that wait to be computed, and which of them go into the next batch.

Requests of one group may share a batch; groups take turns. Within a group the order is that of arrival, except
that a request with more than `TURN` inputs goes to the end after each turn. No threads and no model here: whoever
uses a queue from several threads holds a lock.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

TURN = 32
"""Inputs of one request that go into a batch while others wait, so that a large one holds up nobody."""


@dataclass(eq=False, kw_only=True)
class Request:
    """One caller's inputs, which may be computed in several batches.

    `sizes` are the characters of each; `results` stand under the numbers of their inputs; `single` says that the caller passed one input rather than a list;
    `arrived` is in seconds of the monotonic clock; `future` is one of `concurrent.futures`, or `mailbox.Awaited`.
    """

    inputs: Sequence[Any]
    sizes: list[int]
    single: bool
    options: dict[str, Any]
    group: Hashable
    arrived: float
    future: Any = field(default_factory=Future)
    taken: int = 0
    results: dict[int, Any] = field(default_factory=dict)
    is_settled: bool = False

    @property
    def waiting(self) -> int:
        """Inputs that are in no batch yet."""
        return len(self.inputs) - self.taken


@dataclass(frozen=True)
class Share:
    """The inputs of a request that are in one batch: from `start` up to `stop`."""

    request: Request
    start: int
    stop: int

    @property
    def inputs(self) -> Sequence[Any]:
        return self.request.inputs[self.start : self.stop]

    @property
    def sizes(self) -> list[int]:
        return self.request.sizes[self.start : self.stop]


class FairQueue:
    """Waiting requests, of which a batch at a time is taken.

    Args:
        max_tokens: Tokens of a batch; a larger input gets a batch of its own.
        max_inputs: Inputs of a batch; None for no limit.
        tokens_of: About how many tokens there are in so many characters.

    Attributes:
        requests, inputs, characters: How many wait.
    """

    def __init__(self, *, max_tokens: int, max_inputs: int | None, tokens_of: Callable[[int], int]) -> None:
        self.max_tokens = max_tokens
        self.max_inputs = max_inputs
        self.tokens_of = tokens_of
        self.requests = 0
        self.inputs = 0
        self.characters = 0
        self._groups: OrderedDict[Hashable, deque[Request]] = OrderedDict()

    def __iter__(self) -> Any:
        return (request for group in self._groups.values() for request in group)

    def first(self) -> Request:
        """The request whose turn it is; the queue must not be empty."""
        return next(iter(self._groups.values()))[0]

    def add(self, request: Request) -> None:
        """Put a request at the end of its group."""
        self._groups.setdefault(request.group, deque()).append(request)
        self.requests += 1
        self.inputs += request.waiting
        self.characters += sum(request.sizes[request.taken :])

    def remove(self, request: Request) -> None:
        """Take out what is left of a request; nothing happens if nothing is."""
        group = self._groups.get(request.group)
        if group is None or request not in group:
            return
        group.remove(request)
        if not group:
            del self._groups[request.group]
        self.requests -= 1
        self.inputs -= request.waiting
        self.characters -= sum(request.sizes[request.taken :])

    def may_fill_a_batch(self) -> bool:
        """Whether all that waits is as much as a batch, which is told at once."""
        # As the tokens of each input are counted, and a little more.
        tokens = 1 + self.inputs + self.tokens_of(self.characters)
        return tokens >= self.max_tokens or (self.max_inputs is not None and self.inputs >= self.max_inputs)

    def fills_a_batch(self) -> bool:
        """Whether the group whose turn it is has enough for a whole batch."""
        inputs = tokens = 0
        for request in next(iter(self._groups.values()), ()):
            for size in request.sizes[request.taken :]:
                inputs += 1
                tokens += self.tokens_of(size)
                if tokens >= self.max_tokens or inputs == self.max_inputs:
                    return True
        return False

    def take(self, at_most: int | None = None) -> list[Share]:
        """The next batch, in order; the group it comes from goes to the end of the groups.

        Args:
            at_most: Inputs to take, where that is fewer than a batch may have.
        """
        most = min((limit for limit in (at_most, self.max_inputs) if limit is not None), default=None)
        key, group = self._groups.popitem(last=False)
        shares: list[Share] = []
        inputs = tokens = 0
        has_room = True
        while group and has_room:
            request = group.popleft()
            start = request.taken
            turn = min(request.waiting, TURN) if group else request.waiting
            while has_room and request.taken < start + turn:
                cost = self.tokens_of(request.sizes[request.taken])
                if inputs and (tokens + cost > self.max_tokens or inputs == most):
                    has_room = False
                else:
                    inputs, tokens = inputs + 1, tokens + cost
                    request.taken += 1
            if request.taken > start:
                shares.append(Share(request, start, request.taken))
            if not request.waiting:
                self.requests -= 1
            elif has_room:
                group.append(request)
            else:
                group.appendleft(request)
        if group:
            self._groups[key] = group
        self.inputs -= inputs
        self.characters -= sum(size for share in shares for size in share.sizes)
        return shares
