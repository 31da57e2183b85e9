"""Search, mining and clustering: time, memory and results, beside the reference, faiss and usearch, in one run.

    python benchmarks/search.py [--only NAME ...] [--sizes N ...] [--rounds N] [--threads N] [--quick]

Real sentences are embedded by all-MiniLM-L6-v2 once (kept in build/); where more rows are wanted than there are
sentences, they are repeated with noise. The yardstick is the bare float32 product of all scores, measured in the
same round. Each turns up in every round, and ratios are taken within a round. Writes results/search-MACHINE.json.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import (
    DEVELOPMENT_DATA,
    REFERENCES,
    ROOT,
    SAMPLE,
    distinct,
    machine,
    median,
    print_table,
    read_table,
    results_path,
    workers,
    write_results,
)

OURS, REFERENCE = "ours", "reference"
MOST_ROWS = 1_000_000
QUERIES = 1000
NOISE = 0.6
"""Length of the noise that is put on a repeated row of length 1; its cosine to the original is then 0.86."""

SIZES = {
    "semantic_search": (10_000, 100_000, 1_000_000),
    "paraphrase_mining": (20_000, 100_000),
    "community_detection": (20_000, 50_000),
}
LONG = 100_000
"""From this many rows on, mining is measured in one round only, and usearch's exact search not at all."""


def main() -> None:
    options = parse_arguments()
    folder = ROOT / "build" / "benchmarks"
    corpus, queries, real = embeddings(folder, max(max(SIZES[name]) for name in options.only))
    results: dict[str, Any] = {
        "machine": machine(),
        "threads": options.threads,
        "model": "all-MiniLM-L6-v2",
        "real_rows": real,
        "workloads": [],
    }
    for name in options.only:
        for size in options.sizes or SIZES[name]:
            result = measured(name, size, corpus, queries, options)
            results["workloads"].append(result)
            report(result)
    if not options.quick:
        write_results("search", with_earlier(results))


def with_earlier(results: dict[str, Any]) -> dict[str, Any]:
    """Results, with those of an earlier run on a machine of this kind for what was not measured this time."""
    path = results_path("search", results["machine"])
    if not path.exists():
        return results
    measured = {
        (work["name"], work["rows"]): work for work in json.loads(path.read_text("utf-8"))["workloads"]
    }
    measured |= {(work["name"], work["rows"]): work for work in results["workloads"]}
    order = list(SIZES)
    workloads = sorted(measured.values(), key=lambda work: (order.index(work["name"]), work["rows"]))
    return {**results, "workloads": workloads}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", choices=SIZES, default=list(SIZES))
    parser.add_argument("--sizes", nargs="*", type=int, help="numbers of rows in place of the usual ones")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--quick", action="store_true", help="nothing written")
    return parser.parse_args()


def measured(
    name: str, size: int, corpus: Path, queries: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """Time of one function at one size, for each side and each yardstick, and whether all found the same."""
    is_search = name == "semantic_search"
    rounds = 1 if size >= LONG and not is_search else options.rounds
    # What takes a moment is measured more often.
    rounds = max(rounds, 5) if size <= 20_000 else rounds
    pythons = {OURS: Path(sys.executable), REFERENCE: REFERENCES[REFERENCE]}
    seconds: dict[str, list[float]] = {}
    answers: dict[str, dict[str, Any]] = {}
    result: dict[str, Any] = {"name": name, "rows": size, "queries": QUERIES if is_search else None}
    result["measured_at"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
    with workers(pythons, "search_worker.py") as started:
        load = {"corpus": str(corpus), "count": size, "query_file": str(queries) if is_search else None}
        for side, worker in started.items():
            answer = worker.ask("load", threads=options.threads, **load)
            result[f"{side}_version"], result["packages"] = answer["version"], answer["packages"]
            result[f"{side}_inputs_mib"] = answer["now_mib"]
        for number in range(rounds):
            for side in (OURS, REFERENCE)[:: 1 if number % 2 == 0 else -1]:
                answers[side] = started[side].ask(name)
                seconds.setdefault(side, []).append(answers[side]["seconds"])
                # Before the yardsticks, which need memory too.
                result.setdefault(f"{side}_peak_mib", answers[side]["peak_mib"])
            product = started[OURS].ask("product", with_itself=not is_search)
            seconds.setdefault("product", []).append(product["seconds"])
            if is_search:
                asked = {"faiss_flat": {}, "int8": {"precision": "int8"}, "binary": {"precision": "binary"}}
                if size < LONG:
                    asked["usearch_exact"] = {}
                for other, arguments in asked.items():
                    answers[other] = started[OURS].ask("quantized" if arguments else other, **arguments)
                    seconds.setdefault(other, []).append(answers[other]["seconds"])
        if is_search:
            exact = np.array(started[OURS].ask("exact_rows")["found"]) if size <= 100_000 else None
            truth = np.array(answers[REFERENCE]["found"]) if exact is None else exact
            result["recall"] = {side: recall(truth, answer["found"]) for side, answer in answers.items()}
            result["largest_score_difference"] = float(
                np.abs(np.array(answers[OURS]["scores"]) - np.array(answers[REFERENCE]["scores"])).max()
            )
        else:
            result["found"] = {
                side: {key: value for key, value in answer.items() if key not in ("seconds", "peak_mib")}
                for side, answer in answers.items()
            }
    result["seconds"] = {side: median(values) for side, values in seconds.items()}
    result["to_product"] = {side: in_rounds(values, seconds["product"]) for side, values in seconds.items()}
    result["reference_to_ours"] = in_rounds(seconds[REFERENCE], seconds[OURS])
    return result


def in_rounds(values: list[float], others: list[float]) -> float:
    """Ratio of two series that were measured in the same rounds."""
    return median(a / b for a, b in zip(values, others, strict=True))


def recall(truth: np.ndarray, found: list[list[int]]) -> float:
    """Share of the true rows that were found."""
    return float(np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(truth.tolist(), found, strict=True)]))


