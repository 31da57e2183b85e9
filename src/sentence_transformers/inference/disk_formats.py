"""Files that embeddings are written into: one `.npy` array, or a folder of Parquet shards.

A format adds a window of rows at a time, so that the rows are on the disk when it returns, and cuts back
whatever was written but not counted. When all rows are there, it gives its files their names. The table
`FORMATS` is the list of what exists. What is written, and how far one has come, is decided elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from sentence_transformers.inputs.row_streams import Id, pyarrow_parquet
from sentence_transformers.storage.durable import rename, sync, sync_folder

PARTIAL = ".partial"
"""Behind the name of a file that is being written."""

RECORD = ".json"
"""Behind the name of an array, for the record beside it."""

FOLDER_RECORD = "_record.json"
"""In a folder of shards; readers of Parquet folders pass over names with an underscore."""


@dataclass(frozen=True)
class Window:
    """Rows that are computed and written together.

    `number` counts windows, `start` is the number of the first row, and `digest` that of all rows up to the
    end of this window.
    """

    number: int
    start: int
    ids: list[Id | None]
    inputs: list[Any]
    digest: str

    @property
    def end(self) -> int:
        return self.start + len(self.inputs)


class Format(Protocol):
    """Files of one kind at one place."""

    path: Path
    usual_rows: int
    usual_characters: int

    @property
    def record_path(self) -> Path:
        """Where the record of the progress lies."""

    @property
    def lock_path(self) -> Path:
        """Where the lock lies while somebody writes."""

    def files(self) -> list[Path]:
        """The files that there are of a finished output."""

    def leftovers(self, layout: Mapping[str, Any]) -> list[Path]:
        """The files that there are, finished or not, but for the record, of which `layout` is a part."""

    def owns(self, path: Path) -> bool:
        """Whether a file or folder is, or may become, one of its own."""

    def begin(self, layout: Mapping[str, Any], rows: int, windows: int) -> None:
        """Prepare to add rows behind those counted so far."""

    def add(self, window: Window, vectors: np.ndarray) -> dict[str, Any]:
        """Write rows, (n, D), so that they are on the disk; gives the layout to record."""

    def seal(self, rows: int, layout: Mapping[str, Any], empty: np.ndarray) -> None:
        """Complete the files; `empty` (0, D) has the type and width of the rows, should there be none."""

    def publish(self) -> None:
        """Give complete files their names; may be called again."""

    def close(self) -> None:
        """Let go of the files, whatever state they are in."""


# -- one array -------------------------------------------------------------------------------------------

HEADER_BYTES = 128
"""Fixed, because the number of rows is written into the header last."""


class NpyFormat:
    """One array, for `np.load(path, mmap_mode="r")`, with the ids line by line in a file beside it.

    Args:
        path: Of the array.
        has_ids: Whether there are ids.
    """

    usual_rows = 16384
    usual_characters = 8_000_000

    def __init__(self, path: Path, *, has_ids: bool, keep_texts: bool = False) -> None:
        if keep_texts:
            raise ValueError(
                "Texts are kept in Parquet files only. Pass format='parquet', or keep_texts=False."
            )
        self.path = path
        self.ids_path = ids_beside(path)
        self.has_ids = has_ids
        self.handles: dict[Path, IO[bytes]] = {}

    @property
    def record_path(self) -> Path:
        return beside(self.path, RECORD)

    @property
    def lock_path(self) -> Path:
        return beside(self.path, ".lock")

    def files(self) -> list[Path]:
        return [path for path in self._names() if path.exists()]

    def leftovers(self, layout: Mapping[str, Any]) -> list[Path]:
        names = [self.path, *([self.ids_path] if self.has_ids or "ids_bytes" in layout else [])]
        partial = [beside(self.path, PARTIAL), beside(self.ids_path, PARTIAL)]
        return [path for path in [*names, *partial] if path.exists()]

    def owns(self, path: Path) -> bool:
        return path.resolve() in {name.resolve() for name in (*self._names(), self.record_path)}

    def _names(self) -> list[Path]:
        return [self.path, *([self.ids_path] if self.has_ids else [])]

    def begin(self, layout: Mapping[str, Any], rows: int, windows: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        sizes = {self.path: HEADER_BYTES + rows * layout.get("row_bytes", 0)}
        if self.has_ids:
            sizes[self.ids_path] = layout.get("ids_bytes", 0)
        for name, size in sizes.items():
            partial = beside(name, PARTIAL)
            handle = open(partial, "r+b" if partial.exists() else "w+b")  # noqa: SIM115 (kept open)
            self.handles[name] = handle
            written = handle.seek(0, 2)
            if written < size and rows:
                raise ValueError(
                    f"{partial} is {written} bytes long, but {rows} rows of {size} bytes were recorded: it was changed "
                    "or damaged. Pass overwrite=True to begin anew."
                )
            handle.truncate(size)
            handle.seek(size)
        sync_folder(self.path.parent)

    def add(self, window: Window, vectors: np.ndarray) -> dict[str, Any]:
        rows = np.ascontiguousarray(vectors)
        self.handles[self.path].write(rows.tobytes())
        layout: dict[str, Any] = {
            "dtype": rows.dtype.str,
            "width": rows.shape[1],
            "row_bytes": rows.itemsize * rows.shape[1],
        }
        if self.has_ids:
            handle = self.handles[self.ids_path]
            handle.write("".join(json.dumps(one) + "\n" for one in window.ids).encode("ascii"))
            layout["ids_bytes"] = handle.tell()
        for handle in self.handles.values():
            sync(handle)
        return layout

    def seal(self, rows: int, layout: Mapping[str, Any], empty: np.ndarray) -> None:
        dtype, width = layout.get("dtype", empty.dtype.str), layout.get("width", empty.shape[1])
        handle = self.handles[self.path]
        handle.seek(0)
        handle.write(npy_header(dtype, rows, width))
        sync(handle)
        self.close()

    def publish(self) -> None:
        for name in self._names():
            if beside(name, PARTIAL).exists():
                rename(beside(name, PARTIAL), name)

    def close(self) -> None:
        while self.handles:
            self.handles.popitem()[1].close()


def npy_header(dtype: str, rows: int, width: int) -> bytes:
    """The first bytes of a `.npy` file, version 1.0, for an array (rows, width)."""
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': ({rows}, {width}), }}"
    magic = b"\x93NUMPY\x01\x00"
    length = HEADER_BYTES - len(magic) - 2
    assert len(text) < length
    return magic + length.to_bytes(2, "little") + text.ljust(length - 1).encode("ascii") + b"\n"


def beside(path: Path, ending: str) -> Path:
    """A file of the same name with something behind it."""
    return path.with_name(path.name + ending)


def ids_beside(path: Path) -> Path:
    """Where the ids of an array lie: one JSON value a line."""
    name = path.name.removesuffix(".npy")
    return path.with_name(f"{name}.ids.jsonl")


# -- Parquet shards --------------------------------------------------------------------------------------


class ParquetFormat:
    """A folder of files `part-00000.parquet`, …, each one window, with columns `id`, `embedding` and perhaps `text`.

    Args:
        path: The folder.
        has_ids: Whether there are ids; otherwise rows are numbered from 0.
        keep_texts: Whether to write the texts too.
    """

    usual_rows = 32768
    usual_characters = 64_000_000

    def __init__(self, path: Path, *, has_ids: bool, keep_texts: bool = False) -> None:
        self.path = path
        self.has_ids = has_ids
        self.keep_texts = keep_texts
        pyarrow_parquet()  # missing, it is missed now and not after the first window

    @property
    def record_path(self) -> Path:
        return self.path / FOLDER_RECORD

    @property
    def lock_path(self) -> Path:
        return self.path / "_lock"

    def files(self) -> list[Path]:
        return sorted(self.path.glob("*.parquet"))

    def leftovers(self, layout: Mapping[str, Any]) -> list[Path]:
        return [*self.files(), *sorted(self.path.glob("*.parquet" + PARTIAL))]

    def owns(self, path: Path) -> bool:
        return self.path.resolve() in (path.resolve(), path.resolve().parent)

    def begin(self, layout: Mapping[str, Any], rows: int, windows: int) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        counted = {self.shard(number) for number in range(windows)}
        missing = sorted(counted - set(self.files()))
        if missing:
            raise ValueError(f"{missing[0]} was recorded and is gone. Pass overwrite=True to begin anew.")
        for path in self.leftovers(layout):
            if path not in counted:
                path.unlink()
        self.id_kind = layout.get("ids")

    def shard(self, number: int) -> Path:
        return self.path / f"part-{number:05d}.parquet"

    def add(self, window: Window, vectors: np.ndarray) -> dict[str, Any]:
        ids: Sequence[Any] = window.ids if self.has_ids else range(window.start, window.end)
        if self.id_kind is None:
            self.id_kind = kind_of_ids(ids[0]) if len(ids) else "number"
        check_ids(ids, self.id_kind, window.start)
        if self.keep_texts and not all(isinstance(item, str) for item in window.inputs):
            raise ValueError(
                f"keep_texts keeps texts, but not every input of rows {window.start} to {window.end - 1} is one. "
                "Pass keep_texts=False."
            )
        self._write(window.number, ids, vectors, window.inputs)
        return {"ids": self.id_kind, "dtype": vectors.dtype.str, "width": vectors.shape[1]}

    def seal(self, rows: int, layout: Mapping[str, Any], empty: np.ndarray) -> None:
        if not rows:
            self._write(0, [], empty, [])

    def publish(self) -> None:
        pass  # each shard got its name when it was complete

    def close(self) -> None:
        pass

    def _write(self, number: int, ids: Sequence[Any], vectors: np.ndarray, texts: list[Any]) -> None:
        import pyarrow as pa

        kind = pa.string() if self.id_kind == "text" else pa.int64()
        values = pa.array(np.ascontiguousarray(vectors).reshape(-1))
        columns: dict[str, Any] = {
            "id": pa.array(ids, type=kind),
            "embedding": pa.FixedSizeListArray.from_arrays(values, max(1, vectors.shape[1])),
        }
        if self.keep_texts:
            columns["text"] = pa.array(texts, type=pa.string())
        partial = beside(self.shard(number), PARTIAL)
        with open(partial, "wb") as handle:
            pyarrow_parquet().write_table(
                pa.table(columns),
                handle,
                # Numbers that hardly ever repeat are neither looked up nor made smaller.
                compression={name: "NONE" if name == "embedding" else "ZSTD" for name in columns},
                use_dictionary=False,
                write_statistics=["id"],
            )
            sync(handle)
        rename(partial, self.shard(number))


def kind_of_ids(one: Any) -> str:
    """ "text" or "number"."""
    return "text" if isinstance(one, str) else "number"


def check_ids(ids: Sequence[Any], kind: str, start: int) -> None:
    """Raise `TypeError` unless all ids are of one kind, as a column needs."""
    for number, one in enumerate(ids, start):
        if kind_of_ids(one) != kind or one is None:
            raise TypeError(
                f"The id of row {number} is {one!r}, but the first row's is a {kind}. Pass ids of one kind."
            )


FORMATS: Mapping[str, Callable[..., Format]] = {"npy": NpyFormat, "parquet": ParquetFormat}


def format_named(name: str | None, path: Path) -> str:
    """The format that is asked for, or else the one that the path's ending stands for.

    Raises:
        ValueError: If it is unknown, or the ending says nothing.
    """
    if name is None and path.suffix == ".npy":
        return "npy"
    if name is None and (path.suffix in ("", ".parquet") or path.is_dir()):
        return "parquet"
    if name is None or name not in FORMATS:
        asked = f"format={name!r} is unknown" if name is not None else f"{path} does not tell its format"
        raise ValueError(
            f"{asked}. Pass format='npy' for one array, or format='parquet' for a folder of shards."
        )
    return name
