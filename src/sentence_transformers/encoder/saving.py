"""Write a model into a folder, and publish it on the hub.

The layout and the type names are those that every release reads. All files are written beside the folder
first and moved into it when they are complete. Nothing here knows what the parts do.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import nn

from sentence_transformers.encoder.loading import CONFIG_FILE, MODULES_FILE
from sentence_transformers.modules.parts import save_code, save_part
from sentence_transformers.storage.folder import WEIGHTS, staged, write_json, write_text
from sentence_transformers.storage.module_types import saved_type

logger = logging.getLogger(__name__)


def save_model(
    folder: str | Path,
    parts: Mapping[str, nn.Module],
    *,
    module_kwargs: Mapping[str, list[str]],
    config: dict[str, Any],
    card: str | None,
    safe_serialization: bool,
) -> None:
    """Save all parts, the listing and the settings; nothing is changed in the folder until all succeeded.

    Args:
        folder: Where to save; made if need be.
        parts: The modules by name, in order.
        module_kwargs: Arguments of `encode` that single modules want, by name.
        config: The model's settings.
        card: Text of the README; None to write none.
        safe_serialization: True for safetensors, False for PyTorch's own format.
    """
    keeps = WEIGHTS if any(is_graph_of(part, Path(folder)) for part in parts.values()) else ()
    with staged(folder, keeps=keeps) as root:
        listing = []
        for number, (name, part) in enumerate(parts.items()):
            if not hasattr(part, "save"):
                raise ValueError(
                    f"Part {number} ({type(part).__name__}) cannot be saved: it has no method save(output_path)."
                )
            in_root = number == 0 and getattr(part, "save_in_root", False)
            kind = getattr(part, "saved_class_name", type(part).__name__)
            path = "" if in_root else f"{number}_{kind}"
            place = root / path
            place.mkdir(parents=True, exist_ok=True)
            save_part(part, place, safe_serialization=safe_serialization)
            save_code(part, root)
            entry: dict[str, Any] = {"idx": number, "name": name, "path": path, "type": saved_type(part)}
            if module_kwargs.get(name):
                entry["kwargs"] = list(module_kwargs[name])
            listing.append(entry)
        write_json(root / MODULES_FILE, listing)
        write_json(root / CONFIG_FILE, config)
        if card is not None:
            write_text(root / "README.md", card)


def is_graph_of(part: nn.Module, folder: Path) -> bool:
    """Whether a part is the graph of the very model that lies in a folder, whose weights it goes beside."""
    source = getattr(part, "graph_source", None)
    return source is not None and folder.is_dir() and Path(source).resolve() == folder.resolve()


def installed_versions() -> dict[str, str]:
    """Versions to note in a saved model, by the names every release uses."""
    names = {
        "sentence_transformers": "sentence-transformers",
        "transformers": "transformers",
        "pytorch": "torch",
    }
    versions = {}
    for key, distribution in names.items():
        try:
            versions[key] = version(distribution)
        except PackageNotFoundError:
            continue
    return versions


def publish(
    model: Any,
    repo_id: str,
    *,
    token: str | None,
    private: bool | None,
    safe_serialization: bool,
    commit_message: str | None,
    local_model_path: str | None,
    exist_ok: bool,
    replace_model_card: bool,
    train_datasets: list[str] | None,
    revision: str | None,
    create_pr: bool,
) -> str:
    """Upload a model (or the folder it was saved into) to a hub repository and return the address of the commit or pull request."""
    import tempfile

    from huggingface_hub import HfApi

    hub = HfApi(token=token)
    address = hub.create_repo(
        repo_id=repo_id, private=private, repo_type=None, exist_ok=exist_ok or create_pr
    )
    repo_id = address.repo_id
    card_data = getattr(model, "model_card_data", None)
    if card_data is not None and hasattr(card_data, "set_model_id"):
        card_data.set_model_id(repo_id)
    if revision is not None:
        hub.create_branch(repo_id=repo_id, branch=revision, exist_ok=True)
    if commit_message is None:
        commit_message = f"Add new {type(model).__name__} model"

    def upload(folder: str) -> str:
        commit = hub.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            commit_message=commit_message,
            revision=revision,
            create_pr=create_pr,
        )
        return str(commit.pr_url) if create_pr else commit.commit_url

    if local_model_path:
        return upload(local_model_path)
    with tempfile.TemporaryDirectory() as folder:
        keeps_card = not replace_model_card and hub.file_exists(repo_id, "README.md", revision=revision)
        model.save_pretrained(
            folder,
            model_name=repo_id,
            create_model_card=not keeps_card,
            train_datasets=train_datasets,
            safe_serialization=safe_serialization,
        )
        return upload(folder)
