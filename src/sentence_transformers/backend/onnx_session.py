"""Open an ONNX graph with ONNX Runtime. Nothing here imports torch, or knows what the graph computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def open_session(
    graph: Path,
    *,
    provider: str | None = None,
    provider_options: Any = None,
    session_options: Any = None,
    threads: int | None = None,
) -> Any:
    """Open a graph with ONNX Runtime.

    Args:
        graph: The file.
        provider: Name of the execution provider; None for CUDA's where it works, else the CPU's.
        provider_options: Settings of the provider: a dictionary, or a list with one.
        session_options: An `onnxruntime.SessionOptions`, which is used as it is.
        threads: Threads within an operation, without session options.

    Raises:
        ImportError: If ONNX Runtime is not installed.
        ValueError: If the provider is not available, or the file is damaged.
    """
    runtime = import_onnxruntime()
    available = runtime.get_available_providers()
    if provider is None:
        provider = next((name for name in PREFERRED if name in available), available[-1])
    elif provider not in available:
        raise ValueError(
            f"The provider {provider!r} is not in the installed ONNX Runtime, which has {', '.join(available)}."
        )
    options = session_options
    if options is None:
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # errors; what it warns about is in the graph, and nobody's to change
        if threads is not None:
            options.intra_op_num_threads = threads
    given = [provider_options] if isinstance(provider_options, Mapping) else provider_options
    try:
        return runtime.InferenceSession(
            str(graph), sess_options=options, providers=[provider], provider_options=given
        )
    except damage_errors(runtime) as error:
        raise ValueError(
            f"{graph} is damaged, incomplete, or newer than the installed ONNX Runtime ({error}). Export the "
            "model again."
        ) from error


PREFERRED: Sequence[str] = ("CUDAExecutionProvider", "CPUExecutionProvider")
"""Providers that are taken by themselves, the first of them that there is."""


def damage_errors(runtime: Any) -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises for a file that it cannot read."""
    names = ("InvalidProtobuf", "InvalidGraph", "Fail", "NoSuchFile")
    return tuple(getattr(runtime.capi.onnxruntime_pybind11_state, name) for name in names)


def import_onnxruntime() -> Any:
    """ONNX Runtime.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            "backend='onnx' needs ONNX Runtime: pip install 'sentence-transformers[onnx]'.",
            name="onnxruntime",
        ) from error
    return onnxruntime
