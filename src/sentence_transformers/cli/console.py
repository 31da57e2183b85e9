"""What commands show: progress on a terminal, and errors as one sentence.

All of it goes to standard error, so that standard output stays for results.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

ERROR, INTERRUPTED = 1, 130
"""Exit codes."""

EXPECTED = (ValueError, TypeError, OSError, ImportError, RuntimeError)
"""Errors whose message says what to do."""


def terminal() -> Console:
    """Where messages go."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def plain_errors(*, debug: bool) -> Iterator[None]:
    """End the process with a sentence where an error says what to do; `debug` shows where it came from."""
    try:
        yield
    except EXPECTED as error:
        if debug:
            raise
        terminal().print(f"[bold red]Error:[/] {escape(str(error))}")
        raise SystemExit(ERROR) from error


class EncodingBar:
    """A bar with texts and tokens a second and the time left; shows nothing where there is no terminal."""

    def __init__(self, *, shown: bool) -> None:
        console = terminal()
        self.bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rates]}"),
            console=console,
            transient=True,
            disable=not (shown and console.is_terminal),
        )
        self.task = self.bar.add_task("Loading", total=None, rates="")
        self.began: float | None = None

    def __enter__(self) -> EncodingBar:
        self.bar.start()
        return self

    def __exit__(self, *details: Any) -> None:
        self.bar.stop()

    def show(self, progress: Any) -> None:
        """Show how far encoding is; takes the `Progress` of `encode_to`."""
        now = time.monotonic()
        self.began = now if self.began is None else self.began
        self.bar.update(
            self.task,
            description="Encoding",
            completed=progress.rows,
            total=progress.total,
            rates=rates(progress, now - self.began),
        )


def rates(progress: Any, seconds: float) -> str:
    """Texts and tokens a second and the time left, as far as they are known."""
    done = progress.rows - progress.resumed_from
    if not done or seconds <= 0:
        return ""
    parts = [f"{done / seconds:,.0f} texts/s"]
    if progress.tokens:
        parts.append(f"{progress.tokens / seconds:,.0f} tokens/s")
    if progress.total is not None:
        parts.append(f"{duration((progress.total - progress.rows) * seconds / done)} left")
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, as `1:02:03` or `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
