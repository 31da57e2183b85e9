"""The server under load: many clients at once, beside the same texts encoded offline and beside a single client.

    python benchmarks/serve.py [--clients 64] [--seconds 120] [--texts 1 16] [--quick]

Starts `sentence-transformers serve` with all-MiniLM-L6-v2 in a process of its own. For each number of texts in a
request: one client alone, then all clients at once, each with a connection of its own and sending as soon as it
was answered. Offline is `encode` of the same texts a thousand at a time, in a process of its own that only waits while
the server is measured: before and after each load, since the speed of machines changes. Clients, server and model share the cores of the machine; how much of their time each took is told beside it, and so
is the server's memory every two seconds of each load. Writes results/serve-MACHINE.json.
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
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import linear_regression, mean
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
texts = work["texts"]
model.encode(texts[:128])
for line in sys.stdin:
    began, done = time.perf_counter(), 0
    cpu_began = time.process_time()
    while time.perf_counter() < began + float(line):
        part = [texts[number % len(texts)] for number in range(done, done + work["part"])]
        model.encode(part)
        done += len(part)
    rate = done / (time.perf_counter() - began)
    cpu = (time.process_time() - cpu_began) / done
    alone = []
    for text in texts[: work["part"] // 10]:
        began = time.perf_counter()
        model.encode(text)
        alone.append(time.perf_counter() - began)
    print(json.dumps({"rate": rate, "cpu": cpu, "alone": alone}), flush=True)
"""

WARM_AFTER = 10.0
"""Seconds of a load after which memory should grow no more."""


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
        "offline": [],
        "served": {},
    }
    with offline(folder, texts, part=128 if options.quick else 1024) as measure, server(folder) as process:
        seconds = min(10.0, options.seconds)
        results["offline"].append(measure(seconds))
        for number in options.texts:
            results["served"][str(number)] = served(process, texts, number, options)
            results["offline"].append(measure(seconds))
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


