"""The measured side of `search.py`: searches with whichever library its interpreter has.

Reads one command a line from standard input, a JSON object whose "do" names a function below, and answers with
one line of JSON. The same code runs with this project and with the reference, since both have the same
interface; faiss and usearch run in this project's process.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

rows: np.ndarray
queries: np.ndarray
RESULTS: dict[str, Any] = {}
TOP_K = 10


def load(corpus: str, count: int, query_file: str | None, threads: int) -> dict[str, Any]:
    """Read embeddings into memory, and a library along with them."""
    global rows, queries
    torch.set_num_threads(threads)
    rows = np.array(np.load(corpus, mmap_mode="r")[:count])
    queries = np.load(query_file) if query_file else rows[:0]
    import sentence_transformers
    from sentence_transformers import util  # noqa: F401

    # What reading the file took does not count.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return {
        "version": sentence_transformers.__version__,
        "packages": {"torch": torch.__version__, "numpy": np.__version__},
        "peak_mib": memory("VmHWM"),
        "now_mib": memory("VmRSS"),
    }


def product(with_itself: bool) -> dict[str, Any]:
    """The bare float32 product of all scores, in blocks that are thrown away."""
    left, right = torch.from_numpy(rows if with_itself else queries), torch.from_numpy(rows)
    seconds = []
    for high, wide in ((512, 4096), (1024, 8192)):
        space = torch.empty(high * wide)
        started = time.perf_counter()
        for first in range(0, len(left), high):
            part = left[first : first + high]
            for second in range(0, len(right), wide):
                block = right[second : second + wide]
                torch.mm(part, block.T, out=space[: len(part) * len(block)].view(len(part), len(block)))
        seconds.append(time.perf_counter() - started)
    return {"seconds": min(seconds)}


def semantic_search(**options: Any) -> dict[str, Any]:
    from sentence_transformers import util

    hits, seconds = timed(
        lambda: util.semantic_search(
            torch.from_numpy(queries), torch.from_numpy(rows), top_k=TOP_K, **options
        )
    )
    return {
        "seconds": seconds,
        "found": ids_of(hits),
        "scores": [[hit["score"] for hit in line] for line in hits],
    }


def exact_rows() -> dict[str, Any]:
    """What brute force finds, in float64."""
    scores = torch.from_numpy(queries).double() @ torch.from_numpy(rows).double().T
    return {"found": scores.topk(TOP_K).indices.tolist()}


def faiss_flat() -> dict[str, Any]:
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatIP(rows.shape[1])
    _, adding = timed(lambda: index.add(rows))
    (_, found), seconds = timed(lambda: index.search(queries, TOP_K))
    return {"seconds": seconds, "found": found.tolist(), "adding": adding}


def usearch_exact() -> dict[str, Any]:
    from usearch.index import MetricKind, search

    matches, seconds = timed(
        lambda: search(rows, queries, TOP_K, MetricKind.IP, exact=True, threads=torch.get_num_threads())
    )
    return {"seconds": seconds, "found": matches.keys.tolist()}


def quantized(precision: str) -> dict[str, Any]:
    """Our search of quantised embeddings that are quantised beforehand."""
    from sentence_transformers.quantization import quantize_embeddings, semantic_search_quantized

    ranges = np.stack([rows.min(axis=0), rows.max(axis=0)])
    codes = quantize_embeddings(rows, precision, ranges=ranges)
    (hits, *_), seconds = timed(
        lambda: semantic_search_quantized(
            queries, codes, corpus_precision=precision, top_k=TOP_K, ranges=ranges, rescore_multiplier=4
        )
    )
    return {"seconds": seconds, "found": ids_of(hits), "mib": codes.nbytes / 2**20}


def paraphrase_mining() -> dict[str, Any]:
    from sentence_transformers import util

    pairs, seconds = timed(lambda: util.paraphrase_mining_embeddings(torch.from_numpy(rows)))
    return {
        "seconds": seconds,
        "pairs": len(pairs),
        "last": pairs[-1][0],
        "sum": sum(pair[0] for pair in pairs),
    }


def community_detection() -> dict[str, Any]:
    from sentence_transformers import util

    found, seconds = timed(
        lambda: util.community_detection(torch.from_numpy(rows), threshold=0.75, min_community_size=10)
    )
    return {
        "seconds": seconds,
        "communities": len(found),
        "members": sum(map(len, found)),
        "largest": len(found[0]),
    }


def ids_of(hits: list[list[dict[str, Any]]]) -> list[list[int]]:
    return [[hit["corpus_id"] for hit in line] for line in hits]


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    result = call()
    return result, time.perf_counter() - started


def memory(name: str) -> float | None:
    """Resident memory of this process in MiB: `VmRSS` now, `VmHWM` at its highest."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


COMMANDS = (
    load,
    product,
    semantic_search,
    exact_rows,
    faiss_flat,
    usearch_exact,
    quantized,
    paraphrase_mining,
    community_detection,
)


def main() -> None:
    by_name = {command.__name__: command for command in COMMANDS}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = by_name[request.pop("do")](**request)
            answer["peak_mib"] = memory("VmHWM")
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
