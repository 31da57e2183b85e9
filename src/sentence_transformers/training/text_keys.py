"""A key of 64 bits for every text of a data set.

Equal texts have equal keys, in every process; different texts have different ones but for a chance of
about one in 10^7 among a million texts, in which case a sampler keeps two rows apart that could have met.
So nobody needs to hold the texts themselves. Which texts may meet is not decided here.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Any

import numpy as np
import torch

from sentence_transformers.training.column_blocks import (
    ROWS_PER_BLOCK,
    as_stored,
    column_blocks,
    from_arrow,
)

KEY_BYTES = 8
DIGESTS = "digests"


@dataclass(frozen=True)
class TextKeys:
    """Keys of the texts of N rows."""

    keys: np.ndarray
    """Keys of all texts, row after row, int64, (texts,)."""

    starts: np.ndarray
    """Where the keys of each row start, and after them where the last row's end, int64, (N + 1,)."""

    def of_row(self, row: int) -> list[int]:
        return self.keys[self.starts[row] : self.starts[row + 1]].tolist()


def text_keys(
    dataset: Any,
    label_columns: Iterable[str] = (),
    *,
    rows_per_block: int = ROWS_PER_BLOCK,
    processes: int | None = None,
) -> TextKeys:
    """Keys of every text in every input column.

    Args:
        dataset: As in `column_blocks`.
        label_columns: Columns that hold no input.
        rows_per_block: Rows read at once.
        processes: Read a `datasets.Dataset` in as many processes; None or 1 for this one.
    """
    labels = frozenset(label_columns)
    counts, joined = [np.zeros(1, np.int64)], []
    for digests in digest_blocks(dataset, labels, rows_per_block, processes):
        counts.append(np.array([len(digest) // KEY_BYTES for digest in digests], np.int64))
        joined.append(b"".join(digests))
    return TextKeys(np.frombuffer(b"".join(joined), np.int64), np.concatenate(counts).cumsum())


def digest_blocks(
    dataset: Any, label_columns: frozenset[str], rows_per_block: int, processes: int | None
) -> Iterator[Sequence[bytes]]:
    """The joined keys of each row, in blocks of rows."""
    if processes is not None and processes > 1 and len(dataset) and hasattr(dataset, "map"):
        mapped = as_stored(dataset).map(
            partial(with_digests, label_columns=label_columns),
            batched=True,
            batch_size=rows_per_block,
            num_proc=min(processes, len(dataset)),
            remove_columns=dataset.column_names,
            keep_in_memory=True,
            load_from_cache_file=False,
            # Only a cache needs the fingerprint that would be worked out from the function.
            new_fingerprint=f"text-keys-of-{dataset._fingerprint}",
        )
        for block in column_blocks(mapped, lambda name: name == DIGESTS):
            yield block[DIGESTS]
    else:
        # All columns are read, because rows without any input count too.
        for block in column_blocks(dataset, lambda name: True, rows_per_block=rows_per_block):
            yield row_digests(block, label_columns)


def is_input(column: str, label_columns: frozenset[str]) -> bool:
    """Whether a column is one that a model reads: no label, and nothing that trainers put beside the rows."""
    return column not in label_columns and column != "dataset_name" and not column.endswith("_prompt_length")


def with_digests(block: Any, label_columns: frozenset[str]) -> dict[str, list[bytes]]:
    """`row_digests` in the form that `Dataset.map` takes."""
    columns = block if isinstance(block, Mapping) else from_arrow(block)
    return {DIGESTS: row_digests(columns, label_columns)}


def row_digests(block: Mapping[str, Sequence[Any]], label_columns: frozenset[str]) -> list[bytes]:
    """The keys of each row's texts, one after the other."""
    inputs = [values for name, values in block.items() if is_input(name, label_columns)]
    if not inputs:
        return [b""] * len(next(iter(block.values()), ()))
    return [b"".join(digest(text) for value in row for text in texts_in(value)) for row in zip(*inputs)]


def texts_in(value: Any) -> Iterable[Any]:
    """The inputs in a cell: itself, the texts of a list of texts, or none where nothing is given."""
    if value is None:
        return ()
    if isinstance(value, (list, tuple)) and all(isinstance(entry, (str, type(None))) for entry in value):
        return [entry for entry in value if entry is not None]
    return (value,)


def digest(value: Any) -> bytes:
    """The key of an input, as bytes."""
    hasher = blake2b(digest_size=KEY_BYTES)
    for part in parts_of(value):
        hasher.update(part)
    return hasher.digest()


def parts_of(value: Any) -> Iterator[bytes]:
    """Bytes that are the same for equal inputs, and differ for different ones."""
    if isinstance(value, str):
        yield value.encode("utf-8", "surrogatepass")
    elif isinstance(value, bytes):
        yield value
    elif isinstance(value, Mapping):
        # An image or a recording as it is stored: the file's name says nothing where its bytes are there.
        keys = ["bytes"] if value.get("bytes") is not None else sorted(value, key=str)
        for key in keys:
            yield f"\0{key}\0".encode()
            yield from parts_of(value[key])
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield b"\0,"
            yield from parts_of(entry)
    elif isinstance(value, (np.ndarray, torch.Tensor)):
        array = torch.as_tensor(value).detach().cpu().contiguous()
        yield f"\0{array.dtype}{tuple(array.shape)}".encode()
        yield array.flatten().view(torch.uint8).numpy().tobytes()
    elif value is None or isinstance(value, (bool, int, float, np.generic)):
        yield str(value).encode()
    elif hasattr(value, "tobytes") and hasattr(value, "mode") and hasattr(value, "size"):  # A Pillow image.
        yield f"\0{value.mode}{value.size}".encode()
        yield value.tobytes()
    else:
        yield pickle.dumps(value)
