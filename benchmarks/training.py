"""Training: samples per second, peak memory and loss values, this project beside the reference, in one run.

    python benchmarks/training.py [--rounds N] [--only NAME ...] [--threads N] [--quality] [--quick]

Both train all-MiniLM-L6-v2 with their own trainer on the same rows, in the same order, with the same
arguments, a process for each run, in turns. Dropout is off where loss values are compared and as it is in
the model where time and memory are measured. `--quality` fine-tunes with several seeds and compares the
scores on STSb. Writes results/training-MACHINE.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rerank import cross_encoder_folder
from side_by_side import (
    DEVELOPMENT_DATA,
    ENVIRONMENT,
    HERE,
    REFERENCES,
    machine,
    median,
    minilm_folder,
    print_table,
    results_path,
    write_results,
)

OURS, REFERENCE = "ours", "reference"

WORKLOADS: dict[str, dict[str, Any]] = {
    "MNRL": {"loss": "mnrl", "data": "stsb", "rows": 768, "batch_size": 32},
    "MNRL, batch 128": {"loss": "mnrl", "data": "nli", "rows": 1024, "batch_size": 128},
    "CoSENT": {"loss": "cosent", "data": "stsb", "rows": 768, "batch_size": 32},
    "CachedMNRL, batch 1024": {"loss": "cached", "data": "nli", "rows": 1024, "batch_size": 1024},
    "Matryoshka + CachedMNRL, batch 1024": {
        "loss": "matryoshka",
        "data": "nli",
        "rows": 1024,
        "batch_size": 1024,
    },
    "cross-encoder, pairs": {"loss": "scores", "data": "stsb", "rows": 768, "batch_size": 32},
    "cross-encoder, lists": {"loss": "lists", "data": "nli", "rows": 192, "batch_size": 16},
}
"""What is trained: loss, data, rows and rows of a batch. STSb gives short pairs, NLI triplets; of those, lists of
documents are made. Cross-encoders are all-MiniLM-L6-v2 with a head."""

CROSS_ENCODER = ("scores", "lists")

QUALITY = {"loss": "mnrl", "data": "nli", "rows": 1024, "batch_size": 64}
SEEDS = (1, 2, 3)


def main() -> None:
    options = parse_arguments()
    if not DEVELOPMENT_DATA.is_dir():
        sys.exit(f"The data sets this trains on are missing: {DEVELOPMENT_DATA}.")
    results: dict[str, Any] = {
        "machine": machine(),
        "model": "all-MiniLM-L6-v2",
        "threads": options.threads,
        "rounds": options.rounds,
        "workloads": [],
    }
    pythons = {OURS: Path(sys.executable), REFERENCE: REFERENCES[REFERENCE]}
    for name in options.only:
        results["workloads"].append(measured(name, pythons, options))
        report(results["workloads"])
    if options.quality:
        results["quality"] = quality(pythons, options)
    if not options.quick:
        write_results("training", with_earlier(results))


def with_earlier(results: dict[str, Any]) -> dict[str, Any]:
    """Results, with those of an earlier run on a machine of this kind for what was not measured this time."""
    path = results_path("training", results["machine"])
    if not path.exists():
        return results
    earlier = json.loads(path.read_text("utf-8"))
    measured = {work["name"]: work for work in [*earlier["workloads"], *results["workloads"]]}
    return {**earlier, **results, "workloads": [measured[name] for name in WORKLOADS if name in measured]}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each workload is trained by each")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", nargs="*", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument(
        "--quality", action="store_true", help="compare STSb scores after training, three seeds"
    )
    parser.add_argument("--quick", action="store_true", help="one short round, nothing written")
    options = parser.parse_args()
    if options.quick:
        options.rounds = 1
    return options


def measured(name: str, pythons: dict[str, Path], options: argparse.Namespace) -> dict[str, Any]:
    """Time, memory and loss values of one workload."""
    workload = dict(WORKLOADS[name])
    if options.quick:
        workload["rows"] = min(workload["rows"], 2 * workload["batch_size"])
    rounds: dict[str, list[dict[str, Any]]] = {side: [] for side in pythons}
    for number in range(options.rounds):
        order = list(pythons) if number % 2 == 0 else list(pythons)[::-1]
        for side in order:
            rounds[side].append(train(pythons[side], options.threads, **workload))
    # Without dropout nothing is random, and the losses of each step can be compared.
    exact = {**workload, "rows": min(workload["rows"], 3 * workload["batch_size"]), "dropout": 0.0}
    values = {side: train(python, options.threads, **exact)["losses"] for side, python in pythons.items()}
    speed = {side: [run["samples_per_second"] for run in runs] for side, runs in rounds.items()}
    peak = {side: [run["peak_mib"] for run in runs] for side, runs in rounds.items()}
    return {
        "name": name,
        **workload,
        "samples_per_second": {side: median(values) for side, values in speed.items()},
        "ratio": median(a / b for a, b in zip(speed[OURS], speed[REFERENCE], strict=True)),
        "ratios": [a / b for a, b in zip(speed[OURS], speed[REFERENCE], strict=True)],
        "peak_mib": {side: median(values) for side, values in peak.items()},
        "memory_ratio": median(a / b for a, b in zip(peak[OURS], peak[REFERENCE], strict=True)),
        "losses": values,
        "largest_loss_difference": max(
            abs(a - b) for a, b in zip(values[OURS], values[REFERENCE], strict=True)
        ),
    }


def quality(pythons: dict[str, Path], options: argparse.Namespace) -> dict[str, Any]:
    """STSb test scores after the same fine-tuning, for several seeds."""
    scores: dict[str, list[float]] = {side: [] for side in pythons}
    for seed in SEEDS:
        for side, python in pythons.items():
            run = train(python, options.threads, seed=seed, evaluate=True, **QUALITY)
            scores[side].append(run["stsb_test"])
            print(f"seed {seed}, {side}: STSb test {run['stsb_test']:.2f}", flush=True)
    means = {side: sum(values) / len(values) for side, values in scores.items()}
    print(f"Mean: {means}")
    return {**QUALITY, "seeds": list(SEEDS), "stsb_test": scores, "means": means}


def train(python: Path, threads: int, **workload: Any) -> dict[str, Any]:
    """Train once in a process of its own."""
    if not python.exists():
        sys.exit(f"There is no environment of the reference at {python}. Make it with: make bench")
    request = {
        "folder": str(cross_encoder_folder() if workload["loss"] in CROSS_ENCODER else minilm_folder()),
        "data_folder": str(DEVELOPMENT_DATA),
        "threads": threads,
        **workload,
    }
    done = subprocess.run(
        [str(python), str(HERE / "training_worker.py"), json.dumps(request)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"Training failed with {python}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def report(workloads: list[dict[str, Any]]) -> None:
    header = [
        "workload",
        "ours samples/s",
        "reference",
        "ratio",
        "ours MiB",
        "reference",
        "ratio",
        "loss differs",
    ]
    print_table(
        header,
        [
            [
                result["name"],
                result["samples_per_second"][OURS],
                result["samples_per_second"][REFERENCE],
                result["ratio"],
                result["peak_mib"][OURS],
                result["peak_mib"][REFERENCE],
                result["memory_ratio"],
                result["largest_loss_difference"],
            ]
            for result in workloads
        ],
    )


if __name__ == "__main__":
    main()
