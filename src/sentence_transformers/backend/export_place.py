"""Where a graph made from another one goes: a model folder, or a repository on the hub."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sentence_transformers.backend.exported import ExportedModel
from sentence_transformers.backend.graph_files import FORMATS
from sentence_transformers.storage.folder import replacing


def graph_of(model: Any, backend: str, function: str) -> ExportedModel:
    """The graph in a model.

    Args:
        model: A model of any kind, or its first module.
        backend: The backend it has to be of.
        function: Who asks, for the message.

    Raises:
        ValueError: If the model has no transformer, or one that is run by another backend.
    """
    found = getattr(model, "transformers_model", None) or getattr(model, "auto_model", None) or model
    if not isinstance(found, ExportedModel) or found.backend != backend:
        raise ValueError(
            f"{function} needs a model that was loaded with backend={backend!r}, and this "
            f"{type(model).__name__} has backend={getattr(model, 'backend', 'torch')!r}. Load it as "
            f"{type(model).__name__}(..., backend={backend!r})."
        )
    return found


def save_or_push(
    write: Callable[[Path], None],
    *,
    backend: str,
    suffix: str,
    model_name_or_path: str,
    push_to_hub: bool,
    create_pr: bool,
    made_by: str,
) -> None:
    """Write a graph into a model folder or a repository, in the folder of its backend.

    Args:
        write: Writes the graph to the file it is given.
        backend: "onnx" or "openvino".
        suffix: What the file's name has more than the usual one.
        model_name_or_path: The folder; the repository with `push_to_hub`.
        push_to_hub: Whether to upload.
        create_pr: Whether to open a pull request instead of committing.
        made_by: The call that made the graph, for the message of the commit.
    """
    name = FORMATS[backend].named(suffix)
    with tempfile.TemporaryDirectory() as between:
        place = Path(between) / backend
        place.mkdir()
        write(place / name)
        if push_to_hub:
            upload(
                Path(between),
                model_name_or_path,
                name=f"{backend}/{name}",
                made_by=made_by,
                create_pr=create_pr,
            )
            return
        target = Path(model_name_or_path) / backend
        target.mkdir(parents=True, exist_ok=True)
        # The weights first: a reader looks for the graph.
        for path in sorted(place.iterdir(), key=lambda path: path.name == name):
            with replacing(target / path.name) as temporary:
                shutil.copyfile(path, temporary)


def upload(folder: Path, repository: str, *, name: str, made_by: str, create_pr: bool) -> None:
    """Upload the files of a folder to a repository of the hub."""
    from huggingface_hub import HfApi

    HfApi().upload_folder(
        repo_id=repository,
        folder_path=folder,
        commit_message=f"Add {name}",
        commit_description=(
            f"Made with `{made_by}`. Load it with `model_kwargs={{'file_name': {Path(name).name!r}}}`."
        ),
        create_pr=create_pr,
    )
