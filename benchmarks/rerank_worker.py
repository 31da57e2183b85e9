"""The measured side of `rerank.py`: scores pairs with one library in a process of its own.

Speaks as `worker.py` does, whose threads and memory it shares; runs with this project and with the reference,
since both have the same interface.
"""

from __future__ import annotations

import time
from typing import Any

import worker
from worker import MEBIBYTE, peak_memory, reset_peak, resident_memory

model: Any = None


def load_cross_encoder(folder: str, device: str = "cpu", dtype: str | None = None) -> dict[str, Any]:
    """Load a cross-encoder; says which versions of what are at work."""
    global model
    import numpy
    import tokenizers
    import torch

    import sentence_transformers
    from sentence_transformers import CrossEncoder

    options = {"model_kwargs": {"torch_dtype": dtype}} if dtype else {}
    model = CrossEncoder(folder, device=device, **options)
    modules = {"torch": torch, "tokenizers": tokenizers, "numpy": numpy}
    versions = {name: module.__version__ for name, module in modules.items()}
    return {"version": sentence_transformers.__version__, "packages": versions, "device": str(model.device)}


def predict(pairs: list[list[str]], keeps: bool = False) -> dict[str, Any]:
    """Score the pairs in one call; wall and CPU seconds, memory above that before, and the scores if asked for."""
    inputs = [(first, second) for first, second in pairs]
    reset_peak()
    before = resident_memory()
    wall, cpu = time.perf_counter(), time.process_time()
    scores = model.predict(inputs, show_progress_bar=False)
    result: dict[str, Any] = {
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "above_model_mib": (peak_memory() - before) / MEBIBYTE,
    }
    if keeps:
        result["scores"] = scores.tolist()
    return result


def raw_scores(pairs: list[list[str]]) -> dict[str, Any]:
    """Scores before the activation, which makes small differences smaller."""
    import torch

    inputs = [(first, second) for first, second in pairs]
    scores = model.predict(inputs, activation_fn=torch.nn.Identity(), show_progress_bar=False)
    return {"scores": scores.tolist()}


def rank(queries: list[str], documents: list[list[str]]) -> dict[str, Any]:
    """Rank the documents of each query in a call of its own; milliseconds of each call."""
    milliseconds = []
    for query, texts in zip(queries, documents):
        started = time.perf_counter()
        model.rank(query, texts, show_progress_bar=False)
        milliseconds.append((time.perf_counter() - started) * 1000)
    return {"milliseconds": milliseconds}


def count_pair_tokens(pairs: list[list[str]]) -> dict[str, Any]:
    """Tokens that the model sees of each pair."""
    firsts, seconds = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    rows = model.tokenizer(firsts, seconds, truncation=True, max_length=model.max_length)["input_ids"]
    return {"lengths": [len(row) for row in rows]}


worker.COMMANDS.update(
    load_cross_encoder=load_cross_encoder,
    predict=predict,
    raw_scores=raw_scores,
    rank=rank,
    count_pair_tokens=count_pair_tokens,
)

if __name__ == "__main__":
    worker.main()
