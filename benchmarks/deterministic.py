"""What the deterministic mode costs, and that it keeps its promise here.

    python benchmarks/deterministic.py [--rounds N] [--threads 1 2] [--batchings N] [--quick]

The same texts as in `encode.py`, with all-MiniLM-L6-v2. In every round each workload is encoded as usual, with
`deterministic=True`, and one text at a time, in turns who goes first; what is reported is the median over the
rounds. Before that, random batchings are compared bit for bit with each text by itself. The bits are also compared
between the numbers of threads, which is not promised. Writes results/deterministic-MACHINE.json.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from side_by_side import (
    machine,
    median,
    minilm_folder,
    print_table,
    questions_and_answers,
    sentences,
    write_results,
)

USUAL, DETERMINISTIC, ALONE = "usual", "deterministic", "one by one"

Encode = Callable[[list[str]], Any]


def main() -> None:
    options = parse_arguments()
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(minilm_folder()), device="cpu")
    ways: dict[str, Encode] = {
        USUAL: model.encode,
        DETERMINISTIC: lambda texts: model.encode(texts, deterministic=True),
        ALONE: lambda texts: [model.encode(text) for text in texts],
    }
    results: dict[str, Any] = {
        "machine": machine(),
        "torch": torch.__version__,
        "model": "all-MiniLM-L6-v2",
        "rounds": options.rounds,
        "threads": [],
    }
    workloads = choose_texts(options.quick)
    vectors = []
    for threads in options.threads:
        torch.set_num_threads(threads)
        print(f"{threads} threads ...", file=sys.stderr, flush=True)
        of_threads: dict[str, Any] = {"threads": threads}
        of_threads["batchings"] = compare_batchings(model, workloads["mix"]["texts"], options.batchings)
        for name, workload in workloads.items():
            of_threads[name] = measure(ways, workload, options.rounds)
        vectors.append(model.encode(workloads["mix"]["texts"], deterministic=True))
        results["threads"].append(of_threads)
    results["equal_bits_with_all_numbers_of_threads"] = all(
        found.tobytes() == vectors[0].tobytes() for found in vectors
    )
    report(results)
    if not options.quick:
        write_results("deterministic", results)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often each workload is encoded each way")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads")
    parser.add_argument("--batchings", type=int, default=200, help="random batchings to compare")
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of everything, nothing written: does it run?"
    )
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.batchings = 2, options.batchings // 10
    return options


def choose_texts(quick: bool) -> dict[str, dict[str, Any]]:
    """Short sentences, and a mix of lengths with some long documents, as in `encode.py`."""
    short, short_source = sentences()
    questions, answers, long_source = questions_and_answers()
    stride = max(1, len(answers) // 400)
    mixed = [*short[1000:1150], *questions[:: max(1, len(questions) // 50)][:50], *answers[::stride][:50]]
    mixed = [mixed[row] for row in np.random.default_rng(0).permutation(len(mixed))]
    chosen = {"sentences": (short[:900], short_source), "mix": (mixed, f"{short_source} and {long_source}")}
    return {
        name: {"texts": texts[: len(texts) // 10] if quick else texts, "source": source}
        for name, (texts, source) in chosen.items()
    }


def compare_batchings(model: Any, texts: list[str], batchings: int) -> dict[str, int]:
    """How many of random choices, orders and batch sizes gave a text other bits than it has alone."""
    alone = np.stack([model.encode(text, deterministic=True) for text in texts])
    chance = random.Random(0)
    differing = 0
    for _ in range(batchings):
        numbers = chance.sample(range(len(texts)), min(len(texts), chance.choice((1, 2, 5, 10, 20))))
        found = model.encode(
            [texts[number] for number in numbers], batch_size=chance.choice((1, 3, 8, 32)), deterministic=True
        )
        differing += found.tobytes() != alone[numbers].tobytes()
    return {"compared": batchings, "differing": differing}


def measure(ways: dict[str, Encode], workload: dict[str, Any], rounds: int) -> dict[str, Any]:
    """One workload, encoded in each way in turns."""
    texts = workload["texts"]
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for encode in ways.values():
        encode(texts)
    for number in range(rounds):
        for name in list(ways)[:: 1 if number % 2 == 0 else -1]:
            began = time.perf_counter()
            ways[name](texts)
            seconds[name].append(time.perf_counter() - began)
    result: dict[str, Any] = {"texts": len(texts), "source": workload["source"]}
    for name, taken in seconds.items():
        ratios = [one / usual for one, usual in zip(taken, seconds[USUAL], strict=True)]
        result[name] = {
            "texts_per_second": len(texts) / median(taken),
            "times_as_long": median(ratios),
            "seconds": taken,
        }
    return result


def report(results: dict[str, Any]) -> None:
    """Print what was measured."""
    print(f"{results['machine']['cpu']}, {results['machine']['cores']} cores; {results['rounds']} rounds")
    print_table(
        ["workload", "threads", "texts/s", "times as long"],
        [
            [
                f"{name}, {way}",
                of_threads["threads"],
                found[way]["texts_per_second"],
                found[way]["times_as_long"],
            ]
            for of_threads in results["threads"]
            for name, found in of_threads.items()
            if isinstance(found, dict) and USUAL in found
            for way in (USUAL, DETERMINISTIC, ALONE)
        ],
    )
    for of_threads in results["threads"]:
        batchings = of_threads["batchings"]
        print(
            f"\n{of_threads['threads']} threads: {batchings['differing']} of {batchings['compared']} random batchings "
            "gave other bits than each text alone"
        )
    print(f"\nThe same bits with all numbers of threads: {results['equal_bits_with_all_numbers_of_threads']}")


if __name__ == "__main__":
    main()
