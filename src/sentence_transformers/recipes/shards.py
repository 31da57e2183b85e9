"""Long work over many items, in shards: a process that was killed has lost one shard at most.

Each shard is a file of JSON lines that has its name once it is whole; at the end all become one file. What the
work is must depend on the items of a shard and its place alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sentence_transformers.storage.folder import write_text

Item = TypeVar("Item")


def write_in_shards(
    path: Path,
    items: Sequence[Item],
    size: int,
    work: Callable[[Sequence[Item], int], Iterable[Mapping[str, Any]]],
    *,
    quiet: bool = False,
    order: Callable[[Mapping[str, Any]], Any] | None = None,
    name: str = "Working",
) -> None:
    """Write the rows that are made of many items into a file of JSON lines.

    Args:
        path: The file; if it is there, it is whole, and nothing is done. Its shards stand beside it until then.
        items: What rows are made of.
        size: Items in a shard.
        work: Makes the rows of a shard, given its items and the number of the first.
        quiet: Show no progress.
        order: Key by which the rows are put in order; as they were made without it.
        name: Of the progress bar.
    """
    from tqdm.auto import tqdm

    if path.is_file():  # whole; a process may have been killed before it removed the shards
        for shard in path.parent.glob(f"{path.stem}-*{path.suffix}"):
            shard.unlink()
        return
    rows: list[dict[str, Any]] = []
    shards = []
    with tqdm(total=len(items), disable=quiet, desc=name) as progress:
        for start in range(0, len(items), size):
            shard = path.with_name(f"{path.stem}-{start:09}{path.suffix}")
            shards.append(shard)
            if not shard.is_file():
                write_lines(shard, work(items[start : start + size], start))
            rows += read_lines(shard)
            progress.update(min(size, len(items) - start))
    write_lines(path, rows if order is None else sorted(rows, key=order))
    for shard in shards:
        shard.unlink(missing_ok=True)


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines, all or none."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines; there may be none."""
    with open(path, encoding="utf-8") as handle:
        return [json.loads(line) for line in handle if line.strip()]
