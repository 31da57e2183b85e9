"""A transformer that has been exported as a graph, and is run by something else than torch.

What the backends share: the configuration beside the graph, which inputs the graph wants and which output is
the result, who computes where several threads ask at once, and that all of this looks enough like a transformers
model for those who ask one for its configuration or call it. How a graph is run stands in `onnx_model.py` and
`openvino_model.py`.
"""

from __future__ import annotations

import json
import logging
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

logger = logging.getLogger(__name__)

RESULTS: dict[str, tuple[str, ...]] = {
    "feature-extraction": ("last_hidden_state", "token_embeddings"),
    "sequence-classification": ("logits",),
    "fill-mask": ("logits",),
}
"""What a graph's result is called for each task; the first name is the one we write."""


BATCH_TOKENS = 512
"""Tokens of a batch on one core, with padding: what its layers make of them stays in the core's cache."""

MOST_BATCH_TOKENS = 2048
"""The same where several threads compute a batch together."""

LARGEST_OPENED_TWICE = 2**30
"""Bytes of a graph that may be held twice, once for all threads and once for callers with a thread each. The
products of a larger one are long enough for threads to share them well."""


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
    embeddings: ClassVar[None] = None
    """A graph has no layers to be seen. (Said here, or torch would look for them at every call.)"""
    _threads: int
    """Threads that `_opened` computes with."""

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
        self._opened: Any = None
        self._opened_for_one: Any = None
        self._open()
        self._input_types = self._read_input_types()
        self._outputs = self._output_names()
        self._result = result_named(self._outputs, task, self.graph)
        self._result_number = self._outputs.index(self._result)
        self._is_small = self._bytes() <= LARGEST_OPENED_TWICE

    # -- what a backend does -----------------------------------------------------------------------------

    def _open(self) -> None:
        """Make ready to compute with torch's number of threads: set `_opened` and `_threads`."""
        raise NotImplementedError

    def _open_for_one(self) -> Any:
        """What `_opened` is, for callers that compute at once, each with a single thread."""
        raise NotImplementedError

    @property
    def _follows_torch(self) -> bool:
        """Whether the number of threads is torch's; not where the caller chose one."""
        raise NotImplementedError

    @property
    def _may_be_opened_twice(self) -> bool:
        """Whether the caller left it to us how several batches are computed."""
        raise NotImplementedError

    @property
    def _is_on_cpu(self) -> bool:
        raise NotImplementedError

    def _read_input_types(self) -> dict[str, np.dtype]:
        """What the graph wants to be given: name and type of each input."""
        raise NotImplementedError

    def _output_names(self) -> list[str]:
        raise NotImplementedError

    def _compute(self, inputs: dict[str, np.ndarray], alone: bool = False) -> list[np.ndarray]:
        """Run the graph; safe to call from several threads at once, and with `alone` by a single thread."""
        raise NotImplementedError

    # -- who computes ------------------------------------------------------------------------------------

    @property
    def runs_side_by_side(self) -> bool:
        """Whether several threads may compute at once, each a batch by itself.

        For that the graph is opened a second time, with weights of its own, when it is first needed.
        """
        return self._is_small and self._is_on_cpu and self._may_be_opened_twice

    @property
    def batch_tokens(self) -> int | None:
        """Tokens of a batch, with padding, with which the graph is fastest; None where it is not on the CPU."""
        if not self._is_on_cpu:
            return None
        together = 1 if self.runs_side_by_side else torch.get_num_threads()
        return min(MOST_BATCH_TOKENS, BATCH_TOKENS * together)

    def prepare_side_by_side(self) -> bool:
        """Make ready for callers that compute at once; whether that is possible."""
        if not self.runs_side_by_side:
            return False
        self._opened_now()
        return self._threads == 1 or self._for_one() is not None

    def _opened_now(self, alone: bool = False) -> Any:
        """What computes for this thread; opened anew when torch's number of threads has changed."""
        threads = 1 if alone else torch.get_num_threads()
        if threads == self._threads or not self._follows_torch:
            return self._opened
        if alone or (threads < self._threads and threading.current_thread() is not threading.main_thread()):
            # A thread with a share of torch's threads computes beside others, whose shares may differ: to open the
            # graph anew for each of them would take longer than any batch.
            only = self._for_one() if threads == 1 and self.runs_side_by_side else None
            return only or self._opened
        with self._lock:
            if threads != self._threads:
                self._open()
        return self._opened

    def _for_one(self) -> Any:
        """What computes for callers with one thread each; None where it cannot be had."""
        if self._opened_for_one is None:
            with self._lock:
                if self._opened_for_one is None:
                    try:
                        self._opened_for_one = self._open_for_one()
                    except Exception as error:
                        logger.warning("%s is computed by all threads together (%s).", self.graph, error)
                        self._is_small = False
        return self._opened_for_one

    def _bytes(self) -> int:
        """Size of the graph with its weights."""
        return sum(path.stat().st_size for path in (self.graph, *self.format.companions(self.graph)))

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
            for name, value in zip(self._outputs, outputs)
        )

    def run(self, inputs: dict[str, np.ndarray], *, alone: bool = False) -> np.ndarray:
        """The one output that the task is about, in float32, without a tensor on the way.

        Args:
            inputs: What the graph wants, in the types it wants (`input_types`).
            alone: Whether other threads compute beside this one, which is to compute with no other.
        """
        outputs = self._compute(inputs, True) if alone else self._compute(inputs)
        return np.asarray(outputs[self._result_number]).astype(np.float32, copy=False)

    @property
    def input_types(self) -> Mapping[str, np.dtype]:
        """What the graph wants to be given: name and type of each input."""
        return self._input_types

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
        return {**self.__dict__, "_lock": None, "_keeps": None, "_opened": None, "_opened_for_one": None}

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
