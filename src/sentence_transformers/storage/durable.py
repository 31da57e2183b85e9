"""Writes that outlast a kill or a power cut.

A file counts once its bytes, and then its name, have reached the disk. Nothing here knows what is written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


def sync(handle: IO[Any]) -> None:
    """Wait until everything written to an open file is on the disk."""
    handle.flush()
    os.fsync(handle.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names of a folder's files are on the disk."""
    if os.name != "posix":  # elsewhere a folder cannot be opened, and renaming waits by itself
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename(source: Path, target: Path) -> None:
    """Give a complete file its name, in place of what had it; on the disk when this returns."""
    os.replace(source, target)
    sync_folder(target.parent)


def write_json_durably(path: Path, value: Any) -> None:
    """Replace a JSON file: after a kill at any moment it holds the old value or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w", encoding="utf-8") as handle:
        json.dump(value, handle, indent=2, ensure_ascii=False)
        handle.write("\n")
        sync(handle)
    rename(temporary, path)


@contextmanager
def only_one_writer(path: Path) -> Iterator[None]:
    """Hold a lock, a file of this name, within the block; a killed process loses it by itself.

    Raises:
        RuntimeError: If another process holds it.
    """
    if os.name != "posix":
        yield
        return
    import fcntl

    with open(path, "ab") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(
                f"Another process is writing here: it holds {path}. Wait for it, or write somewhere else."
            ) from None
        try:
            yield
        finally:
            # While it is held: one who opened the same file meanwhile finds the work finished or resumable.
            path.unlink(missing_ok=True)
