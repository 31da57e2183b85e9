"""How far writing embeddings to disk has come, kept in a small file beside them.

The record says with which settings rows are made, how many are safely on the disk, and what they were made
from, so that a later call goes on where a killed one stopped, or refuses to. Nothing here computes or writes
embeddings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from sentence_transformers.storage.durable import write_json_durably

VERSION = 1

WRITING, CLOSING, FINISHED = "writing", "closing", "finished"
"""Stages: rows are added; all rows are there and files get their names; done."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is on the disk.

    `settings` decide what a row becomes: where they differ, files do not go on. `made_with` may change its last
    digits. `rows` are safely written, in `windows` steps, and `digest` tells what they were made from.
    `layout` belongs to the format of the files.
    """

    settings: dict[str, Any]
    made_with: dict[str, Any]
    stage: str = WRITING
    rows: int = 0
    windows: int = 0
    digest: str = ""
    layout: dict[str, Any] = field(default_factory=dict)

    def at(self, stage: str) -> Record:
        """The same at another stage."""
        return replace(self, stage=stage)


def read_record(path: Path) -> Record | None:
    """The record in a file, or None where there is no file.

    Raises:
        ValueError: If the file is none of ours, or of a version that is not known here.
    """
    if not path.exists():
        return None
    try:
        with open(path, encoding="utf-8") as handle:
            content = json.load(handle)
        version = content.pop("version")
        record = Record(**content) if version == VERSION else None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} is no record of encode_to ({error}). Write somewhere else, or pass overwrite=True to replace "
            "what is there."
        ) from error
    if record is None:
        raise ValueError(
            f"{path} is of version {version}, and this release knows version {VERSION}. Go on with the release "
            "that wrote it, or pass overwrite=True to begin anew."
        )
    return record


def write_record(path: Path, record: Record) -> None:
    """Replace the record; after a kill at any moment the old one or the new one is there."""
    write_json_durably(path, {"version": VERSION, **asdict(record)})


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Which settings differ, each with both values."""
    # As they come back from a file.
    now = json.loads(json.dumps(dict(now)))
    names = [*before, *(name for name in now if name not in before)]
    return [
        f"{name}: {before.get(name)!r} before, {now.get(name)!r} now"
        for name in names
        if before.get(name) != now.get(name)
    ]


class Fingerprint:
    """A running digest of rows: equal for equal ids and inputs in the same order."""

    def __init__(self) -> None:
        self.hash = hashlib.blake2b(digest_size=16)

    def add(self, one: str | int | None, item: Any) -> None:
        """Take a row in."""
        for part in content_of((one, item)):
            self.hash.update(part)

    def digest(self) -> str:
        """The digest of all rows so far."""
        return self.hash.hexdigest()


def content_of(value: Any) -> Iterator[bytes]:
    """What an id or an input consists of; of objects of unknown kinds only their type."""
    if isinstance(value, str):
        data = value.encode("utf-8", "surrogatepass")
        yield b"s%d:" % len(data)
        yield data
    elif isinstance(value, (list, tuple)):
        yield b"l%d:" % len(value)
        for part in value:
            yield from content_of(part)
    elif isinstance(value, Mapping):
        yield b"d%d:" % len(value)
        for key, part in value.items():
            yield from content_of(key)
            yield from content_of(part)
    elif isinstance(value, (np.ndarray, Tensor)):
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
        yield f"a{array.dtype}{array.shape}:".encode()
        yield np.ascontiguousarray(array).tobytes()
    elif hasattr(value, "tobytes") and hasattr(value, "size"):  # an image
        yield f"i{getattr(value, 'mode', '')}{value.size}:".encode()
        yield value.tobytes()
    elif value is None or isinstance(value, (bool, int, float)):
        yield f"v{value!r}:".encode()
    else:
        yield f"o{type(value).__qualname__}:".encode()
