"""Run a transformer with OpenVINO.

A compiled graph computes with as many threads as torch does, and in float32 unless asked otherwise. Nothing
here knows how the graph was made.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from sentence_transformers.backend.exported import ExportedModel
from sentence_transformers.backend.signal_stack import kept_signal_stack
from sentence_transformers.storage.folder import read_json


class OpenVINOModel(ExportedModel):
    """A graph that OpenVINO computes.

    Args:
        graph: The `.xml` file, with its `.bin` beside it.
        settings: Contents of the model's `config.json`.
        ov_config: Settings of OpenVINO, such as `{"INFERENCE_PRECISION_HINT": "bf16"}`, or a JSON file of them.
        target_device: OpenVINO's name of the device to compute on.
        **facts: As for `ExportedModel`.

    Raises:
        ImportError: If OpenVINO is not installed.
        ValueError: If the file is damaged.
    """

    backend: ClassVar[str] = "openvino"

    def __init__(
        self,
        graph: Path,
        settings: Mapping[str, Any],
        *,
        ov_config: Mapping[str, Any] | str | None = None,
        target_device: str = "CPU",
        **facts: Any,
    ) -> None:
        self.__dict__.update(
            ov_config=dict(read_json(ov_config) if isinstance(ov_config, str) else ov_config or {}),
            target_device=target_device,
        )
        super().__init__(graph, settings, **facts)

    @property
    def compiled_model(self) -> Any:
        """The `openvino.CompiledModel`; a new one when torch's number of threads has changed."""
        if self._threads != torch.get_num_threads():
            with self._lock:
                if self._threads != torch.get_num_threads():
                    self._open()
        return self._compiled

    request = compiled_model

    def _open(self) -> None:
        openvino = import_openvino()
        threads = torch.get_num_threads()
        config = {**self._usual_config(threads), **self.ov_config}
        try:
            self.__dict__["model"] = openvino.Core().read_model(self.graph)
        except RuntimeError as error:
            raise ValueError(
                f"{self.graph} is damaged, or its .bin file is missing ({error}). Export the model again."
            ) from error
        with kept_signal_stack():
            compiled = openvino.Core().compile_model(self.model, self.target_device, config)
        self.__dict__["_compiled"] = compiled
        self.__dict__["_threads"] = threads
        # An infer request serves one caller at a time.
        self.__dict__["_of_thread"] = threading.local()

    def _usual_config(self, threads: int) -> dict[str, Any]:
        if self.target_device != "CPU":
            return {}
        # By itself OpenVINO rounds to bfloat16 on processors that have it.
        return {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}

    def _read_input_types(self) -> dict[str, np.dtype]:
        return {
            port.get_any_name(): np.dtype(port.get_element_type().to_dtype()) for port in self.model.inputs
        }

    def _output_names(self) -> list[str]:
        return [port.get_any_name() for port in self.model.outputs]

    def _compute(self, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        compiled, own = self.compiled_model, self._of_thread
        if getattr(own, "compiled", None) is not compiled:
            own.request, own.compiled = compiled.create_infer_request(), compiled
        results = own.request.infer(inputs)
        # The request writes its next results over these.
        return [np.array(results[port]) for port in compiled.outputs]

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "model": None, "_compiled": None, "_of_thread": None}


def import_openvino() -> Any:
    """OpenVINO.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise ImportError(
            "backend='openvino' needs OpenVINO: pip install 'sentence-transformers[openvino]'.",
            name="openvino",
        ) from error
    return openvino