@contextmanager
def offline(folder: str, texts: list[str], *, part: int) -> Iterator[Callable[[float], dict[str, float]]]:
    """What measures, for so many seconds, the texts a second of `encode` with so many at a time, and a single text."""
    process = subprocess.Popen(
        [sys.executable, "-c", OFFLINE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    told, heard = process.stdin, process.stdout
    told.write(json.dumps({"folder": folder, "texts": texts, "part": part}) + "\n")

    def measure(seconds: float) -> dict[str, float]:
        told.write(f"{seconds}\n")
        told.flush()
        answer = json.loads(heard.readline())
        return {
            "texts_per_second": answer["rate"],
            "cpu_ms_per_text": 1000 * answer["cpu"],
            "single_text_ms": 1000 * percentile(answer["alone"], 50),
        }

    try:
        yield measure
    finally:
        told.close()
        process.wait(60)


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

    def cpu(self) -> float | None:
        """Seconds of the processors' time it has taken, where the system tells it."""
        path = Path(f"/proc/{self.process.pid}/stat")
        if not path.exists():
            return None
        fields = path.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @contextmanager
    def watched(self, seconds: float = 2.0) -> Iterator[list[tuple[float, float]]]:
        """Memory every so often for as long as the block runs: seconds since its start, and MiB."""
        seen: list[tuple[float, float]] = []
        is_over = threading.Event()
        began = time.perf_counter()

        def watch() -> None:
            while not is_over.wait(seconds):
                memory = self.memory()
                if memory is not None:
                    seen.append((round(time.perf_counter() - began, 1), round(memory, 1)))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield seen
        finally:
            is_over.set()
            watcher.join()


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
    load(process, work, clients=options.clients, seconds=min(5.0, options.seconds))
    alone = load(process, work, clients=1, seconds=min(10.0, options.seconds))
    with process.watched() as memory:
        together = load(process, work, clients=options.clients, seconds=options.seconds)
    # What comes after are the last answers.
    memory = [(second, mib) for second, mib in memory if second <= options.seconds]
    return {"alone": alone, "together": together, "memory": course(memory), "memory_mib": memory}


def course(memory: list[tuple[float, float]]) -> dict[str, float | None]:
    """Memory in MiB once warm and at the end, the most of it, and how much more it becomes in a minute."""
    warm = [one for one in memory if one[0] >= WARM_AFTER]
    if len(warm) < 2:
        return {
            "warm_mib": None,
            "end_mib": memory[-1][1] if memory else None,
            "most_mib": None,
            "slope": None,
        }
    slope = linear_regression([second for second, _ in warm], [mib for _, mib in warm]).slope
    return {
        "warm_mib": warm[0][1],
        "end_mib": warm[-1][1],
        "most_mib": max(mib for _, mib in warm),
        "slope": 60 * slope,
    }


def load(process: Server, work: dict[str, Any], *, clients: int, seconds: float) -> dict[str, Any]:
    """What a number of clients saw, in a process of their own, and the processors' time that it took."""
    before = process.cpu()
    done = subprocess.run(
        [sys.executable, str(HERE / "serve_client.py")],
        input=json.dumps({**work, "clients": clients, "seconds": seconds}) + "\n",
        capture_output=True,
        text=True,
        check=True,
    )
    after = process.cpu()
    told = json.loads(done.stdout)
    milliseconds = [1000 * value for value in told["seconds"]]
    return {
        "requests": len(milliseconds),
        "requests_per_second": len(milliseconds) / told["wall"],
        "texts_per_second": told["texts"] / told["wall"],
        **{f"p{share}_ms": percentile(milliseconds, share) for share in (50, 95, 99)},
        "slowest_ms": max(milliseconds, default=None),
        "errors": told["errors"],
        "client_cpu_seconds": told["cpu"],
        "server_cpu_seconds": None if before is None or after is None else after - before,
        "cpu_ms_per_text": {
            "client": 1000 * told["cpu"] / max(1, told["texts"]),
            "server": None
            if before is None or after is None
            else 1000 * (after - before) / max(1, told["texts"]),
        },
    }


def percentile(values: list[float], share: int) -> float:
    """The value that a share of all do not exceed, by nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * share // 100)] if ordered else float("nan")


def report(results: dict[str, Any]) -> None:
    rows, costs = [], []
    around = zip(results["offline"], results["offline"][1:])
    for (number, one), (before, after) in zip(results["served"].items(), around):
        rate, cpu, single = (
            mean([before[key], after[key]])
            for key in ("texts_per_second", "cpu_ms_per_text", "single_text_ms")
        )
        print(
            f"\nOffline, before and after {number} in a request: {before['texts_per_second']:,.0f} and "
            f"{after['texts_per_second']:,.0f} texts/s, {cpu:.2f} ms of the processors' time a text; "
            f"a single text {single:.1f} ms."
        )
        alone, together, memory = one["alone"], one["together"], one["memory"]
        name = f"{number} in a request"
        rows.append(
            [
                name,
                together["requests_per_second"],
                together["texts_per_second"],
                together["texts_per_second"] / rate,
                alone["p50_ms"],
                together["p50_ms"],
                together["p95_ms"],
                together["p99_ms"],
                together["p99_ms"] / alone["p50_ms"],
                sum(together["errors"].values()),
            ]
        )
        spent = together["cpu_ms_per_text"]
        costs.append(
            [
                name,
                spent["server"],
                spent["client"],
                # What the rate would be if all computed as much of the time as offline does.
                None if spent["server"] is None else cpu / (spent["server"] + spent["client"]),
                memory["warm_mib"],
                memory["end_mib"],
                memory["most_mib"],
                memory["slope"],
            ]
        )
    header = ["texts", "requests/s", "texts/s", "of offline", "alone p50 ms", "p50 ms", "p95 ms", "p99 ms"]
    print_table([*header, "p99/alone", "errors"], rows)
    header = [
        "texts",
        "server ms/text",
        "clients ms/text",
        "of offline by cost",
        f"MiB at {WARM_AFTER:.0f} s",
    ]
    print_table([*header, "at the end", "most", "MiB/minute"], costs)


if __name__ == "__main__":
    main()
