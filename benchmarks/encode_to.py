"""`encode_to` killed at random moments, and what it costs beside `encode`.

    python benchmarks/encode_to.py [--kills 20] [--rows 2000] [--formats npy parquet] [--rounds 3] [--seed 0]

Writes the embeddings of real sentences with all-MiniLM-L6-v2 once without disturbance. Then kills runs with
SIGKILL at random moments, over the whole of an undisturbed run's time, each in a process of its own, goes on
from there, and compares the files byte for byte. With `--rounds` above 0, times both ways of encoding
in turn. Writes results/encode-to-MACHINE.json. Needs a system with `fork`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from side_by_side import machine, minilm_folder, sentences, write_results

ROWS_PER_SHARD = 32


def main() -> None:
    options = parse_arguments()
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(minilm_folder()), device="cpu")
    found, source = sentences()
    # Different rows, since equal texts of a window are computed once.
    texts = [f"{text} ({number})" for number, text in enumerate(islice(cycle(found), options.rows))]
    results: dict[str, Any] = {"machine": machine(), "source": source, "rows": len(texts)}
    with tempfile.TemporaryDirectory() as scratch:
        results["kills"] = {
            format: survive(model, texts, Path(scratch) / format, format, options)
            for format in options.formats
        }
        if options.rounds:
            results["cost"] = cost(model, texts, Path(scratch), options.rounds)
    print(json.dumps(results["kills"], indent=2))
    if "cost" in results:
        print(json.dumps(results["cost"], indent=2))
    write_results("encode-to", results)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--formats", nargs="+", choices=("npy", "parquet"), default=["npy", "parquet"])
    return parser.parse_args()


def survive(
    model: Any, texts: list[str], scratch: Path, format: str, options: argparse.Namespace
) -> dict[str, Any]:
    """Kill runs and let others go on; how far each got, and whether the bytes are those of a whole run."""
    from sentence_transformers.inference.to_disk import record_of

    if format == "parquet":
        import pyarrow.parquet  # noqa: F401  (here, and not in every process anew)

    name = "out.npy" if format == "npy" else "out"
    whole, resumed = scratch / "whole" / name, scratch / "resumed" / name

    def start(path: Path) -> int:
        child = os.fork()
        if child == 0:
            model.encode_to(path, iter(texts), ids=range(len(texts)), rows_per_shard=ROWS_PER_SHARD)
            os._exit(0)
        return child

    def finish(path: Path) -> float:
        began = time.perf_counter()
        status = os.waitpid(start(path), 0)[1]
        if status:
            raise RuntimeError(f"The run that writes {path} ended with status {status}.")
        return time.perf_counter() - began

    seconds = finish(whole)
    moments = random.Random(options.seed)
    rows = []
    for _ in range(options.kills):
        child = start(resumed)
        # What a kill undoes is done again, so that together they may take longer than an undisturbed run.
        time.sleep(moments.uniform(0, 2 * seconds / options.kills))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        record = record_of(resumed)
        rows.append(0 if record is None else record.rows)
    finish(resumed)
    return {
        "undisturbed_seconds": round(seconds, 2),
        "rows_after_each_kill": rows,
        "equal_byte_for_byte": contents(whole.parent) == contents(resumed.parent),
    }


def contents(folder: Path) -> dict[str, bytes]:
    """Bytes of every file below a folder, by its name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def cost(model: Any, texts: list[str], scratch: Path, rounds: int) -> dict[str, Any]:
    """Seconds of both ways, taken in turn, and the median of their ratio."""
    model.encode(texts[:200])
    seconds: dict[str, list[float]] = {"encode": [], "encode_to": []}
    for number in range(rounds):
        began = time.perf_counter()
        model.encode(texts)
        seconds["encode"].append(time.perf_counter() - began)
        began = time.perf_counter()
        model.encode_to(scratch / f"{number}.npy", iter(texts))
        seconds["encode_to"].append(time.perf_counter() - began)
    ratios = [disk / memory for memory, disk in zip(seconds["encode"], seconds["encode_to"], strict=True)]
    return {**seconds, "median_ratio": round(statistics.median(ratios), 3)}


if __name__ == "__main__":
    main()