def report(result: dict[str, Any]) -> None:
    print_table(
        [f"{result['name']}, {result['rows']:,} rows", "seconds", "x product", "recall"],
        [
            [side, seconds, result["to_product"][side], result.get("recall", {}).get(side)]
            for side, seconds in result["seconds"].items()
        ],
    )
    print(f"Reference to ours: {result['reference_to_ours']:.2f}. ", end="")
    print(
        f"Peak memory {result['ours_peak_mib']:,.0f} and {result['reference_peak_mib']:,.0f} MiB, "
        f"of it {result['ours_inputs_mib']:,.0f} and {result['reference_inputs_mib']:,.0f} before."
    )
    if "found" in result:
        print(result["found"])
    else:
        print(f"Scores differ by at most {result['largest_score_difference']:.1e}.")
    sys.stdout.flush()


def embeddings(folder: Path, count: int) -> tuple[Path, Path, int]:
    """Files of at least `count` rows of length 1 and of queries, and how many rows are of real sentences."""
    folder.mkdir(parents=True, exist_ok=True)
    corpus, queries, real = folder / "corpus.npy", folder / "queries.npy", folder / "real.npy"
    if not real.exists():
        from sentence_transformers import SentenceTransformer

        texts = sentences()
        print(f"Embedding {len(texts):,} sentences once ...", flush=True)
        vectors = SentenceTransformer("all-MiniLM-L6-v2").encode(texts, normalize_embeddings=True)
        np.save(real, vectors)
    vectors = np.load(real)
    rows, asked = vectors[:-QUERIES], vectors[-QUERIES:]
    if not corpus.exists() or len(np.load(corpus, mmap_mode="r")) < count:
        noise = np.random.default_rng(0)
        written = np.lib.format.open_memmap(corpus, "w+", np.float32, (count, rows.shape[1]))
        for start in range(0, count, len(rows)):
            part = rows[: count - start]
            if start:
                part = part + NOISE / np.sqrt(part.shape[1]) * noise.standard_normal(part.shape, np.float32)
                part /= np.linalg.norm(part, axis=1, keepdims=True)
            written[start : start + len(part)] = part
        written.flush()
    np.save(queries, asked)
    return corpus, queries, len(rows)


def sentences() -> list[str]:
    """Distinct sentences, in an order that mixes their sources."""
    folder = DEVELOPMENT_DATA / "text"
    if folder.is_dir():
        found: list[str] = []
        for path in sorted(folder.glob("*.txt.gz")):
            with gzip.open(path, "rt", encoding="utf-8") as file:
                found += [line.rstrip("\n") for line in file]
    else:
        found = [row[column] for row in read_table(SAMPLE) for column in ("question", "answer")]
    found = distinct(found)
    order = np.random.default_rng(0).permutation(len(found))
    return [found[place] for place in order]


if __name__ == "__main__":
    main()
