"""`encode_to`: embeddings of any number of inputs, written to disk in bounded memory.

Checks what is asked for, and says how a window of inputs becomes vectors. Windows, files and going on after
a kill stand in `inference/to_disk.py`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sentence_transformers.backend.arranged import without_memory
from sentence_transformers.encoder.fingerprint import model_fingerprint
from sentence_transformers.encoder.saving import installed_versions
from sentence_transformers.inference.disk_formats import FORMATS, format_named
from sentence_transformers.inference.engine import listening, progress_bar, wants_progress
from sentence_transformers.inference.options import DEFAULT_BATCH_SIZE, NEEDS_RANGES, EncodeOptions
from sentence_transformers.inference.prompts import TASK_PROMPTS, choose_prompt, prompt_name_of_task
from sentence_transformers.inference.to_disk import Compute, EncodeReport, write_embeddings
from sentence_transformers.inference.workers import Pool, stream_through_pool, threads_of_a_worker
from sentence_transformers.inputs.collections import given_inputs
from sentence_transformers.inputs.row_streams import Id, row_stream
from sentence_transformers.tensors.precision import quantize_embeddings

DTYPES = ("float32", "float16")


@dataclass(frozen=True)
class Progress:
    """How far a call of `encode_to` is.

    Attributes:
        rows: Rows that are computed, those of earlier calls included.
        total: Rows there will be; None where only reading them would tell.
        resumed_from: Rows that were there already.
        tokens: Tokens computed in this call; None when other processes do.
    """

    rows: int
    total: int | None
    resumed_from: int
    tokens: int | None


class ToDiskMixin:
    """Encoding to disk, for a model with one vector for each input."""

    # What a model has.
    device: torch.device
    to: Callable[..., Any]
    prompts: dict[str, str]
    default_prompt_name: str | None
    truncate_dim: int | None
    max_seq_length: Any
    _check_kwargs: Callable[..., None]
    _encode_share: Callable[..., Any]
    start_multi_process_pool: Callable[..., Pool]
    stop_multi_process_pool: Callable[..., None]
    get_sentence_embedding_dimension: Callable[[], int | None]

    def encode_to(
        self,
        path: str | os.PathLike[str],
        inputs: Any = None,
        *,
        ids: Iterable[Id] | None = None,
        column: str | None = None,
        id_column: str | None = None,
        format: str | None = None,
        task: str | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        precision: str = "float32",
        ranges: np.ndarray | None = None,
        dtype: str | None = None,
        rows_per_shard: int | None = None,
        keep_texts: bool = False,
        device: str | list[str] | None = None,
        pool: Pool | None = None,
        show_progress_bar: bool | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        resume: bool = True,
        overwrite: bool = False,
        deterministic: bool = False,
        sentences: Any = None,
        **kwargs: Any,
    ) -> EncodeReport:
        """Compute embeddings and write them to disk, in bounded memory; go on after a kill.

        Rows are computed and written some thousand at a time. Whatever stops the call, be it `kill -9`, the next
        call with the same arguments goes on behind the last rows that are safely on the disk, and the files
        become byte for byte what one undisturbed call would have written. (That holds on the same kind of
        device, with the same number of threads and the same releases of this package and PyTorch. The
        first call leaves a note of these, and a later one under others warns and goes on. It does not
        hold for the last digits where memory ran out during a batch, which is then computed in halves, unless
        `deterministic`.)

        Beside the array, or in the folder, lies a small record with the settings, the progress, and a digest of
        the inputs. An output that is finished is left alone, after the inputs were read and found to be the
        same.

        Args:
            path: A `.npy` file to write, which `np.load(path, mmap_mode="r")` reads piece by piece; ids go into
                `<name>.ids.jsonl` beside it, one JSON value a line. Or a folder for Parquet shards
                `part-00000.parquet`, … with columns `id` and `embedding`. See `load_embeddings`.
            inputs: A path, as in `row_stream`: .txt (one text a line), .jsonl, .csv, .tsv, each perhaps .gz, .parquet
                or a folder of these; or any iterable, such as a list, a generator, a `Dataset`. To go on, it must
                give the same rows again from the first one on.
            ids: An id for each input, text or whole number.
            column: The column with the inputs, where they come in a table; "text" by default.
            id_column: The column with the ids.
            format: "npy" or "parquet"; None to go by the name of `path`.
            task: "query" or "document", to encode as `encode_query` or `encode_document` do; or another route.
            prompt_name: As in `encode`.
            prompt: As in `encode`.
            batch_size: As in `encode`.
            normalize_embeddings: As in `encode`.
            truncate_dim: As in `encode`.
            precision: As in `encode`; "int8" and "uint8" need `ranges`.
            ranges: Least and largest value of each dimension, (2, D), for "int8" and "uint8".
            dtype: "float32" or "float16", for the numbers in the files; None for float32.
            rows_per_shard: Rows that are computed, written and recorded together: what a kill can cost, what is
                held in memory, and in Parquet the rows of a file. (Fewer where texts are very long.) None for
                16384, and 32768 in Parquet.
            keep_texts: Write the texts too, as a column `text` (Parquet only).
            device: As in `encode`; a list starts one process for each, and each computes whole windows.
            pool: Worker processes from `start_multi_process_pool`.
            show_progress_bar: As in `encode`.
            on_progress: Called with a `Progress` at the start and after each batch, or each window where other
                processes compute.
            resume: False begins anew where an unfinished run is found.
            overwrite: Remove what is there, finished or not, and begin anew.
            deterministic: As in `encode`: each row is the same bits in whatever file and window it is computed.
            sentences: Other name of `inputs`.
            **kwargs: Handed to those modules that want them.

        Returns:
            Where the files are, how many rows they hold, and how long this call took.

        Raises:
            ValueError: If an argument or an input makes no sense, or what is on the disk was made with other settings
                or of other inputs (`SettingsDifferError`, which says which).
            FileExistsError: If there is something that this method did not write.
            OSError: If a file cannot be written. Rows that were safe stay so.
            RuntimeError: If a worker process failed, or another process writes there.
        """
        inputs = given_inputs(inputs, sentences)
        kwargs = {**kwargs, **({"task": task} if task is not None else {})}
        self._check_kwargs(kwargs, "encode_to")
        options = EncodeOptions(
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            precision=precision,
            normalize=normalize_embeddings,
            truncate_dim=truncate_dim if truncate_dim is not None else self.truncate_dim,
            deterministic=deterministic,
        )
        check_numbers(precision, ranges, dtype, rows_per_shard)
        if prompt is None and prompt_name is None and task is not None and task in TASK_PROMPTS:
            prompt_name = prompt_name_of_task(self.prompts, task)
        text_prompt = choose_prompt(
            self.prompts, default_prompt_name=self.default_prompt_name, prompt=prompt, prompt_name=prompt_name
        )
        stream = row_stream(inputs, ids=ids, column=column, id_column=id_column)
        path = Path(path)
        output = FORMATS[format_named(format, path)](path, has_ids=stream.has_ids, keep_texts=keep_texts)
        if isinstance(inputs, (str, os.PathLike)) and output.owns(Path(inputs)):
            raise ValueError(f"{inputs} would be read and written at once. Write somewhere else.")
        work = {
            "prompt": text_prompt or "",
            "batch_size": options.max_rows,
            "normalize_embeddings": options.normalize,
            "truncate_dim": options.truncate_dim,
            "deterministic": options.deterministic,
            **kwargs,
        }

        def stored(vectors: Any) -> np.ndarray:
            found = quantize_embeddings(vectors, precision, ranges)  # type: ignore[arg-type]
            return found.astype(dtype) if dtype is not None else found

        devices = list(device) if isinstance(device, (list, tuple)) else None
        if device is not None and devices is None and torch.device(device) != self.device:
            self.to(device)
        shown = wants_progress(show_progress_bar)
        total = stream.count() if shown or on_progress is not None else None
        workers = len(pool["processes"] if pool is not None else devices or ())
        meter = Meter(total, on_progress, counts_tokens=not workers)
        started = self.start_multi_process_pool(devices) if pool is None and devices is not None else None
        try:
            with progress_bar(total, shown=shown) as bar:  # type: ignore[arg-type]
                meter.bar = bar
                compute = (
                    self._through_pool(pool or started or {}, work, stored)
                    if workers
                    else self._window_by_window(work, stored, meter)
                )
                report = write_embeddings(
                    output,
                    stream,
                    compute,
                    settings={
                        "model": model_fingerprint(self),
                        "max_seq_length": self.max_seq_length,
                        "prompt": text_prompt,
                        "normalize_embeddings": options.normalize,
                        "truncate_dim": options.truncate_dim,
                        "precision": precision,
                        "ranges": None if ranges is None else digest_of(ranges),
                        "dtype": dtype or ("float32" if precision == "float32" else None),
                        "batch_size": options.max_rows,
                        "ids": stream.has_ids,
                        "keep_texts": keep_texts,
                        # Named only where asked for, so that files begun by earlier releases can be gone on with.
                        **({"deterministic": True} if options.deterministic else {}),
                        **{name: repr(value) for name, value in kwargs.items()},
                    },
                    made_with=circumstances(
                        devices or [str(self.device)],
                        threads_of_a_worker(workers) if workers else torch.get_num_threads(),
                    ),
                    empty=stored(np.zeros((2, self._width(options)), dtype=np.float32))[:0],
                    rows_per_window=rows_per_shard,
                    resume=resume,
                    overwrite=overwrite,
                    counted=meter.reach,
                )
        finally:
            if started is not None and started["processes"]:
                self.stop_multi_process_pool(started)
        return replace(report, tokens=meter.tokens)

    def _width(self, options: EncodeOptions) -> int:
        """Width of the vectors as far as it is known before one was computed."""
        known = self.get_sentence_embedding_dimension() or 0
        return min(known, options.truncate_dim or known)

    def _window_by_window(
        self, work: dict[str, Any], stored: Callable[[Any], np.ndarray], meter: Meter
    ) -> Compute:
        """Compute in this process."""

        def compute(windows: Iterator[list[Any]]) -> Generator[np.ndarray, None, None]:
            for window in windows:
                with listening(meter.advance):
                    vectors = self._encode_window(window, work)
                yield stored(vectors)

        return compute

    def _through_pool(self, pool: Pool, work: dict[str, Any], stored: Callable[[Any], np.ndarray]) -> Compute:
        """Compute in worker processes, whole windows each, as they would be computed here."""

        def compute(windows: Iterator[list[Any]]) -> Generator[np.ndarray, None, None]:
            with closing(stream_through_pool(pool, windows, {**work, "is_window": True})) as results:
                for vectors in results:
                    yield stored(vectors)

        return compute

    def _encode_window(self, inputs: Sequence[Any], work: dict[str, Any]) -> Any:
        """Encode so that the result depends on these inputs alone, and not on what was computed before."""
        with without_memory():
            return self._encode_share(inputs, work)


class Meter:
    """Counts what is done, for a bar and for whoever wants to know."""

    def __init__(
        self, total: int | None, told: Callable[[Progress], None] | None, *, counts_tokens: bool
    ) -> None:
        self.total = total
        self.told = told
        self.bar: Any = None
        self.rows = 0
        self.tokens: int | None = 0 if counts_tokens else None
        self.resumed_from: int | None = None

    def advance(self, rows: int, tokens: int) -> None:
        """Take note of a batch that was computed."""
        if self.tokens is not None:
            self.tokens += tokens
        self._at(self.rows + rows)

    def reach(self, rows: int) -> None:
        """Take note of how many rows are safe."""
        if self.resumed_from is None:
            self.resumed_from = rows
            if self.bar is not None and hasattr(self.bar, "initial"):
                self.bar.initial = rows  # so that the bar's rate is that of this call
        self._at(max(rows, self.rows))

    def _at(self, rows: int) -> None:
        self.bar.update(rows - self.rows)
        self.rows = rows
        if self.told is not None:
            self.told(Progress(rows, self.total, self.resumed_from or 0, self.tokens))


def check_numbers(precision: str, ranges: Any, dtype: str | None, rows_per_shard: Any) -> None:
    """Raise `ValueError` unless these can be written a window at a time."""
    if precision in NEEDS_RANGES and ranges is None:
        raise ValueError(
            f"precision={precision!r} needs the range of each dimension, and not all rows are known beforehand. Pass "
            "ranges, (2, D), taken from a sample: np.stack([sample.min(axis=0), sample.max(axis=0)])."
        )
    if ranges is not None and precision not in NEEDS_RANGES:
        raise ValueError(f"ranges belong to the precisions int8 and uint8, not to {precision!r}.")
    if dtype is not None and (dtype not in DTYPES or precision != "float32"):
        raise ValueError(
            f"dtype={dtype!r} with precision={precision!r} cannot be written. Pass one of {', '.join(DTYPES)} with "
            "precision='float32', or None."
        )
    if rows_per_shard is not None and (
        isinstance(rows_per_shard, bool) or not isinstance(rows_per_shard, int) or rows_per_shard < 1
    ):
        raise ValueError(f"rows_per_shard={rows_per_shard!r} writes nothing. Pass 1 or more, or None.")


def digest_of(values: Any) -> str:
    """A short text that differs between arrays."""
    return hashlib.blake2b(
        np.ascontiguousarray(values, dtype=np.float64).tobytes(), digest_size=8
    ).hexdigest()


def circumstances(devices: Sequence[str], threads: int) -> dict[str, Any]:
    """What may change the last digits of a result; on devices other than the CPU its threads do not count."""
    kinds = sorted({torch.device(device).type for device in devices})
    return {"device": kinds, **({"threads": threads} if "cpu" in kinds else {}), **installed_versions()}
