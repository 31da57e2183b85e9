"""Run a transformer with ONNX Runtime.

A session computes with as many threads as torch does. Nothing here knows how the graph was made.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from sentence_transformers.backend.exported import ExportedModel
from sentence_transformers.backend.onnx_session import open_session

NUMPY_TYPES = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(bool)": np.bool_,
}


class OnnxModel(ExportedModel):
    """A graph that ONNX Runtime computes.

    Args:
        graph: The file.
        settings: Contents of the model's `config.json`.
        provider: What computes, such as "CUDAExecutionProvider"; None for the fastest of those installed that
            need no settings.
        provider_options: Settings of the provider.
        session_options: An `onnxruntime.SessionOptions`; None for one with torch's number of threads.
        **facts: As for `ExportedModel`.

    Raises:
        ImportError: If ONNX Runtime is not installed.
        ValueError: If the provider is not, or the file is damaged.
    """

    backend: ClassVar[str] = "onnx"

    def __init__(
        self,
        graph: Path,
        settings: Mapping[str, Any],
        *,
        provider: str | None = None,
        provider_options: Any = None,
        session_options: Any = None,
        **facts: Any,
    ) -> None:
        self.__dict__.update(
            provider=provider, provider_options=provider_options, _session_options=session_options
        )
        super().__init__(graph, settings, **facts)

    @property
    def session(self) -> Any:
        """The `onnxruntime.InferenceSession`; a new one when torch's number of threads has changed."""
        return self._opened_now()

    model = session

    def _open(self) -> None:
        threads = torch.get_num_threads()
        self._opened = self._session(threads)
        self._threads = threads

    def _open_for_one(self) -> Any:
        return self._session(1)

    def _session(self, threads: int) -> Any:
        return open_session(
            self.graph,
            provider=self.provider,
            provider_options=self.provider_options,
            session_options=self._session_options,
            threads=threads,
        )

    @property
    def _follows_torch(self) -> bool:
        return self._session_options is None

    _may_be_opened_twice = _follows_torch

    @property
    def _is_on_cpu(self) -> bool:
        return self._opened.get_providers()[0] == "CPUExecutionProvider"

    def _read_input_types(self) -> dict[str, np.dtype]:
        return {entry.name: np.dtype(NUMPY_TYPES[entry.type]) for entry in self._opened.get_inputs()}

    def _output_names(self) -> list[str]:
        return [entry.name for entry in self._opened.get_outputs()]

    def _compute(self, inputs: dict[str, np.ndarray], alone: bool = False) -> list[np.ndarray]:
        return self._opened_now(alone).run(self._outputs, inputs)

    def __getstate__(self) -> dict[str, Any]:
        # Neither can be pickled; other processes use their own number of threads.
        return {**super().__getstate__(), "_session_options": None}
