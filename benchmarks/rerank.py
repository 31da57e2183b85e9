"""Reranking: speed, memory, cold starts and scores of `CrossEncoder` beside the reference, in one run.

    python benchmarks/rerank.py [--only NAME ...] [--rounds N] [--threads 1 2] [--quick]

100 queries with the 100 documents that BM25 finds for each, of two collections with short and long documents,
scored by a cross-encoder of MiniLM's size. In every round each workload is computed by one side and then by the
other, in turns who goes first; what is compared are the two times of a round, and what is reported is the median
over the rounds. The whole of the 10,000 pairs is computed with all threads. Writes results/rerank-MACHINE.json.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from encode import OURS, REFERENCE, cold_starts, in_turns, paired_ratios
from side_by_side import (
    DEVELOPMENT_DATA,
    REFERENCES,
    ROOT,
    Worker,
    machine,
    median,
    minilm_folder,
    print_table,
    questions_and_answers,
    read_table,
    results_path,
    shown,
    workers,
    write_results,
)

WHOLE, RANK, COLD = "whole", "rank", "cold"
IN_ROUNDS = ("mixed", "sorted", "short")
NAMES = (COLD, *IN_ROUNDS, RANK, WHOLE)

QUERIES_OF_COLLECTIONS = {"vaswani": 80, "cranfield": 20}
"""Queries of each collection among the hundred: documents of some 50 tokens, and of some 280."""
DOCUMENTS = 100
OF_ROUNDS = slice(50, 55)
"""Queries that are computed in rounds: in the same mixture, four of the one collection and one of the other."""
RANKED = slice(0, 2)
"""Of these, those whose documents are ranked: one of each collection."""

COLD_STARTS = {
    "import CrossEncoder": "from sentence_transformers import CrossEncoder",
    "first score": (
        "from sentence_transformers import CrossEncoder\n"
        "CrossEncoder({folder!r}, device='cpu').predict([('a question', 'an answer')])"
    ),
}

Ranking = tuple[str, list[str]]  # a query and its documents


def main() -> None:
    options = parse_arguments()
    folder = str(cross_encoder_folder())
    results: dict[str, Any] = {
        "machine": machine(),
        "model": "encoder of all-MiniLM-L6-v2 with a random head of one label",
        "rounds": options.rounds,
    }
    pythons = {OURS: Path(sys.executable), REFERENCE: REFERENCES[REFERENCE]}
    # The cold starts come first, while nothing else of ours is in memory.
    if COLD in options.only:
        results["cold_starts"] = cold_starts(COLD_STARTS, pythons, folder, options.rounds)
    if set(options.only) - {COLD}:
        with workers(pythons, "rerank_worker.py") as pair:
            loaded = {"folder": folder, "device": options.device, "dtype": options.dtype}
            results["libraries"] = {
                side: worker.ask("load_cross_encoder", **loaded) for side, worker in pair.items()
            }
            results |= measured(pair, options)
    report(results)
    if not options.quick:
        write_results("rerank", with_earlier(results))


def with_earlier(results: dict[str, Any]) -> dict[str, Any]:
    """Results, with those of an earlier run on a machine of this kind for what was not measured this time."""
    path = results_path("rerank", results["machine"])
    earlier = json.loads(path.read_text("utf-8")) if path.exists() else {}
    of_threads = {of["threads"]: of for of in earlier.get("threads", [])}
    for of in results.get("threads", []):
        of_threads[of["threads"]] = {**of_threads.get(of["threads"], {}), **of}
    agreed = {**earlier.get("agreement", {}), **results.get("agreement", {})}
    return {**earlier, **results, "agreement": agreed, "threads": list(of_threads.values())}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, help="measure only these")
    parser.add_argument("--rounds", type=int, default=3, help="how often each workload is computed by each")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", help="such as float16; float32 by default")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a twentieth of the documents, two rounds, nothing written: does it run?",
    )
    options = parser.parse_args()
    if options.quick:
        options.rounds = 2
    return options


# -- model and texts --------------------------------------------------------------------------------------


def cross_encoder_folder() -> Path:
    """Folder of the cross-encoder: made of all-MiniLM-L6-v2, in the form in which checkpoints are published."""
    from safetensors.numpy import load_file, save_file

    source, folder = minilm_folder(), ROOT / "build" / "benchmarks" / "cross-encoder"
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    state = {f"bert.{name}": value for name, value in load_file(source / "model.safetensors").items()}
    state.pop("bert.embeddings.position_ids", None)
    # Wide enough that scores differ from pair to pair; with the usual 0.02 all would be nearly the same.
    head = np.random.default_rng(0).normal(scale=0.5, size=(1, config["hidden_size"]))
    state |= {"classifier.weight": head.astype(np.float32), "classifier.bias": np.zeros(1, np.float32)}
    config |= {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copy(source / name, folder / name)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    return folder


def rankings() -> tuple[list[Ranking], str]:
    """A hundred queries with a hundred documents each, and where they come from."""
    if not all((DEVELOPMENT_DATA / name).is_dir() for name in QUERIES_OF_COLLECTIONS):
        questions, answers, source = questions_and_answers()
        found = [
            (question, [answers[(7 * number + place) % len(answers)] for place in range(DOCUMENTS)])
            for number, question in enumerate(questions[:100])
        ]
        return found, source
    by_collection = []
    for name, count in QUERIES_OF_COLLECTIONS.items():
        folder = DEVELOPMENT_DATA / name
        queries, corpus = texts_by_id(folder / "queries.jsonl.gz"), texts_by_id(folder / "corpus.jsonl.gz")
        candidates: dict[str, list[str]] = {}
        for row in read_table(folder / "bm25_top100.tsv.gz"):
            candidates.setdefault(row["query_id"], []).append(corpus[row["doc_id"]])
        chosen = [query for query, texts in candidates.items() if len(texts) == DOCUMENTS][:count]
        # By their share of the way, so that the collections are mixed evenly.
        by_collection += [
            (place / count, (queries[query], candidates[query])) for place, query in enumerate(chosen)
        ]
    by_collection.sort(key=lambda entry: entry[0])
    return [ranking for _, ranking in by_collection], "BM25's documents: Vaswani and Cranfield"


def texts_by_id(path: Path) -> dict[str, str]:
    """Texts of a collection, with the title in front where there is one."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return {row["_id"]: f"{row.get('title') or ''} {row['text']}".strip() for row in rows}


