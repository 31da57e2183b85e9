"""Pieces of Markdown: tables, code blocks, numbers and durations. Knows nothing about models."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

LONGEST_CELL = 160
"""Characters of a text that a table shows."""


def format_duration(seconds: float) -> str:
    """A length of time in words, in the largest unit that it fills: `2.1 minutes`."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} seconds"


def format_log(value: Any) -> Any:
    """A logged value to four decimals; anything but a float stays as it is."""
    return round(value, 4) if isinstance(value, float) else value


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table. Cells become one line each; None becomes a dash."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines)


def cell(value: Any) -> str:
    """A value as the text of a table's cell."""
    if value is None:
        return "-"
    text = " ".join(str(format_log(value)).split())
    if len(text) > LONGEST_CELL:
        text = text[: LONGEST_CELL - 1].rstrip() + "…"
    return text.replace("|", "\\|").replace("<", "&lt;")


def code_block(text: str, language: str = "") -> str:
    return f"```{language}\n{text}\n```"


def json_block(value: Mapping[str, Any]) -> str:
    return code_block(json.dumps(value, indent=2, default=str, ensure_ascii=False), "json")


def folded(summary: str, text: str) -> str:
    """Text that shows when the reader opens it."""
    return f"<details><summary>{summary}</summary>\n\n{text}\n\n</details>"
