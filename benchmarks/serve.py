"""The server under load: many clients at once, beside the same texts encoded offline and beside a single client.

    python benchmarks/serve.py [--clients 64] [--seconds 120] [--texts 1 16] [--quick]

Starts `sentence-transformers serve` with all-MiniLM-L6-v2 in a process of its own. For each number of texts in a
request: one client alone, then all clients at once, each with a connection of its own and sending as soon as it
was answered. Offline is `encode` of the same texts a thousand at a time, in a process that ends before the server starts.
Clients, server and model share the cores of the machine. Writes results/serve-MACHINE.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from side_by_side import (
    ENVIRONMENT,
    HERE,
    ROOT,
    machine,
    minilm_folder,
    print_table,
    sentences,
    write_results,
)

OFFLINE = """
import json, sys, time
from sentence_transformers import SentenceTransformer
work = json.loads(sys.stdin.readline())
model = SentenceTransformer(work["folder"], device="cpu")
model.encode(work["texts"][:128])
texts, began, done = work["texts"], time.perf_counter(), 0
while time.perf_counter() < began + work["seconds"]:
    part = [texts[number % len(texts)] for number in range(done, done + work["part"])]
    model.encode(part)
    done += len(part)
rate = done / (time.perf_counter() - began)
alone = []
for text in texts[: work["part"] // 10]:
    began = time.perf_counter()
    model.encode(text)
    alone.append(time.perf_counter() - began)
print(json.dumps({"rate": rate, "alone": alone}))
"""


def main() -> None:
    options = parse_arguments()
    texts, source = sentences()
    folder = str(minilm_folder())
    results: dict[str, Any] = {
        "machine": machine(),
        "model": "all-MiniLM-L6-v2",
        "texts": f"{len(texts)} sentences of {source}",
        "clients": options.clients,
        "seconds": options.seconds,
        "encoding_format": options.encoding_format,
        "offline": offline(
            folder, texts, seconds=min(20.0, options.seconds), part=128 if options.quick else 1024
        ),
        "served": {},
    }
    with server(folder) as process:
        for number in options.texts:
            results["served"][str(number)] = served(process, texts, number, options)
        results["memory_at_end_mib"] = process.memory()
    report(results)
    if not options.quick:
        write_results("serve", results)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=64, help="how many at once")
    parser.add_argument("--seconds", type=float, default=120.0, help="how long each load is held")
    parser.add_argument("--texts", type=int, nargs="+", default=[1, 16], help="texts of a request")
    parser.add_argument("--encoding-format", choices=("float", "base64"), default="base64")
    parser.add_argument("--quick", action="store_true", help="five seconds, nothing written: does it run?")
    options = parser.parse_args()
    if options.quick:
        options.seconds = 5.0
    return options


def offline(folder: str, texts: list[str], *, seconds: float, part: int) -> dict[str, Any]:
    """Texts a second of `encode` with so many at a time, and the milliseconds of a single one."""
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE],
        input=json.dumps({"folder": folder, "texts": texts, "seconds": seconds, "part": part}) + "\n",
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=True,
    )
    answer = json.loads(done.stdout)
    return {
        "texts_per_second": answer["rate"],
        "single_text_ms": 1000 * percentile(answer["alone"], 50),
    }


class Server:
    """The running server."""

    def __init__(self, folder: str) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "sentence_transformers",
                "serve",
                folder,
                "--name",
                "model",
                "--port",
                "0",
            ],
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
            cwd=ROOT,
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            found = re.search(r"running on http://127\.0\.0\.1:(\d+)", line)
            if found:
                self.port = int(found.group(1))
                break
        else:
            sys.exit(f"The server ended with {self.process.wait()}.")
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def memory(self) -> float | None:
        """Resident memory in MiB, where the system tells it."""
        path = Path(f"/proc/{self.process.pid}/statm")
        if not path.exists():
            return None
        return int(path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextmanager
def server(folder: str) -> Iterator[Server]:
    """A server, stopped in good order with the block."""
    started = Server(folder)
    try:
        yield started
    finally:
        started.process.send_signal(signal.SIGTERM)
        started.process.wait(60)


def served(process: Server, texts: list[str], number: int, options: argparse.Namespace) -> dict[str, Any]:
    """One number of texts in a request: a client alone, a warm-up, then all clients."""
    requests = [texts[start : start + number] for start in range(0, len(texts) - number + 1, number)]
    work = {
        "host": "127.0.0.1",
        "port": process.port,
        "texts": requests,
        "encoding_format": options.encoding_format,
    }
    load(work, clients=options.clients, seconds=min(5.0, options.seconds))
    alone = load(work, clients=1, seconds=min(10.0, options.seconds))
    before = process.memory()
    together = load(work, clients=options.clients, seconds=options.seconds)
    return {
        "alone": alone,
        "together": together,
        "memory_before_mib": before,
        "memory_after_mib": process.memory(),
    }


def load(work: dict[str, Any], *, clients: int, seconds: float) -> dict[str, Any]:
    """What a number of clients saw, in a process of their own."""
    done = subprocess.run(
        [sys.executable, str(HERE / "serve_client.py")],
        input=json.dumps({**work, "clients": clients, "seconds": seconds}) + "\n",
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    milliseconds = [1000 * value for value in told["seconds"]]
    return {
        "requests": len(milliseconds),
        "requests_per_second": len(milliseconds) / told["wall"],
        "texts_per_second": told["texts"] / told["wall"],
        **{f"p{share}_ms": percentile(milliseconds, share) for share in (50, 95, 99)},
        "slowest_ms": max(milliseconds, default=None),
        "errors": told["errors"],
    }


def percentile(values: list[float], share: int) -> float:
    """The value that a share of all do not exceed, by nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * share // 100)] if ordered else float("nan")


def report(results: dict[str, Any]) -> None:
    rate = results["offline"]["texts_per_second"]
    print(f"\nOffline: {rate:,.0f} texts/s; a single text {results['offline']['single_text_ms']:.1f} ms.")
    rows = []
    for number, one in results["served"].items():
        alone, together = one["alone"], one["together"]
        rows.append(
            [
                f"{number} in a request",
                together["requests_per_second"],
                together["texts_per_second"],
                together["texts_per_second"] / rate,
                alone["p50_ms"],
                together["p50_ms"],
                together["p95_ms"],
                together["p99_ms"],
                together["p99_ms"] / alone["p50_ms"],
                one["memory_before_mib"],
                one["memory_after_mib"],
                sum(together["errors"].values()),
            ]
        )
    header = ["texts", "requests/s", "texts/s", "of offline", "alone p50 ms", "p50 ms", "p95 ms", "p99 ms"]
    print_table([*header, "p99/alone", "MiB before", "after", "errors"], rows)


if __name__ == "__main__":
    main()