def short_pairs(count: int) -> tuple[list[list[str]], str]:
    """Pairs of short sentences."""
    path = DEVELOPMENT_DATA / "stsb" / "en" / "test.tsv.gz"
    if path.exists():
        return [[row["sentence1"], row["sentence2"]] for row in read_table(path)[:count]], "STSb"
    questions, _, source = questions_and_answers()
    return [[first, second] for first, second in itertools.pairwise(questions)][:count], source


def pairs_of(rankings: list[Ranking]) -> list[list[str]]:
    return [[query, text] for query, texts in rankings for text in texts]


# -- measuring --------------------------------------------------------------------------------------------


def measured(pair: dict[str, Worker], options: argparse.Namespace) -> dict[str, Any]:
    """All workloads but the cold starts."""
    all_rankings, source = rankings()
    if options.quick:
        all_rankings = [(query, texts[::20]) for query, texts in all_rankings]
    some = all_rankings[OF_ROUNDS]
    mixed = pairs_of(some)
    short, short_source = short_pairs(len(mixed))
    lengths = pair[OURS].ask("count_pair_tokens", pairs=mixed)["lengths"]
    by_length = [mixed[row] for row in np.argsort(lengths, kind="stable")[::-1]]
    workloads = {"mixed": (mixed, source), "sorted": (by_length, source), "short": (short, short_source)}
    workloads = {name: given for name, given in workloads.items() if name in options.only}
    result: dict[str, Any] = {
        "agreement": {
            name: agreement(pair, pairs) for name, (pairs, _) in workloads.items() if name != "sorted"
        },
        "threads": [],
    }
    for threads in options.threads:
        used = {side: worker.ask("use_threads", count=threads) for side, worker in pair.items()}
        of_threads: dict[str, Any] = {"threads": threads, "cores": used[OURS]["cores"]}
        for name, (pairs, where) in workloads.items():
            print(f"{name}, {threads_of(of_threads)} ...", file=sys.stderr, flush=True)
            of_threads[name] = {"source": where, **in_rounds(pair, pairs, options.rounds)}
        if RANK in options.only:
            of_threads[RANK] = ranked_in_rounds(pair, some[RANKED], options.rounds)
        result["threads"].append(of_threads)
    if WHOLE in options.only:
        print("all pairs at once ...", file=sys.stderr, flush=True)
        result[WHOLE] = {
            "threads": options.threads[-1],
            "source": source,
            **at_once(pair, pairs_of(all_rankings), options.rounds),
        }
    return result


def agreement(pair: dict[str, Worker], pairs: list[list[str]]) -> dict[str, float]:
    """Largest difference between both sides' scores; computing them warms both up as well."""
    scores = {side: worker.ask("predict", pairs=pairs, keeps=True)["scores"] for side, worker in pair.items()}
    raw = {side: worker.ask("raw_scores", pairs=pairs)["scores"] for side, worker in pair.items()}
    return {
        "largest_difference": largest_difference(scores),
        "largest_difference_of_raw_scores": largest_difference(raw),
        "standard_deviation_of_raw_scores": float(np.std(raw[REFERENCE])),
    }


def largest_difference(scores: dict[str, list[float]]) -> float:
    return float(np.abs(np.array(scores[OURS]) - np.array(scores[REFERENCE])).max())


def in_rounds(pair: dict[str, Worker], pairs: list[list[str]], rounds: int) -> dict[str, Any]:
    """One workload, computed by both in turns."""
    answers: dict[str, list[dict[str, float]]] = {side: [] for side in pair}
    for worker in in_turns(pair, rounds):
        answers[worker.name].append(worker.ask("predict", pairs=pairs))
    return summed_up(pair, pairs, answers)


