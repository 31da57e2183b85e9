"""Where the graph of an exported model lies in its folder, and what it is called.

Every release keeps graphs in a folder named after the backend (`onnx/model.onnx`,
`openvino/openvino_model.xml`), and finds one of another name by `file_name`. Paths only; nothing here opens a
graph.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class GraphFormat:
    """How a backend stores graphs."""

    backend: str
    """Name of the backend, and of the folder its graphs are in."""

    usual_name: str
    """File that is taken where nobody names one."""

    def companion_names(self, graph: str) -> list[str]:
        """Names of the files that may hold the weights of a graph, and lie beside it."""
        if self.backend == "openvino":
            return [f"{graph.removesuffix('.xml')}.bin"]
        return [f"{graph}_data", f"{graph}.data"]

    def companions(self, graph: Path) -> list[Path]:
        """Those of them that there are."""
        places = [graph.with_name(name) for name in self.companion_names(graph.name)]
        return [path for path in places if path.is_file()]

    def named(self, suffix: str) -> str:
        """File name of a graph that was made from the usual one."""
        name = Path(self.usual_name)
        return f"{name.stem}_{suffix}{name.suffix}"


ONNX = GraphFormat(backend="onnx", usual_name="model.onnx")
OPENVINO = GraphFormat(backend="openvino", usual_name="openvino_model.xml")

FORMATS: dict[str, GraphFormat] = {kind.backend: kind for kind in (ONNX, OPENVINO)}
"""The backends that run a graph."""


def find_graph(
    folder: Path, kind: GraphFormat, *, file_name: str | None = None, subfolder: str | None = None
) -> Path | None:
    """The graph of a model to run.

    Args:
        folder: The model's folder.
        kind: Which format it is in.
        file_name: Name of the file, also with folders in front of it; None for the usual one.
        subfolder: Folder in which to look first; None for the one named after the backend.

    Returns:
        The file; None if the folder holds no graph of this format, whatever it is called.

    Raises:
        FileNotFoundError: If there are graphs, and none of them has this name.
        ValueError: If none is named and there are several, but not the usual one.
    """
    ending = Path(kind.usual_name).suffix
    places = [folder / kind.backend if subfolder is None else folder / subfolder, folder]
    graphs = [graph for place in dict.fromkeys(places) for graph in sorted(place.glob(f"*{ending}"))]
    wanted = file_name or kind.usual_name
    for place in places:
        if (place / wanted).is_file():
            if file_name is None and len(graphs) > 1:
                logger.warning(
                    "%s holds several %s files: %s. Taking %s; for another one pass "
                    "model_kwargs={'file_name': ...}.",
                    folder,
                    kind.backend,
                    listed(graphs, folder),
                    (place / wanted).relative_to(folder).as_posix(),
                )
            return place / wanted
    if not graphs:
        return None
    if file_name is not None:
        raise FileNotFoundError(
            f"There is no {kind.backend} file {file_name!r} in {folder}. Pass one of these as "
            f"model_kwargs={{'file_name': ...}}: {listed(graphs, folder)}."
        )
    if len(graphs) > 1:
        raise ValueError(
            f"{folder} holds several {kind.backend} files and none is named {kind.usual_name}. Choose one with "
            f"model_kwargs={{'file_name': ...}}: {listed(graphs, folder)}."
        )
    return graphs[0]


def candidates(kind: GraphFormat, *, file_name: str | None = None, subfolder: str | None = None) -> list[str]:
    """Paths within a model folder at which `find_graph` looks for the file, the first that is there being taken."""
    wanted = file_name or kind.usual_name
    return [f"{kind.backend if subfolder is None else subfolder}/{wanted}", wanted]


def listed(graphs: Sequence[Path], folder: Path) -> str:
    return ", ".join(graph.relative_to(folder).as_posix() for graph in graphs)


def copy_graph(graph: Path, kind: GraphFormat, folder: Path) -> Path:
    """Copy a graph and what belongs to it into a model folder, under its own name; gives the copy."""
    place = folder / kind.backend
    place.mkdir(parents=True, exist_ok=True)
    # ONNX files name their weights file, so it keeps its name too.
    for path in (graph, *kind.companions(graph)):
        if (place / path.name).resolve() != path.resolve():
            shutil.copyfile(path, place / path.name)
    return place / graph.name
