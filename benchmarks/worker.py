"""The measured side: runs one library in a process of its own and does what it is told.

Reads one command a line from standard input, a JSON object whose "do" names a function below, and answers
with one line of JSON on standard output. The same code runs with this project and with the reference, since
both have the same interface. What is compared, and how often, is decided by the scripts that start it.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MEBIBYTE = 2**20

model: Any = None


def load(folder: str, device: str = "cpu", dtype: str | None = None) -> dict[str, Any]:
    """Load a model; says which versions of what are at work."""
    global model
    import numpy
    import tokenizers
    import torch

    import sentence_transformers
    from sentence_transformers import SentenceTransformer

    options = {"model_kwargs": {"torch_dtype": dtype}} if dtype else {}
    model = SentenceTransformer(folder, device=device, **options)
    modules = {"torch": torch, "tokenizers": tokenizers, "numpy": numpy}
    versions = {name: module.__version__ for name, module in modules.items()}
    return {"version": sentence_transformers.__version__, "packages": versions, "device": str(model.device)}


def use_threads(count: int) -> dict[str, Any]:
    """Compute with this many threads, and confine the process to as many cores where the system can."""
    import torch

    torch.set_num_threads(count)
    cores = None
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(ALL_CORES)[:count]
        # Each thread has its own mask; those that start later inherit it.
        for thread in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(thread), cores)
    return {"threads": torch.get_num_threads(), "cores": cores}


def encode(texts: list[str], save: str | None = None) -> dict[str, Any]:
    """Encode the texts once; wall and CPU seconds, peak memory, and the vectors if a file is named."""
    reset_peak()
    wall, cpu = time.perf_counter(), time.process_time()
    vectors = model.encode(texts, show_progress_bar=False)
    result = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    if save:
        import numpy

        numpy.save(save, vectors)
    return {**result, "peak_mib": peak_memory() / MEBIBYTE}


def encode_one_by_one(texts: list[str]) -> dict[str, Any]:
    """Encode each text in a call of its own; milliseconds of each call."""
    milliseconds = []
    for text in texts:
        started = time.perf_counter()
        model.encode(text, show_progress_bar=False)
        milliseconds.append((time.perf_counter() - started) * 1000)
    return {"milliseconds": milliseconds}


def encode_again_and_again(texts: list[str], calls: int) -> dict[str, Any]:
    """Encode the same texts in many calls; resident memory after each."""
    resident = []
    for _ in range(calls):
        model.encode(texts, show_progress_bar=False)
        resident.append(resident_memory() / MEBIBYTE)
    return {"resident_mib": resident}


def encode_many(words: list[str], count: int, seed: int) -> dict[str, Any]:
    """Encode very many short texts, made here from words; memory above that of texts and model."""
    generator = random.Random(seed)
    texts = [" ".join(generator.choices(words, k=generator.randint(3, 6))) for _ in range(count)]
    model.encode(texts[:2000], show_progress_bar=False)
    reset_peak()
    before = resident_memory()
    started = time.perf_counter()
    vectors = model.encode(texts, show_progress_bar=False)
    return {
        "seconds": time.perf_counter() - started,
        "baseline_mib": before / MEBIBYTE,
        "output_mib": vectors.nbytes / MEBIBYTE,
        "above_output_mib": (peak_memory() - before - vectors.nbytes) / MEBIBYTE,
        "is_finite": bool((vectors == vectors).all()),
    }


def count_tokens(texts: list[str]) -> dict[str, Any]:
    """Tokens that the model sees of each text."""
    rows = model.tokenizer(texts, truncation=True, max_length=model.max_seq_length)["input_ids"]
    return {"lengths": [len(row) for row in rows]}


def multiply_matrices(seconds: float) -> dict[str, Any]:
    """The machine's float32 matrix multiplication rate, at a shape like that of the model's layers.

    It is that of PyTorch's fastest library: oneDNN with its own order of the right side, or the usual one.
    """
    import torch

    left, right = torch.randn(2048, 1536), torch.randn(1536, 384)
    arranged = torch.ops.mkldnn._reorder_linear_weight(right.t().contiguous(), len(left))
    ways = {
        "usual": lambda: torch.mm(left, right),
        "oneDNN": lambda: torch.ops.mkldnn._linear_pointwise(left, arranged, None, "none", [], "none"),
    }
    operations = 2 * 2048 * 1536 * 384
    best = dict.fromkeys(ways, float("inf"))
    ends = time.perf_counter() + seconds
    with torch.inference_mode():
        while time.perf_counter() < ends:
            for name, multiply in ways.items():
                started = time.perf_counter()
                for _ in range(10):
                    multiply()
                best[name] = min(best[name], (time.perf_counter() - started) / 10)
    rates = {name: operations / taken / 1e9 for name, taken in best.items()}
    return {"gflops": max(rates.values()), "by_library": rates}


def resident_memory() -> int:
    """Bytes of memory this process holds now."""
    return status_bytes("VmRSS")


def peak_memory() -> int:
    """Most bytes of memory this process has held since the last `reset_peak`."""
    return status_bytes("VmHWM")


def reset_peak() -> None:
    """Count the peak from now on."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return  # Without the right to reset it, the peak is that of the whole run.


def status_bytes(name: str) -> int:
    """An entry of /proc/self/status; elsewhere than on Linux the peak stands in for all of them."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


COMMANDS: dict[str, Callable[..., dict[str, Any]]] = {
    "load": load,
    "use_threads": use_threads,
    "encode": encode,
    "encode_one_by_one": encode_one_by_one,
    "encode_again_and_again": encode_again_and_again,
    "encode_many": encode_many,
    "count_tokens": count_tokens,
    "multiply_matrices": multiply_matrices,
}

ALL_CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def main() -> None:
    # What a library prints goes to standard error, so that answers stay alone on standard output.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = COMMANDS[command.pop("do")](**command)
        except Exception as error:  # The other side raises it again, with the command.
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
