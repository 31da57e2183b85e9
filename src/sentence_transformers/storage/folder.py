"""Read and write the files of a model folder.

JSON and weights, each written under a temporary name and renamed, so that a crash leaves the old file or
the new one and never half of it; and a staging folder for saves of many files. Nothing here knows what
the files mean.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

SAFETENSORS = "model.safetensors"
PICKLED = "pytorch_model.bin"

WEIGHTS = ("model*.safetensors*", "pytorch_model*.bin*")
"""Files with weights, whole or in shards."""

LEFTOVERS = (
    *WEIGHTS,
    "adapter_config.json",
    "adapter_model.*",
    "router_config.json",
    "sentence_*_config.json",
)
"""Files of a model that change what another model saved into the same folder is loaded as."""


def read_json(path: str | Path) -> Any:
    """Parse a JSON file.

    Raises:
        ValueError: If the file is not valid JSON, naming the file.
    """
    with open(path, encoding="utf-8") as handle:
        try:
            return json.load(handle)
        except ValueError as error:
            raise ValueError(f"{path} is not valid JSON ({error}). Is the model folder damaged?") from error


def write_json(path: str | Path, value: Any, *, sort_keys: bool = False) -> None:
    """Write a value as indented JSON, atomically."""
    text = json.dumps(value, indent=2, sort_keys=sort_keys, ensure_ascii=False)
    write_text(path, text + "\n")


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file, atomically; its folder is made if need be."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`, and rename it to `path` if the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def staged(folder: str | Path, *, keeps: Sequence[str] = ()) -> Iterator[Path]:
    """Give an empty folder to write into, and move its files into `folder` if the block succeeds.

    A file of the same name is replaced whole. What is left of a model saved there earlier goes, as far as a
    reader could take it for a part of the new one; other files of `folder` stay. When the block fails,
    `folder` is as it was.

    Args:
        folder: The folder; made if need be.
        keeps: Those of `LEFTOVERS` that are a part of the new model, too, and stay.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"Cannot save into {folder}: it is a file. Pass the name of a folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".saving", dir=folder.parent))
    try:
        yield staging
        places = [staging, *(path for path in staging.rglob("*") if path.is_dir())]
        new = {place.relative_to(staging): {path.name for path in place.iterdir()} for place in places}
        # mkdtemp makes folders only their owner may enter; a saved model has the usual rights.
        for source in sorted(staging.rglob("*")):
            target = folder / source.relative_to(staging)
            if source.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(source, target)
        folder.mkdir(parents=True, exist_ok=True)
        for place, written in new.items():
            remove_leftovers(folder / place, written, own_folder=place != Path("."), keeps=keeps)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def remove_leftovers(folder: Path, written: set[str], *, own_folder: bool, keeps: Sequence[str] = ()) -> None:
    """Remove files of an earlier save that a reader would prefer to, or mix with, those just written.

    Args:
        folder: The folder that was written into.
        written: Names of the files in it that are new.
        own_folder: Whether the folder belongs to one part of a model alone, as against the user's folder.
        keeps: Patterns of files that stay.
    """
    for pattern in (*LEFTOVERS, "*.json") if own_folder else LEFTOVERS:
        if pattern in keeps:
            continue
        for path in folder.glob(pattern):
            if path.name not in written and path.is_file():
                path.unlink()


def read_weights(folder: str | Path) -> dict[str, Tensor]:
    """Read the weights of a part: `model.safetensors` if it is there, else `pytorch_model.bin`.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        ValueError: If there is neither file, or the file is damaged.
    """
    folder = Path(folder)
    if (folder / SAFETENSORS).is_file():
        return read_safetensors(folder / SAFETENSORS)
    if (folder / PICKLED).is_file():
        import pickle

        import torch

        try:
            return torch.load(folder / PICKLED, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise ValueError(
                f"{folder / PICKLED} cannot be read as plain tensors ({error}). Save or download the model again."
            ) from error
    raise ValueError(f"There are no weights in {folder}: neither {SAFETENSORS} nor {PICKLED} is there.")


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read tensors by name, on the CPU.

    Raises:
        ValueError: If the file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} is damaged or incomplete ({error}). Save or download the model again."
        ) from error


def write_weights(
    state: Mapping[str, Tensor],
    folder: str | Path,
    *,
    safe_serialization: bool = True,
    tensors_of: nn.Module | None = None,
) -> None:
    """Write weights into a folder, atomically, and remove those saved earlier in the other format.

    Args:
        state: Tensors by name.
        folder: Where to write.
        safe_serialization: True for `model.safetensors`, False for `pytorch_model.bin`.
        tensors_of: The module the tensors belong to, which lets tied tensors be stored once.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if safe_serialization:
        from safetensors.torch import save_file, save_model

        with replacing(folder / SAFETENSORS) as temporary:
            if tensors_of is not None:
                save_model(tensors_of, str(temporary))
            else:
                save_file({name: tensor.contiguous() for name, tensor in state.items()}, temporary)
        (folder / PICKLED).unlink(missing_ok=True)
    else:
        import torch

        with replacing(folder / PICKLED) as temporary:
            torch.save(dict(state), temporary)
        # A reader prefers safetensors, so older weights left there would win over the new ones.
        (folder / SAFETENSORS).unlink(missing_ok=True)
