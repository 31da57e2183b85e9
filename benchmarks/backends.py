"""Ways to run one model on this processor: speed, and quality beside it, in one run.

    python benchmarks/backends.py [--rounds N] [--threads 2] [--only WAY ...] [--quick]

all-MiniLM-L6-v2 through this project's backends, through the reference, and through ONNX Runtime and OpenVINO as one
would call them by hand: texts in the order they come, in batches of 32 that are padded to their longest, pooled
and normalised with numpy. Those in bfloat16 take part where the processor has instructions for it. The graphs are those that this project exports, so the same for all. Every way has a
process of its own; in every round each workload is encoded by all of them, in turns who goes first. What is
reported is the median over the rounds. Quality is Spearman's correlation on the sentence pairs of the STSb test set.
Writes results/backends-MACHINE.json.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from encode import choose_texts, in_turns, paired_ratios
from side_by_side import (
    DEVELOPMENT_DATA,
    REFERENCES,
    ROOT,
    Worker,
    machine,
    median,
    minilm_folder,
    print_table,
    read_table,
    workers,
    write_results,
)

WAYS: dict[str, dict[str, str]] = {
    "reference, torch": {"how": "library"},
    "torch": {"how": "library"},
    "torch int8": {"how": "library", "precision": "int8"},
    "onnx": {"how": "library", "backend": "onnx"},
    "onnx int8": {"how": "library", "backend": "onnx", "file_name": "onnx/model_quint8_avx2.onnx"},
    "openvino": {"how": "library", "backend": "openvino"},
    "openvino int8": {
        "how": "library",
        "backend": "openvino",
        "file_name": "openvino/openvino_model_qint8_quantized.xml",
    },
    "plain ONNX Runtime": {"how": "onnxruntime", "file_name": "onnx/model.onnx"},
    "plain ONNX Runtime int8": {"how": "onnxruntime", "file_name": "onnx/model_quint8_avx2.onnx"},
    "plain OpenVINO": {"how": "openvino", "file_name": "openvino/openvino_model.xml"},
    "torch bfloat16": {"how": "library", "dtype": "bfloat16"},
    "openvino bfloat16": {"how": "library", "backend": "openvino", "dtype": "bfloat16"},
    "plain OpenVINO bfloat16": {
        "how": "openvino",
        "file_name": "openvino/openvino_model.xml",
        "dtype": "bfloat16",
    },
}
BESIDE = {
    "onnx": "plain ONNX Runtime",
    "onnx int8": "plain ONNX Runtime int8",
    "openvino": "plain OpenVINO",
    "openvino bfloat16": "plain OpenVINO bfloat16",
}
"""What a way of ours is compared with, besides the reference."""
REFERENCE = "reference, torch"
WORKLOADS = ("sentences", "mix", "long")
SINGLE = "single"
CALIBRATION_TEXTS = 300


def main() -> None:
    options = parse_arguments()
    folder = graphs_folder()
    results: dict[str, Any] = {
        "machine": machine(),
        "model": "all-MiniLM-L6-v2",
        "rounds": options.rounds,
        "threads": options.threads,
    }
    pythons = {
        way: REFERENCES["reference"] if way == REFERENCE else Path(sys.executable)
        for way in WAYS
        if way in options.only
    }
    with workers(pythons, "backends_worker.py") as all_workers:
        for way, worker in all_workers.items():
            worker.ask("use_threads", count=options.threads)
            worker.ask("load_way", folder=str(folder), **WAYS[way])
        texts = choose_texts(next(iter(all_workers.values())), options)
        results["quality"] = quality(all_workers, options)
        results["workloads"] = {
            name: measured(all_workers, name, workload, options.rounds) for name, workload in texts.items()
        }
    report(results)
    if not options.quick:
        write_results("backends", results)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each workload is encoded by each")
    parser.add_argument("--threads", type=int, default=2)
    usual = (
        list(WAYS) if "avx512_bf16" in machine()["instructions"] else [w for w in WAYS if "bfloat16" not in w]
    )
    parser.add_argument("--only", nargs="+", choices=list(WAYS), default=usual, help="only these ways")
    parser.add_argument("--quick", action="store_true", help="few texts, one round, nothing written")
    options = parser.parse_args()
    if options.quick:
        options.rounds = 1
    options.ways, options.only = options.only, (*WORKLOADS, SINGLE, *options.only)
    return options


def graphs_folder() -> Path:
    """Folder with the model and all of its graphs, made once."""
    folder = ROOT / "build" / "benchmarks" / "backends"
    if folder.is_dir():
        return folder
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.backend import (
        export_dynamic_quantized_onnx_model,
        export_static_quantized_openvino_model,
    )

    part = folder.with_name("backends.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(minilm_folder(), part)
    onnx = SentenceTransformer(str(part), backend="onnx", device="cpu")
    onnx.save_pretrained(str(part / "made"))
    export_dynamic_quantized_onnx_model(onnx, "avx2", str(part / "made"))
    openvino = SentenceTransformer(str(part), backend="openvino", device="cpu")
    openvino.save_pretrained(str(part / "made-too"))
    texts = [row["sentence1"] for row in sentence_pairs("train")][:CALIBRATION_TEXTS]
    export_static_quantized_openvino_model(openvino, None, str(part / "made-too"), calibration_texts=texts)
    shutil.move(part / "made" / "onnx", part / "onnx")
    shutil.move(part / "made-too" / "openvino", part / "openvino")
    for name in ("made", "made-too"):
        shutil.rmtree(part / name)
    part.rename(folder)
    return folder


def sentence_pairs(split: str) -> list[dict[str, str]]:
    """Pairs of STSb with their scores."""
    path = DEVELOPMENT_DATA / "stsb" / "en" / f"{split}.tsv.gz"
    if not path.exists():
        sys.exit(f"This benchmark judges quality on STSb, which is not at {path}.")
    return read_table(path)


def quality(all_workers: dict[str, Worker], options: argparse.Namespace) -> dict[str, Any]:
    """Correlation on STSb of each way, and how near its vectors are to the reference's."""
    from scipy.stats import spearmanr

    rows = sentence_pairs("test")[: 100 if options.quick else None]
    texts = [row[column] for column in ("sentence1", "sentence2") for row in rows]
    scores = [float(row["score"]) for row in rows]
    found: dict[str, Any] = {}
    vectors: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for way, worker in all_workers.items():
            path = Path(scratch) / "vectors.npy"
            worker.ask("encode", texts=texts, save=str(path))
            vectors[way] = np.load(path).astype(np.float32)
    first = next(iter(vectors.values()))
    for way, values in vectors.items():
        cosines = (values[: len(rows)] * values[len(rows) :]).sum(axis=1)
        found[way] = {
            "stsb_spearman": 100 * float(spearmanr(cosines, scores).statistic),
            "least_cosine_with_the_first": float((values * first).sum(axis=1).min()),
        }
    return found


