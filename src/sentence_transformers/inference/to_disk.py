"""Embeddings of more inputs than fit into memory, written to disk, and picked up again after a kill.

    rows → windows → vectors → files on the disk → the record counts them

Windows are cut by the rows alone, so they are the same in every run. One counts once its rows are on the
disk and the record says so; whatever a killed run wrote beyond that is written anew. A run that goes on
reads its input from the start, passes over the rows that count, and refuses if they are not the rows it
knows. How vectors are computed, and what is in the files, stands elsewhere.
"""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sentence_transformers.inference.disk_formats import (
    FOLDER_RECORD,
    RECORD,
    Format,
    Window,
    beside,
    ids_beside,
)
from sentence_transformers.inference.plan import character_count
from sentence_transformers.inference.progress_record import (
    CLOSING,
    FINISHED,
    WRITING,
    Fingerprint,
    Record,
    differences,
    read_record,
    write_record,
)
from sentence_transformers.inputs.row_streams import Id, Row, RowStream, pyarrow_parquet
from sentence_transformers.storage.durable import only_one_writer, sync_folder

logger = logging.getLogger(__name__)

Compute = Callable[[Iterator[list[Any]]], Generator[np.ndarray, None, None]]
"""Turns windows of inputs into their vectors, (n, D) each, in order, and reads few windows ahead."""


@dataclass(frozen=True, kw_only=True)
class EncodeReport:
    """What `encode_to` did.

    Attributes:
        path: Where the embeddings are: the array, or the folder of shards.
        files: All files with embeddings and ids.
        rows: Embeddings there are now, those of earlier calls included.
        width: Numbers, or bytes of binary codes, in each.
        dtype: Type of the numbers.
        resumed_from: Rows that were there already.
        tokens: Tokens computed in this call; None when other processes did.
        seconds: Duration of this call.
    """

    path: Path
    files: list[Path]
    rows: int
    width: int
    dtype: str
    resumed_from: int
    tokens: int | None
    seconds: float


class SettingsDifferError(ValueError):
    """What is on the disk was made with other settings, or of other inputs."""


class LoadedEmbeddings(NamedTuple):
    """What `load_embeddings` gives."""

    embeddings: np.ndarray
    ids: list[Id] | None


def load_embeddings(path: str | Path) -> LoadedEmbeddings:
    """Read what `encode_to` has written.

    Args:
        path: The `.npy` file, or the folder of Parquet shards.

    Returns:
        The embeddings, (n, D), and the ids, or None where there are none. An `.npy` array stays on the disk and is
        read where it is used (`np.load(path, mmap_mode="r")` does the same); shards are read into memory.

    Raises:
        ValueError: If the embeddings are not all there yet.
        FileNotFoundError: If there is nothing.
    """
    path = Path(path)
    record = record_of(path)
    if record is not None and record.stage != FINISHED:
        raise ValueError(
            f"{path} is not finished: {record.rows} rows are there so far. Call encode_to again to go on."
        )
    if not path.is_dir():
        ids = None
        if record is not None and "ids_bytes" in record.layout:
            with open(ids_beside(path), encoding="utf-8") as handle:
                ids = [json.loads(line) for line in handle]
        return LoadedEmbeddings(np.load(path, mmap_mode="r"), ids)
    files = sorted(path.glob("*.parquet"))
    if not files:
        raise FileNotFoundError(f"The folder {path} holds no Parquet files.")
    tables = [pyarrow_parquet().read_table(file, columns=["id", "embedding"]) for file in files]
    vectors = [table.column("embedding").combine_chunks() for table in tables]
    arrays = [column.flatten().to_numpy(zero_copy_only=False) for column in vectors]
    rows = [array.reshape(len(column), -1) for array, column in zip(arrays, vectors) if len(column)]
    width = vectors[0].type.list_size
    named = record is not None and bool(record.settings.get("ids"))
    return LoadedEmbeddings(
        np.concatenate(rows) if rows else np.empty((0, width), dtype=arrays[0].dtype),
        [one for table in tables for one in table.column("id").to_pylist()] if named else None,
    )


def record_of(path: Path) -> Record | None:
    """The record of the embeddings at a path, or None where there is none."""
    return read_record(path / FOLDER_RECORD if path.is_dir() else beside(path, RECORD))


