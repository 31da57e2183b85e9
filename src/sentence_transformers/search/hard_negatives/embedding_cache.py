"""Embeddings on disk, so that nothing is embedded twice, even after a crash.

What was embedded decides about the name of a file: the model's weights and settings, the prompt, and the texts
in their order. A file is written under a temporary name and renamed, and ends with a checksum; one that is
damaged counts as missing. Long collections are saved in parts as they are computed, and a run that was
interrupted goes on behind the last one. Which texts are embedded, and why, is not known here.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sentence_transformers.storage.folder import replacing

logger = logging.getLogger(__name__)

PART_ROWS = 50_000
"""Texts that are embedded before the result is saved."""

CHECKSUM_BYTES = 4

Embed = Callable[[Sequence[str]], np.ndarray]


def cached_embeddings(
    folder: str | Path, key: str, texts: Sequence[str], embed: Embed, *, part_rows: int = PART_ROWS
) -> np.ndarray:
    """Embed texts, or read what was embedded before.

    Args:
        folder: Where embeddings are kept; made if need be.
        key: Name of these embeddings, from `cache_key`.
        texts: One or more texts.
        embed: Gives one row for each text it gets.
        part_rows: Texts that are embedded before the result is saved.

    Returns:
        One row for each text, (N, D), memory-mapped and read-only.
    """
    path = Path(folder) / f"{key}.npy"
    known = read_array(path, len(texts))
    if known is not None:
        logger.info("Read the embeddings of %d texts from %s.", len(texts), path)
        return known
    parts_folder = Path(folder) / f"{key}.parts"
    parts = []
    for start in range(0, len(texts), part_rows):
        some = texts[start : start + part_rows]
        part_path = parts_folder / f"{start:09d}.npy"
        part = read_array(part_path, len(some))
        if part is None:
            write_array(part_path, [embed(some)])
            part = read_array(part_path, len(some))
        if part is None:
            raise OSError(
                f"{part_path} was written, but cannot be read. Is the disk of cache_folder full or broken?"
            )
        parts.append(part)
    write_array(path, parts)
    del parts, part
    shutil.rmtree(parts_folder)
    return np.load(path, mmap_mode="r")


def write_array(path: Path, parts: Sequence[np.ndarray]) -> None:
    """Write the rows of some arrays as one `.npy` file with a checksum behind its data."""
    shape = (sum(len(part) for part in parts), *parts[0].shape[1:])
    header = {"descr": np.lib.format.dtype_to_descr(parts[0].dtype), "fortran_order": False, "shape": shape}
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        checksum = 0
        for part in parts:
            for start in range(0, len(part), PART_ROWS):
                data = np.ascontiguousarray(part[start : start + PART_ROWS]).data.cast("B")
                file.write(data)
                checksum = zlib.crc32(data, checksum)
        file.write(checksum.to_bytes(CHECKSUM_BYTES, "little"))


def read_array(path: Path, count: int) -> np.ndarray | None:
    """The array in a file, memory-mapped; None if there is none with this many rows, or it is damaged."""
    if not path.exists():
        return None
    try:
        array = np.load(path, mmap_mode="r")
    except (ValueError, OSError, EOFError):
        array = None
    if array is None or len(array) != count or checksum_of(array) != stored_checksum(path):
        logger.warning("The embeddings in %s are damaged and are computed again.", path)
        return None
    return array


def checksum_of(array: np.ndarray) -> int:
    checksum = 0
    for start in range(0, len(array), PART_ROWS):
        checksum = zlib.crc32(np.ascontiguousarray(array[start : start + PART_ROWS]).data.cast("B"), checksum)
    return checksum


def stored_checksum(path: Path) -> int:
    with open(path, "rb") as file:
        file.seek(-CHECKSUM_BYTES, 2)
        return int.from_bytes(file.read(), "little")


def cache_key(model: nn.Module, encoding: dict[str, Any], texts: Iterable[str]) -> str:
    """A name for the embeddings of texts, another one whenever they could differ.

    Args:
        model: The model; its weights count, so that one that is trained on gets a new name.
        encoding: How texts are encoded: method, prompts and the like.
        texts: The texts.
    """
    digest = hashlib.blake2b(digest_size=20)
    digest.update(json.dumps([settings_of(model), encoding], sort_keys=True, default=str).encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(bytes_of(value))
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def settings_of(model: nn.Module) -> list[Any]:
    """What beside the weights decides about embeddings."""
    return [
        [type(model).__name__, getattr(model, "truncate_dim", None), getattr(model, "max_seq_length", None)],
        [
            [type(part).__name__, part.get_config_dict()]
            for part in model.children()
            if hasattr(part, "get_config_dict")
        ],
    ]


def bytes_of(value: Any) -> Any:
    """The bytes of an entry of a state dictionary."""
    if not isinstance(value, Tensor):
        return repr(value).encode()
    return (
        f"{value.dtype}{tuple(value.shape)}".encode()
        + value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    )
