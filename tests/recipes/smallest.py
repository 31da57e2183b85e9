"""The smallest run of each recipe: tiny models, a few texts. To add a recipe, add its function to `SMALLEST`.

Each function writes the files it needs into a folder and gives the arguments of the recipe's `Config`, all but
`out`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tiny import sample_texts, tiny_checkpoint

COMMON = {"device": "cpu", "quiet": True, "seed": 3}
TRAINED = {**COMMON, "max_length": 16, "batch_size": 4, "save_steps": 2, "learning_rate": 1e-3}


def tiny_start(folder: Path, family: str = "bert") -> str:
    """A tiny checkpoint to start from."""
    path = folder / "start"
    if not path.is_dir():
        tiny_checkpoint(family, path)
    return str(path)


@cache
def sentences(count: int) -> tuple[str, ...]:
    """Different short sentences."""
    texts = [text[:60] for text in sample_texts()]
    return tuple(f"{texts[number % len(texts)]} {number}" for number in range(count))


def write_lines(folder: Path, texts: Sequence[str]) -> Path:
    """A file of lines."""
    path = folder / "texts.txt"
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def write_table(folder: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> Path:
    """A file of JSON lines."""
    path = folder / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_scored_pairs(folder: Path) -> Path:
    """A table to judge similarity by."""
    texts = sentences(16)
    rows = [
        {"sentence1": texts[number], "sentence2": texts[(number * 5 + 1) % 16], "score": number / 4}
        for number in range(12)
    ]
    return write_table(folder / "sts", "dev", rows)


def write_retrieval_set(folder: Path, documents: int = 12) -> Path:
    """A folder with a retrieval set, whose queries are the beginnings of its documents."""
    texts = sentences(documents)
    place = folder / "retrieval"
    write_table(
        place, "corpus", [{"_id": f"d{n}", "title": "", "text": text} for n, text in enumerate(texts)]
    )
    write_table(place, "queries", [{"_id": f"q{n}", "text": text[:20]} for n, text in enumerate(texts[:6])])
    write_table(place, "qrels", [{"query_id": f"q{n}", "doc_id": f"d{n}", "score": 1} for n in range(6)])
    return place


def tsdae(folder: Path) -> dict[str, Any]:
    return {
        **TRAINED,
        "model": tiny_start(folder),
        "texts": write_lines(folder, sentences(24)),
        "dev": write_scored_pairs(folder),
    }


SMALLEST: dict[str, Callable[[Path], dict[str, Any]]] = {
    "tsdae": tsdae,
}
"""By the name of the recipe; of one recipe there may be several, with what differs behind a space."""
