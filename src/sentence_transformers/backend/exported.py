"""A transformer that has been exported as a graph, and is run by something else than torch.

What the backends share: the configuration beside the graph, which inputs the graph wants and which output is
the result, and that all of this looks enough like a transformers model for those who ask one for its
configuration or call it. How a graph is run stands in `onnx_model.py` and `openvino_model.py`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import Self

from sentence_transformers.backend.graph_files import FORMATS, GraphFormat, copy_graph
from sentence_transformers.storage.folder import read_json, write_json

RESULTS: dict[str, tuple[str, ...]] = {
    "feature-extraction": ("last_hidden_state", "token_embeddings"),
    "sequence-classification": ("logits",),
    "fill-mask": ("logits",),
}
"""What a graph's result is called for each task; the first name is the one we write."""


class GraphOutputs(dict[str, Tensor]):
    """What a graph gave, by name; also as attributes, and by number in the order of the graph."""

    def __getattr__(self, name: str) -> Tensor:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"The graph gives no {name!r}, but {', '.join(self)}.") from None

    def __getitem__(self, which: Any) -> Tensor:
        return list(self.values())[which] if isinstance(which, int) else super().__getitem__(which)


class ExportedModel(nn.Module):
    """A graph in place of a transformers model; it has no parameters that torch could see, move or train.

    Args:
        graph: The file.
        settings: Contents of the model's `config.json`.
        task: What it was exported for, a key of `RESULTS`.
        name: Where the model came from.
        keeps: Held as long as the model: what takes a temporary folder away in which the graph lies.
    """

    backend: ClassVar[str]

    def __init__(
        self, graph: Path, settings: Mapping[str, Any], *, task: str, name: str, keeps: Any = None
    ) -> None:
        super().__init__()
        self.graph = Path(graph)
        self.settings = dict(settings)
        self.task = task
        self.name_or_path = name
        self.config: Any = light_config(settings)
        self.training = False
        self._keeps = keeps
        self._lock = threading.Lock()
        self._open()
        self._input_types = self._read_input_types()
        self._result = result_named(self._output_names(), task, self.graph)

    # -- what a backend does -----------------------------------------------------------------------------

    def _open(self) -> None:
        """Make ready to compute."""
        raise NotImplementedError

    def _read_input_types(self) -> dict[str, np.dtype]:
        """What the graph wants to be given: name and type of each input."""
        raise NotImplementedError

    def _output_names(self) -> list[str]:
        raise NotImplementedError

    def _compute(self, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Run the graph; safe to call from several threads at once."""
        raise NotImplementedError

    # -- what a transformers model does ------------------------------------------------------------------

    @property
    def class_name(self) -> str:
        """Name of the transformers class this was exported from, as far as it is known."""
        return str((self.settings.get("architectures") or [type(self).__name__])[0])

    @property
    def base_model(self) -> Self:
        """The model itself: what its head stands on cannot be had apart."""
        return self

    @property
    def device(self) -> torch.device:
        """Where results are."""
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """Type of the results."""
        return torch.float32

    def forward(self, **features: Any) -> GraphOutputs:
        """Run the graph.

        Args:
            **features: `input_ids` and `attention_mask` (B, T), and what else the graph may want; entries that it
                does not know are left out.

        Returns:
            All that the graph gives, `last_hidden_state` (B, T, D) or `logits`, on the device of `input_ids`.
        """
        ids = features["input_ids"]
        outputs = self._compute(self._arrays(features, ids))
        return GraphOutputs(
            (name, torch.from_numpy(np.asarray(value)).to(ids.device))
            for name, value in zip(self._output_names(), outputs)
        )

    def result(self, features: Mapping[str, Any]) -> Tensor:
        """The one output that the task is about, in float32."""
        return self.forward(**features)[self._result].float()

    def _arrays(self, features: Mapping[str, Any], ids: Tensor) -> dict[str, np.ndarray]:
        """The inputs that the graph wants; token types and positions where nobody gave them."""
        arrays = {}
        for name, kind in self._input_types.items():
            value = features.get(name)
            if value is None:
                value = missing_input(name, ids, self.graph)
            arrays[name] = np.ascontiguousarray(value.detach().cpu().numpy().astype(kind, copy=False))
        return arrays

    def train(self, mode: bool = True) -> Self:
        """Only evaluation is possible.

        Raises:
            ValueError: If `mode` is true.
        """
        if mode:
            raise ValueError(untrainable(self.backend))
        return super().train(False)

    def with_real_config(self) -> Self:
        """The same model, whose `config` is transformers' own from now on, if transformers knows the architecture."""
        if isinstance(self.config, SimpleNamespace):
            from transformers import AutoConfig

            settings = json.loads(json.dumps(self.settings))
            kind = settings.pop("model_type")
            try:
                config = AutoConfig.for_model(kind, **settings)
            except ValueError:  # a class that comes with the model, whose code a graph does not need
                return self
            config._name_or_path = self.name_or_path
            self.config = config
        return self

    # -- files -------------------------------------------------------------------------------------------

    @property
    def format(self) -> GraphFormat:
        return FORMATS[self.backend]

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the configuration and the graph, under the name it was loaded from."""
        write_json(Path(folder) / "config.json", self.settings)
        copy_graph(self.graph, self.format, Path(folder))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None, "_keeps": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._lock = threading.Lock()
        self._open()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A model over the same graph, which nobody changes."""
        copied = object.__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__.update(self.__dict__)
        return copied

    def extra_repr(self) -> str:
        return f"{self.graph.name}, task={self.task!r}"


def untrainable(backend: str) -> str:
    """Why a model of this backend is not trained."""
    return (
        f"A model with backend={backend!r} is a finished graph, whose weights cannot be trained. Load it with "
        "backend='torch', train it, and export it again."
    )


def light_config(settings: Mapping[str, Any]) -> SimpleNamespace:
    """A configuration as plain values, with what is asked of every model."""
    labels = len(settings.get("id2label") or ()) or int(settings.get("num_labels") or 2)
    return SimpleNamespace(
        **{
            "pad_token_id": None,
            **settings,
            "num_labels": labels,
            "_attn_implementation": None,
            "output_hidden_states": False,
        }
    )


def read_settings(folder: Path) -> dict[str, Any]:
    """Contents of a model's `config.json`.

    Raises:
        FileNotFoundError: If there is none.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no config.json, without which its graph cannot be used.")
    return dict(read_json(path))


def result_named(names: list[str], task: str, graph: Path) -> str:
    """Which of a graph's outputs is the result of a task.

    Raises:
        ValueError: If the graph has none of the known names.
    """
    for name in RESULTS[task]:
        if name in names:
            return name
    raise ValueError(
        f"{graph} gives {', '.join(names)}, and none of that is a result for the task {task!r}, which is called "
        f"{' or '.join(RESULTS[task])}. Was the model exported for another task?"
    )


def missing_input(name: str, ids: Tensor, graph: Path) -> Tensor:
    """An input that follows from the token ids.

    Raises:
        ValueError: If it does not.
    """
    if name == "token_type_ids":
        return torch.zeros_like(ids)
    if name == "attention_mask":
        return torch.ones_like(ids)
    if name == "position_ids":
        return torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    raise ValueError(
        f"{graph} wants the input {name!r}, which texts do not give. Export the model again with save_pretrained "
        "from a model that was loaded from its weights."
    )
