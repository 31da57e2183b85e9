"""From an ONNX file to the files of OpenVINO. How the ONNX file is made stands in `onnx_export.py`."""

from __future__ import annotations

from pathlib import Path

from sentence_transformers.backend.openvino_model import import_openvino


def convert(graph: Path, target: Path) -> None:
    """Write an ONNX file as an `.xml` file with the weights in a `.bin` beside it.

    Args:
        graph: The ONNX file.
        target: The `.xml` file; its folder is made if need be.

    Raises:
        ImportError: If OpenVINO is not installed.
    """
    openvino = import_openvino()
    target.parent.mkdir(parents=True, exist_ok=True)
    # In float32: OpenVINO would write half precision otherwise.
    openvino.save_model(openvino.convert_model(graph), target, compress_to_fp16=False)
