"""Ways to run one model: in other number types, in eight bits, or as a graph.

`WAYS` is the list of what exists. Each makes a new model of one in float32, which is left as it is, or says why it
cannot be had here. How fast and how exact a way is, `optimizing.py` finds out.
"""

from __future__ import annotations

import copy
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sentence_transformers.backend.exported import RESULTS, ExportedModel
from sentence_transformers.backend.graph_files import FORMATS
from sentence_transformers.backend.onnx_optimize import (
    INSTRUCTIONS,
    LEVELS,
    optimize_graph,
)
from sentence_transformers.backend.onnx_optimize import quantize_graph as quantize_onnx
from sentence_transformers.backend.openvino_quantize import import_nncf
from sentence_transformers.backend.openvino_quantize import quantize_graph as quantize_openvino
from sentence_transformers.backend.untouched import every_module
from sentence_transformers.modules.transformer.compiled import CompiledForward, check_compiler
from sentence_transformers.modules.transformer.exported import TemporaryFolder, model_class, write_graph
from sentence_transformers.modules.transformer.module import Transformer
from sentence_transformers.tensors.int8_products import kernel_limit

CALIBRATION_TEXTS = 300
"""Texts on which a graph's states are looked at before they are rounded."""

ONNX_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class NotHereError(Exception):
    """A way cannot be had with this model, on this machine or in this installation; the message says why."""


class Workshop:
    """What ways are made of.

    Args:
        model: A model in float32 on the device it is to run on; it is left as it is.
        device: That device.
        texts: What the model will read.
        prompt: Put in front of each text.
    """

    def __init__(self, model: Any, device: torch.device, texts: Sequence[Any], prompt: str | None) -> None:
        self.model = model
        self.device = device
        self.texts = texts
        self.prompt = prompt
        self._with_graphs: dict[str, Any] = {}

    def copied(self) -> Any:
        """A copy of the model, with weights of its own."""
        return copy.deepcopy(self.model)

    def with_graphs(self, backend: str) -> Any:
        """The model with graphs of a backend in place of its transformers, made once; leave it as it is."""
        if backend not in self._with_graphs:
            model = self.copied()
            for part in transformers_in(model):
                if part.transformer_task not in RESULTS:
                    raise NotHereError(f"A transformer for {part.transformer_task!r} has no graph.")
                place = TemporaryFolder()
                graph = place.path / FORMATS[backend].usual_name
                inner = part.auto_model.cpu()
                write_graph(inner, graph, FORMATS[backend], part.transformer_task)
                settings, name = inner.config.to_dict(), inner.name_or_path
                replace(part, self._open(backend, graph, settings, part.transformer_task, name, place))
            model.backend, model._target_device = backend, self.device
            model.clear_placement_cache()  # which was for its transformers
            self._with_graphs[backend] = model
        return self._with_graphs[backend]

    def with_changed_graphs(
        self, backend: str, suffix: str, change: Callable[[Any, ExportedModel, Path], None]
    ) -> Any:
        """The model with graphs that are made of the usual ones.

        Args:
            backend: "onnx" or "openvino".
            suffix: What the files' names have more than the usual one.
            change: Called with the model, a graph in it, and where to write the new one.
        """
        usual = self.with_graphs(backend)
        model = copy.deepcopy(usual)
        for part in transformers_in(model):
            graph = part.held_model
            place = TemporaryFolder()
            target = place.path / FORMATS[backend].named(suffix)
            change(usual, graph, target)
            replace(part, self._open(backend, target, graph.settings, graph.task, graph.name_or_path, place))
        model.clear_placement_cache()
        return model

    def features(self, model: Any) -> list[dict[str, Any]]:
        """What a model reads of some of the texts, each by itself."""
        chosen = spread(self.texts, CALIBRATION_TEXTS)
        return [model.preprocess([text], prompt=self.prompt) for text in chosen]

    def _open(
        self, backend: str, graph: Path, settings: Mapping[str, Any], task: str, name: str, keeps: Any
    ) -> ExportedModel:
        running = {"provider": ONNX_PROVIDERS[self.device.type]} if backend == "onnx" else {}
        return model_class(backend)(graph, settings, task=task, name=name, keeps=keeps, **running)


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to run a model."""

    make: Callable[[Workshop], Any]
    """Gives a new model; raises whatever stands in the way."""

    check: Callable[[torch.device], None] = lambda device: None
    """Raises `NotHereError` or `ImportError` if the way cannot be had on a device."""

    targets: tuple[str, ...] = ("cpu", "gpu")
    """Where the way is tried without being named."""

    load_options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the constructor that opens such a model, once it is saved, the same way."""