def write_embeddings(
    output: Format,
    stream: RowStream,
    compute: Compute,
    *,
    settings: dict[str, Any],
    made_with: dict[str, Any],
    empty: np.ndarray,
    rows_per_window: int | None = None,
    resume: bool = True,
    overwrite: bool = False,
    counted: Callable[[int], None] = lambda rows: None,
) -> EncodeReport:
    """Compute all rows and write them, going on where an earlier call with the same settings stopped.

    Args:
        output: Where to, and in which format.
        stream: The rows, from the first one on, also when going on.
        compute: Turns windows of inputs into vectors.
        settings: What decides the result; must be the same for a run that goes on.
        made_with: What may change the last digits of the result; a difference is warned about.
        empty: An array (0, D) like the result for no rows.
        rows_per_window: Rows that are computed and become safe together; None for the format's own number.
        resume: Whether to go on with an unfinished run; otherwise it begins anew.
        overwrite: Whether to remove what is there and begin anew.
        counted: Told the number of rows that are safe, at the start and after each window.

    Raises:
        SettingsDifferError: If what is there was made with other settings or of other inputs.
        FileExistsError: If something else is there, or it is finished and `resume` is False.
        OSError: If a file cannot be written; what is counted stays.
        RuntimeError: If another process is writing there.
    """
    began = time.perf_counter()
    settings = {**settings, "rows_per_window": rows_per_window or output.usual_rows}
    fresh = Record(settings=settings, made_with=made_with)
    with explained(output, "prepare"):
        output.record_path.parent.mkdir(parents=True, exist_ok=True)
    with only_one_writer(output.lock_path):
        record = earlier_record(output, fresh, resume=resume, overwrite=overwrite) or fresh
        rows = CountedRows(stream.rows)
        pass_over(rows, record, output)
        counted(record.rows)
        resumed_from = record.rows
        try:
            if record.stage == WRITING:
                with explained(output, "prepare"):
                    output.begin(record.layout, record.rows, record.windows)
                    write_record(output.record_path, record)
                windows = rows.windows(
                    record.windows,
                    max_rows=settings["rows_per_window"],
                    max_characters=output.usual_characters,
                )
                for latest in written(output, record, windows, compute):
                    record = latest
                    counted(record.rows)
                with explained(output, "complete"):
                    output.seal(record.rows, record.layout, empty)
                    record = record.at(CLOSING)
                    write_record(output.record_path, record)
            if record.stage == CLOSING:
                with explained(output, "complete"):
                    output.publish()
                    record = record.at(FINISHED)
                    write_record(output.record_path, record)
        finally:
            output.close()
    return EncodeReport(
        path=output.path,
        files=output.files(),
        rows=record.rows,
        width=record.layout["width"] if record.rows else empty.shape[1],
        dtype=np.dtype(record.layout.get("dtype", empty.dtype)).name,
        resumed_from=resumed_from,
        tokens=None,
        seconds=time.perf_counter() - began,
    )


def earlier_record(output: Format, fresh: Record, *, resume: bool, overwrite: bool) -> Record | None:
    """The record of an earlier call to go on with, or None to begin; removes what is to be replaced."""
    if overwrite:
        remove(output)
        return None
    record = read_record(output.record_path)
    if record is None:
        there = output.files()
        if there:
            raise FileExistsError(
                f"{there[0]} exists, and nothing says how it was made. Write somewhere else, or pass overwrite=True to "
                "replace it."
            )
        return None
    if not resume:
        if record.stage == FINISHED:
            raise FileExistsError(
                f"{output.files()[0]} is finished, with {record.rows} rows. Pass overwrite=True to make it anew."
            )
        remove(output)
        return None
    differing = differences(record.settings, fresh.settings)
    if differing:
        raise SettingsDifferError(
            f"{output.record_path} records {record.rows} rows that were made with other settings:\n  "
            + "\n  ".join(differing)
            + "\nUse the settings from before, write somewhere else, or pass overwrite=True to begin anew."
        )
    unlike = differences(record.made_with, fresh.made_with)
    if unlike and record.stage == WRITING and record.rows:
        logger.warning(
            "Going on after %d rows under other circumstances (%s): the rows to come may differ in their last digits "
            "from what one undisturbed run would give.",
            record.rows,
            "; ".join(unlike),
        )
    return record