def at_once(pair: dict[str, Worker], pairs: list[list[str]], rounds: int) -> dict[str, Any]:
    """All pairs in one call of each, in turns, with the scores compared."""
    answers: dict[str, list[dict[str, Any]]] = {side: [] for side in pair}
    scores = {}
    for worker in in_turns(pair, rounds):
        answers[worker.name].append(worker.ask("predict", pairs=pairs, keeps=True))
        scores[worker.name] = answers[worker.name][-1].pop("scores")
    return {"largest_difference": largest_difference(scores), **summed_up(pair, pairs, answers)}


def summed_up(
    pair: dict[str, Worker], pairs: list[list[str]], answers: dict[str, list[dict[str, float]]]
) -> dict[str, Any]:
    """Rates and memory of each side, and how many times as fast ours is."""
    lengths = pair[OURS].ask("count_pair_tokens", pairs=pairs)["lengths"]
    tokens = sum(lengths)
    result: dict[str, Any] = {"pairs": len(pairs), "tokens": tokens, "longest": max(lengths)}
    for side, taken in answers.items():
        seconds = [answer["seconds"] for answer in taken]
        result[side] = {
            "pairs_per_second": len(pairs) / median(seconds),
            "tokens_per_second": tokens / median(seconds),
            "cpu_seconds": median(answer["cpu_seconds"] for answer in taken),
            "above_model_mib": max(answer["above_model_mib"] for answer in taken),
            "seconds": seconds,
        }
    result["times_as_fast"] = median(paired_ratios(result[REFERENCE]["seconds"], result[OURS]["seconds"]))
    return result


def ranked_in_rounds(pair: dict[str, Worker], rankings: list[Ranking], rounds: int) -> dict[str, Any]:
    """The documents of one query at a time; milliseconds of all calls of a round together, for each call."""
    given = {"queries": [query for query, _ in rankings], "documents": [texts for _, texts in rankings]}
    taken: dict[str, list[float]] = {side: [] for side in pair}
    for worker in in_turns(pair, rounds):
        taken[worker.name].append(float(np.mean(worker.ask("rank", **given)["milliseconds"])))
    return {
        "queries": len(rankings),
        "documents": len(rankings[0][1]),
        **{side: {"milliseconds": median(values), "of_rounds": values} for side, values in taken.items()},
        "times_as_fast": median(paired_ratios(taken[REFERENCE], taken[OURS])),
    }


# -- reporting --------------------------------------------------------------------------------------------


def report(results: dict[str, Any]) -> None:
    """Print what was measured."""
    print(f"{results['machine']['cpu']}, {results['machine']['cores']} cores; {results['rounds']} rounds")
    for side, library in results.get("libraries", {}).items():
        packages = ", ".join(f"{name} {version}" for name, version in library["packages"].items())
        print(f"{side}: {library['version']} on {library['device']}; {packages}")
    named = [
        (f"{name}, {shown(of_threads[name]['pairs'])} pairs, {threads_of(of_threads)}", of_threads[name])
        for of_threads in results.get("threads", [])
        for name in IN_ROUNDS
        if name in of_threads
    ]
    if WHOLE in results:
        whole = results[WHOLE]
        named.append((f"whole, {shown(whole['pairs'])} pairs, {threads_of(whole)}", whole))
    if named:
        columns = ("pairs_per_second", "tokens_per_second", "cpu_seconds", "above_model_mib")
        print_table(
            ["workload", "pairs/s", "tokens/s", "CPU s", "MiB above model", "times as fast"],
            [
                [
                    f"{name}, {side}",
                    *(work[side][column] for column in columns),
                    work["times_as_fast"] if side == OURS else None,
                ]
                for name, work in named
                for side in (OURS, REFERENCE)
            ],
        )
    ranked = [
        [
            f"rank {of_threads[RANK]['documents']} documents, {threads_of(of_threads)}",
            *(of_threads[RANK][side]["milliseconds"] for side in (OURS, REFERENCE)),
            of_threads[RANK]["times_as_fast"],
        ]
        for of_threads in results.get("threads", [])
        if RANK in of_threads
    ]
    if ranked:
        print_table(["milliseconds", OURS, REFERENCE, "times as fast"], ranked)
    agreed = [found["largest_difference"] for found in results.get("agreement", {}).values()]
    agreed += [results[WHOLE]["largest_difference"]] if WHOLE in results else []
    if agreed:
        print(f"\nLargest difference between the scores of both: {max(agreed):.1e}")
    if "cold_starts" in results:
        print_table(
            ["seconds from a cold process", OURS, REFERENCE, "share"],
            [
                [what, *(taken[side]["seconds"] for side in (OURS, REFERENCE)), taken["share_of_reference"]]
                for what, taken in results["cold_starts"].items()
            ],
        )


def threads_of(result: dict[str, Any]) -> str:
    return f"{result['threads']} thread{'s' * (result['threads'] > 1)}"


if __name__ == "__main__":
    main()