def transformers_in(model: Any) -> list[Transformer]:
    """The transformers of a model.

    Raises:
        NotHereError: If it has none.
    """
    parts = [part for part in every_module(model) if isinstance(part, Transformer)]
    if not parts:
        raise NotHereError("The model has no transformer.")
    return parts


def replace(part: Transformer, graph: ExportedModel) -> None:
    """Put a graph in place of a part's transformers model."""
    part._modules["auto_model"] = graph
    part.backend = graph.backend


def spread(items: Sequence[Any], count: int) -> list[Any]:
    """So many of some items, from the first to the last at equal distances; all if there are no more."""
    if len(items) <= count:
        return list(items)
    return [items[number * len(items) // count] for number in range(count)]


def compile_transformers(model: Any, options: Mapping[str, Any]) -> None:
    """Let torch compile the transformers of a model.

    Args:
        model: The model, which is changed.
        options: For `torch.compile`.

    Raises:
        ValueError: If there are none to compile.
        RuntimeError: If there is no C++ compiler, which torch needs on a CPU.
    """
    parts = [part for part in every_module(model) if isinstance(part, Transformer)]
    if not parts or any(
        isinstance(part.held_model, ExportedModel) or part.transformer_task not in RESULTS for part in parts
    ):
        raise ValueError(
            "There is nothing to compile: the model needs a transformer with backend='torch' that gives embeddings or "
            "the scores of a head."
        )
    if options.get("backend", "inductor") == "inductor":
        check_compiler(model.device)
    for part in parts:
        part.compiled = CompiledForward(options)


# -- what a device can do ----------------------------------------------------------------------------------


def check_bfloat16(device: torch.device) -> None:
    if device.type == "cpu" and not oneDNN_computes("bf16"):
        raise NotHereError("This processor has no instructions for bfloat16.")
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise NotHereError("This GPU has no instructions for bfloat16.")


def check_float16(device: torch.device) -> None:
    if device.type == "cpu" and not oneDNN_computes("fp16"):
        raise NotHereError("This processor has no instructions for float16.")


def oneDNN_computes(kind: str) -> bool:
    """Whether PyTorch's library for CPUs multiplies matrices of a type ("bf16" or "fp16") on this processor."""
    return torch.backends.mkldnn.is_available() and bool(
        getattr(torch.ops.mkldnn, f"_is_mkldnn_{kind}_supported")()
    )


def check_int8(device: torch.device) -> None:
    if kernel_limit() is None:
        raise NotHereError("This PyTorch has no kernel for eight bits on this processor.")


def check_onnx(device: torch.device) -> None:
    from sentence_transformers.backend.onnx_session import import_onnxruntime

    runtime = import_onnxruntime()
    provider = ONNX_PROVIDERS.get(device.type)
    if provider not in runtime.get_available_providers():
        raise NotHereError(
            f"The installed ONNX Runtime computes on no {device.type} device; for CUDA: pip install onnxruntime-gpu."
        )
    import_optional("onnx", "onnx")
    import_optional("onnxscript", "onnx")


def check_openvino(device: torch.device) -> None:
    from sentence_transformers.backend.openvino_model import import_openvino

    import_openvino()
    import_optional("onnx", "openvino")
    import_optional("onnxscript", "openvino")


def check_openvino_int8(device: torch.device) -> None:
    check_openvino(device)
    import_nncf()


def import_optional(package: str, extra: str) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise NotHereError(f"Making a graph needs {package}: pip install 'sentence-transformers[{extra}]'.")


def instructions() -> str:
    """Which kind of eight-bit graph is made for this processor, a key of `INSTRUCTIONS`."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return "arm64"
    capability = torch.backends.cpu.get_cpu_capability()
    if "AVX512" not in capability:
        return "avx2"
    return "avx512_vnni" if torch.cpu._is_vnni_supported() else "avx512"


# -- how each is made --------------------------------------------------------------------------------------


def converted(workshop: Workshop, *, dtype: torch.dtype) -> Any:
    """The model with its transformers in another number type, as when it is loaded with that `dtype`."""
    model = workshop.copied()
    for part in transformers_in(model):
        part.held_model.to(dtype)
    return model


def quantized(workshop: Workshop) -> Any:
    return workshop.copied().quantize("int8")


def compiled(workshop: Workshop) -> Any:
    model = workshop.copied()
    # Single texts on a GPU wait for the start of each operation, of which CUDA graphs make one.
    compile_transformers(model, {"mode": "reduce-overhead"} if workshop.device.type == "cuda" else {})
    return model


def as_graph(workshop: Workshop, *, backend: str) -> Any:
    return copy.deepcopy(workshop.with_graphs(backend))


def as_optimized_graph(workshop: Workshop, *, level: str) -> Any:
    return workshop.with_changed_graphs(
        "onnx",
        level,
        lambda model, graph, target: optimize_graph(graph.graph, target, LEVELS[level], graph.settings),
    )


def as_int8_onnx(workshop: Workshop) -> Any:
    suffix, chosen = INSTRUCTIONS[instructions()]
    return workshop.with_changed_graphs(
        "onnx", suffix, lambda model, graph, target: quantize_onnx(graph.graph, target, chosen)
    )


def as_int8_openvino(workshop: Workshop) -> Any:
    return workshop.with_changed_graphs(
        "openvino",
        "qint8_quantized",
        lambda model, graph, target: quantize_openvino(graph, target, workshop.features(model)),
    )


REFERENCE = "float32"
"""The way that all others are compared with."""

ONNX_OPTIONS = {"backend": "onnx"}
OPENVINO_OPTIONS = {"backend": "openvino"}

WAYS: Mapping[str, Way] = {
    REFERENCE: Way(make=Workshop.copied),
    "float16": Way(
        make=partial(converted, dtype=torch.float16),
        check=check_float16,
        load_options={"model_kwargs": {"dtype": "float16"}},
    ),
    "bfloat16": Way(
        make=partial(converted, dtype=torch.bfloat16),
        check=check_bfloat16,
        load_options={"model_kwargs": {"dtype": "bfloat16"}},
    ),
    "int8": Way(make=quantized, check=check_int8, targets=("cpu",)),
    "compiled": Way(make=compiled, targets=("gpu",)),
    "onnx": Way(make=partial(as_graph, backend="onnx"), check=check_onnx, load_options=ONNX_OPTIONS),
    "onnx-O3": Way(make=partial(as_optimized_graph, level="O3"), check=check_onnx, load_options=ONNX_OPTIONS),
    "onnx-O4": Way(
        make=partial(as_optimized_graph, level="O4"),
        check=check_onnx,
        targets=("gpu",),
        load_options=ONNX_OPTIONS,
    ),
    "onnx-int8": Way(make=as_int8_onnx, check=check_onnx, targets=("cpu",), load_options=ONNX_OPTIONS),
    "openvino": Way(
        make=partial(as_graph, backend="openvino"),
        check=check_openvino,
        targets=("cpu",),
        load_options=OPENVINO_OPTIONS,
    ),
    "openvino-int8": Way(
        make=as_int8_openvino,
        check=check_openvino_int8,
        targets=("cpu",),
        load_options=OPENVINO_OPTIONS,
    ),
}
"""All ways, by the names that `optimize` takes and prints."""
