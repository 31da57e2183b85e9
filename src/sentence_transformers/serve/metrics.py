"""Counts of what a server does, in the text format that Prometheus reads. Nothing here knows requests or models."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path

PREFIX = "sentence_transformers_"

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[str, ...]


class Counter:
    """Numbers that only grow, one for each combination of labels."""

    kind = "counter"

    def __init__(self, name: str, help: str, labels: Sequence[str] = ()) -> None:
        self.name, self.help, self.labels = PREFIX + name, help, tuple(labels)
        self._values: dict[Labels, float] = {}
        self._lock = threading.Lock()

    def add(self, amount: float, *labels: str) -> None:
        with self._lock:
            self._values[labels] = self._values.get(labels, 0) + amount

    def lines(self) -> list[str]:
        with self._lock:
            values = dict(self._values)
        return [f"{self.name}{shown(self.labels, labels)} {value:g}" for labels, value in values.items()]


class Gauge:
    """A number that is asked for when it is read; labels and values come together."""

    kind = "gauge"

    def __init__(
        self, name: str, help: str, labels: Sequence[str], ask: Callable[[], dict[Labels, float]]
    ) -> None:
        self.name, self.help, self.labels, self.ask = PREFIX + name, help, tuple(labels), ask

    def lines(self) -> list[str]:
        return [f"{self.name}{shown(self.labels, labels)} {value:g}" for labels, value in self.ask().items()]


class Histogram:
    """How many observations were at most as large as each bound, and their sum."""

    kind = "histogram"

    def __init__(self, name: str, help: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        self.name, self.help, self.labels = PREFIX + name, help, tuple(labels)
        self.bounds = tuple(bounds)
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}
        self._lock = threading.Lock()

    def observe(self, value: float, *labels: str) -> None:
        with self._lock:
            counts = self._counts.setdefault(labels, [0] * (len(self.bounds) + 1))
            counts[bisect_left(self.bounds, value)] += 1
            self._sums[labels] = self._sums.get(labels, 0.0) + value

    def lines(self) -> list[str]:
        with self._lock:
            copied = [(labels, list(counts), self._sums[labels]) for labels, counts in self._counts.items()]
        lines = []
        for labels, counts, total in copied:
            running = 0
            for bound, count in zip((*self.bounds, float("inf")), counts):
                running += count
                limit = "+Inf" if bound == float("inf") else f"{bound:g}"
                lines.append(f"{self.name}_bucket{shown((*self.labels, 'le'), (*labels, limit))} {running}")
            lines.append(f"{self.name}_sum{shown(self.labels, labels)} {total:.9g}")
            lines.append(f"{self.name}_count{shown(self.labels, labels)} {running}")
        return lines


class Metrics:
    """All that a server counts.

    Args:
        waiting: Inputs in the queue of each model, by name.
        in_flight: Requests that are being answered.
    """

    def __init__(self, *, waiting: Callable[[], dict[str, int]], in_flight: Callable[[], int]) -> None:
        self.requests = Counter("requests_total", "Requests answered.", ("route", "status"))
        self.seconds = Histogram(
            "request_seconds", "From a request's head to its answer's end.", ("route",), SECONDS
        )
        self.inputs = Counter("inputs_total", "Texts and pairs computed.", ("model",))
        self.tokens = Counter(
            "tokens_total", "Tokens computed; equal inputs of a batch count once.", ("model",)
        )
        self.batch_inputs = Histogram("batch_inputs", "Inputs of a batch.", ("model",), SIZES)
        self.batch_requests = Histogram("batch_requests", "Requests of a batch.", ("model",), SIZES)
        self.batch_seconds = Histogram("batch_seconds", "Time to compute a batch.", ("model",), SECONDS)
        self._all = [
            *vars(self).values(),
            Gauge(
                "queue_inputs",
                "Inputs that wait to be computed.",
                ("model",),
                lambda: {(name,): number for name, number in waiting().items()},
            ),
            Gauge("requests_in_flight", "Requests being answered.", (), lambda: {(): in_flight()}),
            Gauge("resident_memory_bytes", "Memory of the server's process.", (), resident_memory),
        ]

    def text(self) -> str:
        """Everything, as Prometheus reads it."""
        lines = []
        for metric in self._all:
            lines += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}"]
            lines += metric.lines()
        return "\n".join(lines) + "\n"


def shown(names: Sequence[str], values: Sequence[str]) -> str:
    """Labels in braces; nothing where there are none."""
    if not names:
        return ""
    return "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in zip(names, values)) + "}"


def escaped(value: str) -> str:
    """A label's value with what the format reserves escaped."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def resident_memory() -> dict[Labels, float]:
    """Memory of this process in bytes; nothing where the system does not tell it this way."""
    path = Path("/proc/self/statm")
    if not path.exists():
        return {}
    import resource

    return {(): int(path.read_text(encoding="ascii").split()[1]) * resource.getpagesize()}
