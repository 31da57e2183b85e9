"""The transformer of a model that is run by something else than torch: its graph found, or made.

A model folder holds the graph beside the weights or instead of them. Without one, the weights are loaded and
exported into a temporary file that lives as long as the model. How a graph is written and run stands in
`backend/`.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sentence_transformers.backend.exported import RESULTS, ExportedModel, read_settings
from sentence_transformers.backend.graph_files import FORMATS, GraphFormat, candidates, find_graph
from sentence_transformers.modules.transformer.checkpoint import load_transformer
from sentence_transformers.storage.hub import find_model, load_file_path

logger = logging.getLogger(__name__)

RUNNING_OPTIONS: dict[str, tuple[str, ...]] = {
    "onnx": ("provider", "provider_options", "session_options"),
    "openvino": ("ov_config", "target_device"),
}
"""Entries of `model_kwargs` that say how a graph is run; others go to transformers if it has to be made."""

FINDING_OPTIONS = ("file_name", "subfolder", "export")
"""Entries that say which graph to take."""


def load_exported(
    name: str,
    backend: str,
    task: str,
    config_options: Mapping[str, Any],
    model_options: Mapping[str, Any],
) -> ExportedModel:
    """Load the graph of a model; without one make it, with a warning.

    Args:
        name: Folder or hub name of the model.
        backend: "onnx" or "openvino".
        task: What the transformer is for, as for `Transformer`.
        config_options: As for `load_transformer`.
        model_options: `file_name` and `subfolder` of the graph; `export`: True to make a new one in any case,
            False not to make one; the backend's own options; and what `load_transformer` takes.

    Raises:
        ImportError: If the backend is not installed.
        ValueError: If the task cannot be exported, or the graph is damaged or of another task.
        FileNotFoundError: If there is no graph of that name, or none at all and it is not to be made.
    """
    if task not in RESULTS:
        raise ValueError(
            f"A transformer for {task!r} cannot be run with backend={backend!r}, which serves "
            f"{', '.join(RESULTS)}. Use backend='torch'."
        )
    kind, opened_by = FORMATS[backend], model_class(backend)
    options = dict(model_options)
    running = {key: options.pop(key) for key in RUNNING_OPTIONS[backend] if key in options}
    finding = {key: options.pop(key) for key in FINDING_OPTIONS if key in options}
    asked = finding.pop("export", None)
    folder = local_folder(name, options)
    if not asked:
        fetch_graph(folder, kind, options, **finding)
    graph = None if asked else find_graph(folder, kind, **finding)
    if graph is not None:
        settings = {**read_settings(folder), **plain_settings(config_options)}
        return opened_by(graph, settings, task=task, name=name, **running)
    if asked is False:
        raise FileNotFoundError(
            f"{folder} holds no {backend} file. Without model_kwargs={{'export': False}} it would be made."
        )
    for key in RUNNING_OPTIONS["onnx"] + RUNNING_OPTIONS["openvino"]:
        options.pop(key, None)
    return exported_now(name, kind, task, config_options, options, running)


def exported_now(
    name: str,
    kind: GraphFormat,
    task: str,
    config_options: Mapping[str, Any],
    model_options: Mapping[str, Any],
    running: Mapping[str, Any],
) -> ExportedModel:
    """Make the graph of a model from its weights, and open it."""
    model = load_transformer(name, task, dict(config_options), dict(model_options))
    place = TemporaryFolder()
    graph = place.path / kind.usual_name
    write_graph(model, graph, kind, task)
    logger.warning(
        "%s holds no %s file; the model was exported now, and will be again each time it is loaded. Save it with "
        "model.save_pretrained(...), or model.push_to_hub(...).",
        name,
        kind.backend,
    )
    settings = model.config.to_dict()
    return model_class(kind.backend)(graph, settings, task=task, name=name, keeps=place, **running)


class TemporaryFolder:
    """A folder that goes with this object."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="sentence_transformers_"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def write_graph(model: Any, graph: Path, kind: GraphFormat, task: str) -> None:
    """Export a transformers model in the format of a backend."""
    from sentence_transformers.backend.onnx_export import export_transformer

    if kind.backend == "onnx":
        export_transformer(model, graph, task=task)
        return
    from sentence_transformers.backend.openvino_export import convert

    with tempfile.TemporaryDirectory() as between:
        export_transformer(model, Path(between) / "model.onnx", task=task)
        convert(Path(between) / "model.onnx", graph)


def model_class(backend: str) -> type[ExportedModel]:
    """What runs the graphs of a backend."""
    if backend == "onnx":
        from sentence_transformers.backend.onnx_model import OnnxModel

        return OnnxModel
    from sentence_transformers.backend.openvino_model import OpenVINOModel

    return OpenVINOModel


def local_folder(name: str, options: Mapping[str, Any]) -> Path:
    """The folder of a model that may be one on the hub."""
    if Path(name).is_dir():
        return Path(name)
    return find_model(
        name,
        token=options.get("token"),
        cache_folder=options.get("cache_dir"),
        revision=options.get("revision"),
        local_files_only=bool(options.get("local_files_only", False)),
    )


def fetch_graph(
    folder: Path,
    kind: GraphFormat,
    options: Mapping[str, Any],
    *,
    file_name: str | None = None,
    subfolder: str | None = None,
) -> None:
    """Download the graph of a model that came from the hub, where graphs are left out at first; others stay there.

    Args:
        folder: The model's folder; nothing happens unless it is a snapshot in the cache of the hub's library.
        kind: Format of the graph.
        options: May have `token` and `local_files_only`.
        file_name: As for `find_graph`.
        subfolder: The same.
    """
    snapshots, repository = folder.parent, folder.parent.parent
    if snapshots.name != "snapshots" or not repository.name.startswith("models--"):
        return
    for name in candidates(kind, file_name=file_name, subfolder=subfolder):
        where: dict[str, Any] = {
            "model_name_or_path": repository.name.removeprefix("models--").replace("--", "/"),
            "cache_folder": str(repository.parent),
            "revision": folder.name,
            "token": options.get("token"),
            "local_files_only": bool(options.get("local_files_only", False)),
        }
        if load_file_path(filename=name, **where) is not None:
            for companion in kind.companion_names(name):
                load_file_path(filename=companion, **where)
            return


def plain_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a caller's settings for the configuration that are part of it, not of how it is found."""
    found = {"cache_dir", "local_files_only", "token", "revision", "trust_remote_code", "subfolder"}
    return {key: value for key, value in options.items() if key not in found}
