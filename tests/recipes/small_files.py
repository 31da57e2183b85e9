"""Small tables, lists and retrieval sets for recipes to learn from, written into a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tiny import sample_texts


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


def write_translations(folder: Path, language: str) -> Path:
    """Sentences with what stands for their translations: the same words backwards, behind the language's name."""
    return write_table(
        folder,
        f"en-{language}",
        [{"en": text, language: f"{language} {' '.join(text.split()[::-1])}"} for text in sentences(12)],
    )


def write_pairs(folder: Path) -> Path:
    """Beginnings and ends of the same sentence."""
    return write_table(
        folder,
        "pairs",
        [{"anchor": text[:30], "positive": text[20:]} for text in sentences(24)],
    )


def write_classed(folder: Path) -> Path:
    """Texts of three classes."""
    rows = [{"text": text, "label": "abc"[number % 3]} for number, text in enumerate(sentences(24))]
    return write_table(folder, "classed", rows)


def write_queried(folder: Path) -> Path:
    """A table of queries and passages: the beginnings of sentences, and the sentences."""
    rows = [{"question": text[:20], "answer": text} for text in sentences(24)]
    return write_table(folder, "queried", rows)