def remove(output: Format) -> None:
    """Remove an earlier output, its record first, so that it never looks whole while files are missing."""
    layout: dict[str, Any] = {}
    if output.record_path.exists():
        try:
            found = read_record(output.record_path)
        except ValueError:  # damaged or foreign, which is why it is removed
            found = None
        layout = found.layout if found is not None else {}
        output.record_path.unlink()
        sync_folder(output.record_path.parent)
    for path in output.leftovers(layout):
        path.unlink()


class CountedRows:
    """Rows of a stream, with the number of those taken and a fingerprint of them."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self.rows = rows
        self.taken = 0
        self.fingerprint = Fingerprint()

    def count(self, row: Row) -> None:
        """Take note of a row."""
        self.taken += 1
        self.fingerprint.add(*row)

    def windows(self, first: int, *, max_rows: int, max_characters: int) -> Iterator[Window]:
        """The rows from here on in windows, cut when either limit is reached.

        Args:
            first: Number of the first window.
            max_rows: Rows of a window at most.
            max_characters: Characters of a window at most; a longer row gets one of its own.
        """
        held: list[Row] = []
        size = 0
        number = first

        def window() -> Window:
            return Window(
                number=number,
                start=self.taken - len(held),
                ids=[one for one, _ in held],
                inputs=[item for _, item in held],
                digest=self.fingerprint.digest(),
            )

        for row in self.rows:
            characters = character_count(row[1])
            if held and size + characters > max_characters:
                yield window()
                number, held, size = number + 1, [], 0
            self.count(row)
            held.append(row)
            size += characters
            if len(held) == max_rows:
                yield window()
                number, held, size = number + 1, [], 0
        if held:
            yield window()


def pass_over(rows: CountedRows, record: Record, output: Format) -> None:
    """Take the rows that are on the disk already, and see that they are the ones that were encoded.

    Raises:
        SettingsDifferError: If they are not.
    """
    while rows.taken < record.rows:
        row = next(rows.rows, None)
        if row is None:
            raise SettingsDifferError(
                f"{output.record_path} records {record.rows} rows, but the input ends after {rows.taken}. "
                + CHANGED_INPUT
            )
        rows.count(row)
    if record.rows and rows.fingerprint.digest() != record.digest:
        raise SettingsDifferError(
            f"The first {record.rows} rows of the input (or their ids) are not those that "
            f"{output.record_path} records. " + CHANGED_INPUT
        )
    if record.stage != WRITING and next(rows.rows, None) is not None:
        raise SettingsDifferError(
            f"{output.record_path} says that all {record.rows} rows are encoded, but the input goes on. "
            + CHANGED_INPUT
        )


CHANGED_INPUT = (
    "Going on needs the same rows in the same order, from the first one on. Pass those, write somewhere else, or "
    "pass overwrite=True to begin anew."
)


def written(output: Format, record: Record, windows: Iterator[Window], compute: Compute) -> Iterator[Record]:
    """Compute and write window after window; gives the record of each, once it is on the disk."""
    underway: deque[Window] = deque()

    def inputs() -> Iterator[list[Any]]:
        for window in windows:
            underway.append(window)
            yield window.inputs

    with closing(compute(inputs())) as results:
        for vectors in results:
            window = underway.popleft()
            with explained(output, f"write rows {window.start} to {window.end - 1} to", record.rows):
                layout = output.add(window, vectors)
                record = replace(
                    record,
                    rows=window.end,
                    windows=window.number + 1,
                    digest=window.digest,
                    layout=layout,
                )
                write_record(output.record_path, record)
            yield record


@contextmanager
def explained(output: Format, doing: str, safe: int | None = None) -> Iterator[None]:
    """Say in an error of the operating system what it means for the rows."""
    try:
        yield
    except OSError as error:
        place = output.record_path.parent
        stays = f" The {safe} rows before are safe." if safe else ""
        raise type(error)(
            error.errno,
            f"Could not {doing} {place}: {error.strerror or error}.{stays} Once that is mended, call again to go on",
            error.filename,
        ) from error
