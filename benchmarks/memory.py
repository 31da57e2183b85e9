"""Memory of `encode`: flat over repeated calls, and little above the result for a million texts.

    python benchmarks/memory.py [--only calls million] [--full] [--reference] [--quick]

`calls` encodes the same 1,000 sentences 50 times and looks at the resident memory after each call.
`million` encodes 1,000,000 short texts made of the words of real sentences; what the process held at most, less
what it held before and the bytes of the result, is what encoding costs. With the whole model that takes
hours on a small machine, so a model with its first layer alone stands in, unless `--full` is given.
Writes results/memory-MACHINE.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from side_by_side import (
    REFERENCES,
    Worker,
    machine,
    minilm_folder,
    print_table,
    sentences,
    workers,
    write_results,
)

CALLS, MILLION = "calls", "million"
SETTLED_AFTER = 3
"""Calls after which memory may grow no more: the first ones allocate what later ones use again."""


def main() -> None:
    options = parse_arguments()
    texts, source = sentences()
    results: dict[str, Any] = {"machine": machine(), "source": source}
    pythons = {"ours": Path(sys.executable)}
    if options.reference:
        pythons["reference"] = REFERENCES["reference"]
    with tempfile.TemporaryDirectory() as scratch:
        whole = minilm_folder()
        folder = whole if options.full else first_layer_alone(whole, Path(scratch))
        if CALLS in options.only:
            count, calls = (200, 8) if options.quick else (1000, 50)
            with workers(pythons) as started:
                results[CALLS] = {
                    name: measure_calls(worker, whole, texts[:count], calls)
                    for name, worker in started.items()
                }
        if MILLION in options.only:
            count = 20_000 if options.quick else 1_000_000
            words = sorted({word for text in texts for word in text.split()})
            with workers(pythons) as started:
                results[MILLION] = {
                    name: measure_million(worker, folder, words, count) for name, worker in started.items()
                }
    report(results)
    if not options.quick:
        write_results("memory", results)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=[CALLS, MILLION], default=[CALLS, MILLION])
    parser.add_argument("--full", action="store_true", help="all layers of the model for the million texts")
    parser.add_argument("--reference", action="store_true", help="measure the reference as well")
    parser.add_argument(
        "--quick", action="store_true", help="few texts and calls, nothing written: does it run?"
    )
    return parser.parse_args()


def first_layer_alone(folder: Path, scratch: Path) -> Path:
    """A copy of the model with only the first layer, for texts of up to 16 tokens."""
    from safetensors.numpy import load_file, save_file

    copy = scratch / "first-layer"
    shutil.copytree(folder, copy)
    weights = load_file(copy / "model.safetensors")
    kept = {
        name: value
        for name, value in weights.items()
        if "encoder.layer." not in name or "encoder.layer.0." in name
    }
    save_file(kept, copy / "model.safetensors", metadata={"format": "pt"})
    change_json(copy / "config.json", num_hidden_layers=1)
    change_json(copy / "sentence_bert_config.json", max_seq_length=16)
    return copy


def change_json(path: Path, **entries: Any) -> None:
    """Set entries of a JSON file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, **entries}, indent=2), encoding="utf-8")


def measure_calls(worker: Worker, folder: Path, texts: list[str], calls: int) -> dict[str, Any]:
    """Resident memory after each of many equal calls, and its growth once it has settled."""
    worker.ask("load", folder=str(folder))
    resident = worker.ask("encode_again_and_again", texts=texts, calls=calls)["resident_mib"]
    settled = resident[SETTLED_AFTER - 1]
    return {
        "texts": len(texts),
        "calls": calls,
        "resident_mib": resident,
        "growth_at_the_end": resident[-1] / settled - 1,
        "growth_at_most": max(resident[SETTLED_AFTER:]) / settled - 1,
    }


def measure_million(worker: Worker, folder: Path, words: list[str], count: int) -> dict[str, Any]:
    """What one call with very many texts takes."""
    worker.ask("load", folder=str(folder))
    answer = worker.ask("encode_many", words=words, count=count, seed=20)
    return {"texts": count, "model": folder.name, "texts_per_second": count / answer["seconds"], **answer}


def report(results: dict[str, Any]) -> None:
    """Print what was measured."""
    print(f"{results['machine']['cpu']}, {results['machine']['cores']} cores; texts from {results['source']}")
    if CALLS in results:
        print_table(
            [
                "repeated calls",
                "calls",
                "first MiB",
                f"call {SETTLED_AFTER} MiB",
                "last MiB",
                "growth",
                "at most",
            ],
            [
                [
                    name,
                    measured["calls"],
                    measured["resident_mib"][0],
                    measured["resident_mib"][SETTLED_AFTER - 1],
                    measured["resident_mib"][-1],
                    f"{measured['growth_at_the_end']:.2%}",
                    f"{measured['growth_at_most']:.2%}",
                ]
                for name, measured in results[CALLS].items()
            ],
        )
    if MILLION in results:
        print_table(
            ["one call", "texts", "before MiB", "result MiB", "above both MiB", "seconds", "texts/s"],
            [
                [
                    name,
                    measured["texts"],
                    measured["baseline_mib"],
                    measured["output_mib"],
                    measured["above_output_mib"],
                    measured["seconds"],
                    measured["texts_per_second"],
                ]
                for name, measured in results[MILLION].items()
            ],
        )


if __name__ == "__main__":
    main()
