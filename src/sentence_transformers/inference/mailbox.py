"""Results from other threads for those who await them in an event loop.

Waking a loop costs a system call, and a struggle for Python's lock with the thread that has further results to hand
over. So results are put into the loop's mailbox, and it is woken once for all that lie there. Nothing here knows
what the results are.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any


class Mailbox:
    """What an event loop is to be given."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._letters: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()

    def put(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        """Leave a result or an error for a future; from any thread, and seen after the next `wake`."""
        self._letters.append((future, result, error))

    def wake(self) -> None:
        """Have the loop fetch what lies here; from any thread. Nothing happens where the loop was closed."""
        if self._letters and not self.loop.is_closed():
            try:
                self.loop.call_soon_threadsafe(self._fetch)
            except RuntimeError:
                if not self.loop.is_closed():
                    raise

    def _fetch(self) -> None:
        while self._letters:
            future, result, error = self._letters.popleft()
            if future.done():  # the caller has given up
                continue
            if error is None:
                future.set_result(result)
            else:
                # Which no future takes, as it would end the generator that awaits it.
                is_end = isinstance(error, StopIteration)
                future.set_exception(RuntimeError(repr(error)) if is_end else error)


class Awaited:
    """A future of an event loop that another thread fills, in those words of `concurrent.futures` that it needs.

    Args:
        mailbox: Of the loop that runs.
    """

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox = mailbox
        self.future: asyncio.Future[Any] = mailbox.loop.create_future()

    def set_running_or_notify_cancel(self) -> bool:
        """Always true: whether it was cancelled is seen where it is filled."""
        return True

    def set_result(self, result: Any) -> None:
        self.mailbox.put(self.future, result, None)

    def set_exception(self, error: BaseException) -> None:
        self.mailbox.put(self.future, None, error)

    def cancel(self) -> None:
        """Cancel it, from any thread."""
        if not self.mailbox.loop.is_closed():
            self.mailbox.loop.call_soon_threadsafe(self.future.cancel)
