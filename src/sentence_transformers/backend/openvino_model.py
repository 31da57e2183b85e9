"""Run a transformer with OpenVINO.

A compiled graph computes with as many threads as torch does, and in float32 unless asked otherwise. Nothing
here knows how the graph was made.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from sentence_transformers.backend.exported import ExportedModel
from sentence_transformers.backend.signal_stack import kept_signal_stack
from sentence_transformers.storage.folder import read_json

DECIDES_WHO_COMPUTES = frozenset(
    ("INFERENCE_NUM_THREADS", "NUM_STREAMS", "PERFORMANCE_HINT", "PERFORMANCE_HINT_NUM_REQUESTS", "AFFINITY")
)
"""Settings of OpenVINO with which it is the caller's affair how several batches are computed."""


class Requests:
    """A compiled graph with its infer requests, of which each serves one caller at a time.

    Args:
        compiled: The `openvino.CompiledModel`.
    """

    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled
        self._idle: list[Any] = []

    def infer(self, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        """All outputs, in the order of the graph."""
        try:
            request = self._idle.pop()
        except IndexError:
            request = self.compiled.create_infer_request()
        request.infer(inputs, share_inputs=True, share_outputs=True)
        # The request writes its next results over these.
        results = [np.array(tensor.data) for tensor in request.output_tensors]
        self._idle.append(request)
        return results


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
        return self._opened_now().compiled

    request = compiled_model

    def _open(self) -> None:
        try:
            self.__dict__["model"] = import_openvino().Core().read_model(self.graph)
        except RuntimeError as error:
            raise ValueError(
                f"{self.graph} is damaged, or its .bin file is missing ({error}). Export the model again."
            ) from error
        threads = torch.get_num_threads()
        self._opened = self._compiled({**self._usual_config(threads), **self.ov_config})
        self._threads = threads

    def _open_for_one(self) -> Any:
        # As many streams as threads: each serves one request by itself, and all have the same weights.
        streams = {"NUM_STREAMS": self._threads}
        return self._compiled({**self._usual_config(self._threads), **self.ov_config, **streams})

    def _compiled(self, config: dict[str, Any]) -> Requests:
        with kept_signal_stack():
            return Requests(import_openvino().Core().compile_model(self.model, self.target_device, config))

    @property
    def _follows_torch(self) -> bool:
        return "INFERENCE_NUM_THREADS" not in self.ov_config

    @property
    def _may_be_opened_twice(self) -> bool:
        return not DECIDES_WHO_COMPUTES & self.ov_config.keys()

    @property
    def _is_on_cpu(self) -> bool:
        return self.target_device == "CPU"

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

    def _compute(self, inputs: dict[str, np.ndarray], alone: bool = False) -> list[np.ndarray]:
        return self._opened_now(alone).infer(inputs)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "model": None}


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
