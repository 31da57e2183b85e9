"""Speed of `encode`, cold starts and memory: this project beside the reference, in one run.

    python benchmarks/encode.py [--rounds N] [--threads 1 2] [--only NAME ...] [--quick]

Both run in environments of their own with the same model and the same texts. In every round each workload
is encoded by one and then by the other, in turns who goes first; what is compared are the two times of a
round, and what is reported is the median over the rounds. A side that waits is stopped, so it takes no
computing time. Writes results/encode-MACHINE.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import (
    ENVIRONMENT,
    REFERENCES,
    Worker,
    machine,
    median,
    minilm_folder,
    print_table,
    questions_and_answers,
    sentences,
    shown,
    workers,
    write_results,
)

OURS, REFERENCE = "ours", "reference"
SINGLE, COLD = "single", "cold"
WORKLOADS = ("sentences", "mix", "long")
REFERENCE_BATCH_SIZE = 32

COLD_STARTS = {
    "import torch, tokenizers": "import torch, tokenizers",
    "import SentenceTransformer": "from sentence_transformers import SentenceTransformer",
    "first embedding": (
        "from sentence_transformers import SentenceTransformer\n"
        "SentenceTransformer({folder!r}, device='cpu').encode('A first sentence.')"
    ),
}


def main() -> None:
    options = parse_arguments()
    results: dict[str, Any] = {"machine": machine(), "model": "all-MiniLM-L6-v2", "rounds": options.rounds}
    pythons = {OURS: options.ours, REFERENCE: options.reference}
    folder = str(options.model or minilm_folder())
    # The cold starts come first, while nothing else of ours is in memory.
    if COLD in options.only:
        results["cold_starts"] = cold_starts(COLD_STARTS, pythons, folder, options.rounds)
    if set(options.only) - {COLD}:
        with workers(pythons) as pair, tempfile.TemporaryDirectory() as scratch:
            loaded = {"folder": folder, "device": options.device, "dtype": options.dtype}
            results["libraries"] = {name: worker.ask("load", **loaded) for name, worker in pair.items()}
            texts = choose_texts(pair[REFERENCE], options)
            results["agreement"] = measure_agreement(pair, texts, Path(scratch))
            results["threads"] = [
                measure_with_threads(pair, texts, options, count) for count in options.threads
            ]
        share_of_matmul(results["threads"], folder)
    report(results)
    if not options.quick:
        write_results("encode", results)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often each workload is encoded by each")
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads to measure with"
    )
    names = [*WORKLOADS, SINGLE, COLD]
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="measure only these")
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the texts, two rounds, nothing written: does it run?"
    )
    parser.add_argument(
        "--ours", type=Path, default=Path(sys.executable), help="interpreter with this project"
    )
    parser.add_argument(
        "--reference", type=Path, default=REFERENCES[REFERENCE], help="interpreter with the other"
    )
    parser.add_argument("--model", type=Path, help="folder of the model, in place of all-MiniLM-L6-v2")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", help="such as float16; the model's own by default")
    options = parser.parse_args()
    if options.quick:
        options.rounds = 2
    return options


def choose_texts(worker: Worker, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The workloads: texts, their token lengths, and where they come from."""
    short, short_source = sentences()
    questions, answers, long_source = questions_and_answers()
    answers = answers[:: max(1, len(answers) // 400)]
    lengths = worker.ask("count_tokens", texts=answers)["lengths"]
    long = [answer for answer, length in zip(answers, lengths, strict=True) if length > 200]
    stride = max(1, len(questions) // 50)
    mixed = [*short[1000:1150], *questions[::stride][:50], *answers[:50]]
    # Shuffled by a fixed rule, so that lengths come in no order.
    mixed = [mixed[row] for row in np.random.default_rng(0).permutation(len(mixed))]
    chosen = {
        "sentences": (short[:900], short_source),
        "mix": (mixed, f"{short_source} and {long_source}"),
        "long": (long[:50], long_source),
        SINGLE: (short[:100], short_source),
    }
    workloads = {}
    for name in [name for name in (*WORKLOADS, SINGLE) if name in options.only]:
        texts, source = chosen[name]
        texts = texts[: max(10, len(texts) // 10)] if options.quick else texts
        counted = worker.ask("count_tokens", texts=texts)["lengths"]
        workloads[name] = {"texts": texts, "lengths": counted, "source": source}
    return workloads


def measure_agreement(
    pair: dict[str, Worker], workloads: dict[str, dict[str, Any]], scratch: Path
) -> dict[str, float]:
    """Largest difference between the two libraries' vectors; encoding warms both up as well."""
    differences = {}
    for name, workload in workloads.items():
        for worker in pair.values():
            worker.ask("encode", texts=workload["texts"], save=str(scratch / f"{worker.name}.npy"))
        ours, theirs = (np.load(scratch / f"{side}.npy").astype(np.float32) for side in (OURS, REFERENCE))
        differences[name] = float(np.abs(ours - theirs).max())
    return differences


def measure_with_threads(
    pair: dict[str, Worker], workloads: dict[str, dict[str, Any]], options: argparse.Namespace, threads: int
) -> dict[str, Any]:
    """All workloads with one number of threads."""
    used = {name: worker.ask("use_threads", count=threads) for name, worker in pair.items()}
    rate = pair[OURS].ask("multiply_matrices", seconds=0.5 if options.quick else 3.0)
    result: dict[str, Any] = {
        "threads": threads,
        "cores": used[OURS]["cores"],
        "matmul_gflops": rate["gflops"],
        "matmul_gflops_by_library": rate["by_library"],
    }
    for name, workload in workloads.items():
        if name == SINGLE:
            result[name] = measure_single(pair, workload["texts"], options.rounds)
        else:
            result[name] = measure_workload(pair, workload, options.rounds)
    return result


def measure_workload(pair: dict[str, Worker], workload: dict[str, Any], rounds: int) -> dict[str, Any]:
    """One workload, encoded by both in turns."""
    for worker in pair.values():
        worker.ask("encode", texts=workload["texts"])
    answers: dict[str, list[dict[str, float]]] = {name: [] for name in pair}
    for worker in in_turns(pair, rounds):
        answers[worker.name].append(worker.ask("encode", texts=workload["texts"]))
    tokens = sum(workload["lengths"])
    result: dict[str, Any] = {
        "texts": len(workload["texts"]),
        "tokens": tokens,
        "source": workload["source"],
        "reference_padding_share": reference_padding_share(workload["texts"], workload["lengths"]),
    }
    for name, measured in answers.items():
        seconds = [answer["seconds"] for answer in measured]
        result[name] = {
            "texts_per_second": len(workload["texts"]) / median(seconds),
            "tokens_per_second": tokens / median(seconds),
            "cpu_seconds": median(answer["cpu_seconds"] for answer in measured),
            "peak_mib": max(answer["peak_mib"] for answer in measured),
            "seconds": seconds,
        }
    result["times_as_fast"] = median(paired_ratios(result[REFERENCE]["seconds"], result[OURS]["seconds"]))
    result["times_as_fast_by_cpu_seconds"] = result[REFERENCE]["cpu_seconds"] / result[OURS]["cpu_seconds"]
    return result


def measure_single(pair: dict[str, Worker], texts: list[str], rounds: int) -> dict[str, Any]:
    """One text at a time."""
    for worker in pair.values():
        worker.ask("encode_one_by_one", texts=texts[:10])
    medians: dict[str, list[float]] = {name: [] for name in pair}
    for worker in in_turns(pair, rounds):
        medians[worker.name].append(median(worker.ask("encode_one_by_one", texts=texts)["milliseconds"]))
    return {
        "texts": len(texts),
        **{name: {"milliseconds": median(values), "of_rounds": values} for name, values in medians.items()},
        "times_as_fast": median(paired_ratios(medians[REFERENCE], medians[OURS])),
    }


def cold_starts(
    programs: dict[str, str], pythons: dict[str, Path], folder: str, rounds: int
) -> dict[str, Any]:
    """Seconds from the start of a process to the end of its program, on warm disk caches."""
    seconds: dict[str, dict[str, list[float]]] = {what: {name: [] for name in pythons} for what in programs}
    for number in range(rounds + 1):
        for what, program in programs.items():
            for name in sides_of_round(list(pythons), number):
                taken = seconds_until_done(pythons[name], program.format(folder=folder))
                # The first round reads files that later ones find in memory.
                if number:
                    seconds[what][name].append(taken)
    return {
        what: {
            **{name: {"seconds": median(values), "of_rounds": values} for name, values in by_side.items()},
            "share_of_reference": median(paired_ratios(by_side[OURS], by_side[REFERENCE])),
        }
        for what, by_side in seconds.items()
    }


def seconds_until_done(python: Path, program: str) -> float:
    """Seconds until a program says that it has finished; ending the process does not count."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [str(python), "-c", f"{program}\nprint('done', flush=True)"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line == "done\n":
            break
    taken = time.perf_counter() - started
    _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{python} failed: {errors}")
    return taken


def in_turns(pair: dict[str, Worker], rounds: int) -> list[Worker]:
    """Who encodes, one after the other."""
    return [pair[name] for number in range(rounds) for name in sides_of_round(list(pair), number)]


def sides_of_round(names: list[str], number: int) -> list[str]:
    """Both sides, in every second round the other way round."""
    return names if number % 2 == 0 else names[::-1]


def paired_ratios(above: list[float], below: list[float]) -> list[float]:
    return [first / second for first, second in zip(above, below, strict=True)]


def reference_padding_share(texts: list[str], lengths: list[int]) -> float:
    """Share of padding in batches of 32 texts, ordered by their number of characters."""
    order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
    padded = 0
    for start in range(0, len(order), REFERENCE_BATCH_SIZE):
        batch = [lengths[row] for row in order[start : start + REFERENCE_BATCH_SIZE]]
        padded += len(batch) * max(batch)
    return 1 - sum(lengths) / padded


def share_of_matmul(by_threads: list[dict[str, Any]], folder: str) -> None:
    """Add which share of the matrix multiplication rate the encoder's linear layers reach."""
    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    width, inner = config["hidden_size"], config["intermediate_size"]
    per_token = config["num_hidden_layers"] * 2 * (4 * width * width + 2 * width * inner)
    for result in by_threads:
        for name in WORKLOADS:
            for side in (OURS, REFERENCE) if name in result else ():
                reached = result[name][side]["tokens_per_second"] * per_token / 1e9
                result[name][side]["share_of_matmul_rate"] = reached / result["matmul_gflops"]


def report(results: dict[str, Any]) -> None:
    """Print what was measured."""
    print(f"{results['machine']['cpu']}, {results['machine']['cores']} cores; {results['rounds']} rounds")
    for side, library in results.get("libraries", {}).items():
        packages = ", ".join(f"{name} {version}" for name, version in library["packages"].items())
        print(f"{side}: {library['version']} on {library['device']}; {packages}")
    rows, single = [], []
    for result in results.get("threads", []):
        threads = result["threads"]
        for name in [name for name in WORKLOADS if name in result]:
            for side in (OURS, REFERENCE):
                measured = result[name][side]
                rows.append(
                    [
                        f"{name}, {threads} thread{'s' * (threads > 1)}, {side}",
                        measured["texts_per_second"],
                        measured["tokens_per_second"],
                        f"{measured['share_of_matmul_rate']:.0%}",
                        f"{result[name]['reference_padding_share']:.0%}" if side == REFERENCE else None,
                        measured["cpu_seconds"],
                        measured["peak_mib"],
                        result[name]["times_as_fast"] if side == OURS else None,
                    ]
                )
        if SINGLE in result:
            taken = [result[SINGLE][side]["milliseconds"] for side in (OURS, REFERENCE)]
            single.append(
                [
                    f"single text, {threads} thread{'s' * (threads > 1)}",
                    *taken,
                    result[SINGLE]["times_as_fast"],
                ]
            )
    if rows:
        header = [
            "workload",
            "texts/s",
            "tokens/s",
            "of matmul",
            "padding",
            "CPU s",
            "peak MiB",
            "times as fast",
        ]
        print_table(header, rows)
        rates = ", ".join(f"{r['threads']}: {r['matmul_gflops']:.0f} GFLOP/s" for r in results["threads"])
        print(f"\nfloat32 matrix multiplication by threads: {rates}")
    if single:
        print_table(["milliseconds", OURS, REFERENCE, "times as fast"], single)
    if "agreement" in results:
        worst = max(results["agreement"].values())
        print(f"\nLargest difference between the vectors of both: {shown(worst)}")
    if "cold_starts" in results:
        cold = results["cold_starts"].items()
        lines = [
            [what, taken[OURS]["seconds"], taken[REFERENCE]["seconds"], taken["share_of_reference"]]
            for what, taken in cold
        ]
        print_table(["seconds from a cold process", OURS, REFERENCE, "share"], lines)


if __name__ == "__main__":
    main()
