"""One library's part in the comparison of saved cross-encoders: builds, saves, loads and scores.

Runs in the environment of that library, takes the same kind of commands as `worker.py`, and uses only what
all releases have.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

MAX_LENGTH = 24


def save(base: str, folder: str) -> dict[str, Any]:
    """Load a checkpoint, save it as a cross-encoder, and tell what it gives."""
    import torch

    import sentence_transformers
    from sentence_transformers import CrossEncoder

    if sentence_transformers.__version__.startswith("3."):
        model = CrossEncoder(base, device="cpu")
    else:
        model = CrossEncoder(base, max_length=MAX_LENGTH, device="cpu", activation_fn=torch.nn.Tanh())
    model.save_pretrained(folder)
    return described(model)


def load(folder: str) -> dict[str, Any]:
    """Load a saved cross-encoder and tell what it gives."""
    from sentence_transformers import CrossEncoder

    return described(CrossEncoder(folder, device="cpu"))


def described(model: Any) -> dict[str, Any]:
    """A model's scores and settings."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    from tiny import sample_texts

    texts = sample_texts()
    pairs = [*zip(texts[:8], texts[20:28]), (texts[0], " ".join(texts[10:20])), ("a", "b")]
    return {
        "scores": model.predict(pairs, show_progress_bar=False).astype(float).tolist(),
        "labels": model.config.num_labels,
        "activation": type(model.default_activation_function).__name__,
    }


COMMANDS: dict[str, Callable[..., dict[str, Any]]] = {"save": save, "load": load}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = COMMANDS[command.pop("do")](**command)
        except Exception as error:  # One model that fails is a finding; the others are compared all the same.
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