def measured(
    all_workers: dict[str, Worker], name: str, workload: dict[str, Any], rounds: int
) -> dict[str, Any]:
    """One workload by all ways in turns."""
    texts = workload["texts"]
    do = "encode_one_by_one" if name == SINGLE else "encode"
    seconds: dict[str, list[float]] = {way: [] for way in all_workers}
    for worker in all_workers.values():
        worker.ask(do, texts=texts[:32])
    for worker in in_turns(all_workers, rounds):
        answer = worker.ask(do, texts=texts)
        taken = median(answer["milliseconds"]) / 1000 if name == SINGLE else answer["seconds"]
        seconds[worker.name].append(taken)
    result: dict[str, Any] = {"texts": len(texts), "source": workload["source"], "ways": {}}
    for way, values in seconds.items():
        rate = (1 if name == SINGLE else len(texts)) / median(values)
        found = {"texts_per_second": rate, "seconds": values}
        if REFERENCE in seconds:
            found["times_the_reference"] = median(paired_ratios(seconds[REFERENCE], values))
        if BESIDE.get(way) in seconds:
            found["times_the_plain_way"] = median(paired_ratios(seconds[BESIDE[way]], values))
        result["ways"][way] = found
    return result


def report(results: dict[str, Any]) -> None:
    """Print what was measured."""
    print(
        f"{results['machine']['cpu']}, {results['threads']} threads, {results['rounds']} rounds. "
        "Texts/s; behind them, times as fast as the reference, and as the plain way."
    )
    names = list(results["workloads"])
    rows = []
    for way, found in results["quality"].items():
        cells = [f"{found['stsb_spearman']:.2f}", f"{found['least_cosine_with_the_first']:.4f}"]
        for name in names:
            one = results["workloads"][name]["ways"][way]
            beside = [one.get("times_the_reference"), one.get("times_the_plain_way")]
            ratios = " ".join("-" if ratio is None else f"{ratio:.2f}" for ratio in beside)
            cells.append(f"{one['texts_per_second']:,.0f} ({ratios})")
        rows.append([way, *cells])
    print_table(["way", "STSb", "least cosine", *names], rows)


if __name__ == "__main__":
    main()
