"""Make a faster ONNX graph of one that there is: fused operations, half precision, int8 weights.

Both kinds of change are ONNX Runtime's own; here stands which of them a named choice asks for. The result is
written beside the graph it was made of, in a file of its own.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentence_transformers.backend.export_place import graph_of, save_or_push
from sentence_transformers.backend.graph_files import ONNX
from sentence_transformers.backend.onnx_export import quiet_exporter, require
from sentence_transformers.backend.onnx_session import import_onnxruntime


@dataclass(frozen=True, kw_only=True)
class Optimization:
    """What to change in a graph."""

    level: int
    """Of ONNX Runtime's own rewriting: 1 for what is always right, 2 for the fusions of a processor, too."""

    fuses_transformers: bool = False
    """Whether attention, layer norms and embeddings become single operations."""

    approximates_gelu: bool = False
    """Whether GELU is computed by its tanh formula, which differs by up to 5e-4."""

    half_precision: bool = False
    """Whether to compute in float16, which pays on GPUs only."""


LEVELS: Mapping[str, Optimization] = {
    "O1": Optimization(level=1),
    "O2": Optimization(level=2, fuses_transformers=True),
    "O3": Optimization(level=2, fuses_transformers=True, approximates_gelu=True),
    "O4": Optimization(level=2, fuses_transformers=True, approximates_gelu=True, half_precision=True),
}
"""The named levels."""


@dataclass(frozen=True, kw_only=True)
class DynamicQuantization:
    """How weights become int8; activations are quantised while they are computed."""

    signed_weights: bool
    """int8 rather than uint8."""

    reduces_range: bool = False
    """Whether weights use 7 bits, where the processor's sums of two products would overflow with 8."""

    per_channel: bool = True
    """Whether each output has a scale of its own."""

    operators: Sequence[str] = ("MatMul", "Attention", "Gather")
    """Which operations have int8 weights; Gather reads the embeddings of tokens."""


INSTRUCTIONS: Mapping[str, tuple[str, DynamicQuantization]] = {
    "arm64": ("qint8_arm64", DynamicQuantization(signed_weights=True)),
    "avx2": ("quint8_avx2", DynamicQuantization(signed_weights=False, reduces_range=True)),
    "avx512": ("qint8_avx512", DynamicQuantization(signed_weights=True, reduces_range=True)),
    "avx512_vnni": ("qint8_avx512_vnni", DynamicQuantization(signed_weights=True)),
}
"""The processors by name: suffix of the file, and what fits their instructions."""


def export_optimized_onnx_model(
    model: Any,
    optimization_config: Any,
    model_name_or_path: str,
    push_to_hub: bool = False,
    create_pr: bool = False,
    file_suffix: str | None = None,
) -> None:
    """Write an optimised copy of a model's ONNX graph.

    Args:
        model: A model that was loaded with `backend="onnx"`.
        optimization_config: "O1" for general simplifications; "O2" for these and fused attention, layer norms and
            embeddings; "O3" for these and an approximated GELU; "O4" for these in float16, for GPUs. Or an
            object with optimum's attributes (`optimization_level`, `enable_gelu_approximation`, `fp16`, …).
        model_name_or_path: The model's folder, or its repository with `push_to_hub`.
        push_to_hub: Upload the file instead of writing it into a folder.
        create_pr: Open a pull request instead of committing.
        file_suffix: The file is `onnx/model_<file_suffix>.onnx`; None for the name of the level, or "optimized".

    Raises:
        ValueError: If the model is not of that backend, or there is no such level.
        ImportError: If ONNX Runtime or the package onnx is not installed.

    Example:
        >>> model = SentenceTransformer("all-MiniLM-L6-v2", backend="onnx")  # doctest: +SKIP
        >>> export_optimized_onnx_model(model, "O2", "my-model")  # doctest: +SKIP
        >>> SentenceTransformer("my-model", backend="onnx", model_kwargs={"file_name": "model_O2.onnx"})  # doctest: +SKIP
    """
    exported = graph_of(model, "onnx", "export_optimized_onnx_model")
    chosen = optimization_named(optimization_config)
    level = optimization_config if isinstance(optimization_config, str) else None
    save_or_push(
        lambda path: optimize_graph(exported.graph, path, chosen, exported.settings),
        backend="onnx",
        suffix=file_suffix or level or "optimized",
        model_name_or_path=model_name_or_path,
        push_to_hub=push_to_hub,
        create_pr=create_pr,
        made_by=f"export_optimized_onnx_model(model, {level or '...'!r}, {model_name_or_path!r})",
    )


def export_dynamic_quantized_onnx_model(
    model: Any,
    quantization_config: Any,
    model_name_or_path: str,
    push_to_hub: bool = False,
    create_pr: bool = False,
    file_suffix: str | None = None,
) -> None:
    """Write a copy of a model's ONNX graph with int8 weights: a quarter of the size, and faster on CPUs.

    Args:
        model: A model that was loaded with `backend="onnx"`.
        quantization_config: The processor that will run it: "arm64", "avx2", "avx512", "avx512_vnni". Or an
            object with optimum's attributes (`weights_dtype`, `per_channel`, `reduce_range`, …).
        model_name_or_path: The model's folder, or its repository with `push_to_hub`.
        push_to_hub: Upload the file instead of writing it into a folder.
        create_pr: Open a pull request instead of committing.
        file_suffix: The file is `onnx/model_<file_suffix>.onnx`; None for the type of the weights and the name of
            the processor, as in `model_qint8_avx512_vnni.onnx`.

    Raises:
        ValueError: If the model is not of that backend, or there is no such processor.
        ImportError: If ONNX Runtime or the package onnx is not installed.
    """
    exported = graph_of(model, "onnx", "export_dynamic_quantized_onnx_model")
    suffix, chosen = quantization_named(quantization_config)
    save_or_push(
        lambda path: quantize_graph(exported.graph, path, chosen),
        backend="onnx",
        suffix=file_suffix or suffix,
        model_name_or_path=model_name_or_path,
        push_to_hub=push_to_hub,
        create_pr=create_pr,
        made_by=f"export_dynamic_quantized_onnx_model(model, {quantization_config!r}, {model_name_or_path!r})",
    )


def optimization_named(config: Any) -> Optimization:
    """What a level, or an object with optimum's attributes, asks for.

    Raises:
        ValueError: If it is neither.
    """
    if isinstance(config, Optimization):
        return config
    if hasattr(config, "optimization_level"):
        level = int(config.optimization_level)
        return Optimization(
            level=min(level, 2),
            fuses_transformers=level > 1
            and bool(getattr(config, "enable_transformers_specific_optimizations", True)),
            approximates_gelu=bool(getattr(config, "enable_gelu_approximation", False)),
            half_precision=bool(getattr(config, "fp16", False)),
        )
    if config not in LEVELS:
        raise ValueError(
            f"optimization_config={config!r} is unknown. Pass one of {', '.join(map(repr, LEVELS))}, or an "
            "OptimizationConfig."
        )
    return LEVELS[config]


def quantization_named(config: Any) -> tuple[str, DynamicQuantization]:
    """Suffix of the file, and how to quantise for a processor or an object with optimum's attributes.

    Raises:
        ValueError: If it is neither.
    """
    if isinstance(config, DynamicQuantization):
        return ("qint8" if config.signed_weights else "quint8") + "_quantized", config
    if hasattr(config, "weights_dtype"):
        if getattr(config, "is_static", False):
            raise ValueError("The QuantizationConfig asks for static quantisation. Set is_static=False.")
        signed = str(config.weights_dtype).rpartition(".")[2] == "QInt8"
        chosen = DynamicQuantization(
            signed_weights=signed,
            reduces_range=bool(getattr(config, "reduce_range", False)),
            per_channel=bool(getattr(config, "per_channel", False)),
            operators=tuple(getattr(config, "operators_to_quantize", None) or DynamicQuantization.operators),
        )
        return ("qint8" if signed else "quint8") + "_quantized", chosen
    if config not in INSTRUCTIONS:
        raise ValueError(
            f"quantization_config={config!r} is unknown. Pass one of {', '.join(map(repr, INSTRUCTIONS))}, or a "
            "QuantizationConfig."
        )
    return INSTRUCTIONS[config]


def optimize_graph(graph: Path, target: Path, chosen: Optimization, settings: Mapping[str, Any]) -> None:
    """Write an optimised copy of a graph.

    Args:
        graph: The ONNX file.
        target: Where to write.
        chosen: What to change.
        settings: Contents of the model's `config.json`, which say how many heads there are.
    """
    import_onnxruntime()
    require("onnx")
    with quiet_exporter(), quiet_runtime():
        from onnxruntime.transformers.fusion_options import FusionOptions
        from onnxruntime.transformers.optimizer import optimize_model

        options = FusionOptions("bert")
        options.enable_gelu_approximation = chosen.approximates_gelu
        optimized = optimize_model(
            str(graph),
            model_type="bert",
            num_heads=first_of(settings, "num_attention_heads", "n_heads", "num_heads"),
            hidden_size=first_of(settings, "hidden_size", "dim", "d_model"),
            optimization_options=options,
            opt_level=chosen.level,
            use_gpu=False,
            only_onnxruntime=not chosen.fuses_transformers,
        )
        if chosen.half_precision:
            optimized.convert_float_to_float16(keep_io_types=True)
        optimized.save_model_to_file(str(target), use_external_data_format=bool(ONNX.companions(graph)))


def quantize_graph(graph: Path, target: Path, chosen: DynamicQuantization) -> None:
    """Write a copy of a graph with int8 weights.

    Args:
        graph: The ONNX file, in float32.
        target: Where to write.
        chosen: How to quantise.
    """
    import_onnxruntime()
    require("onnx")
    with quiet_exporter(), quiet_runtime(), tempfile.TemporaryDirectory() as between:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        source = Path(between) / graph.name
        for path in (graph, *ONNX.companions(graph)):
            shutil.copyfile(path, source.with_name(path.name))  # the quantiser writes beside its source
        quantize_dynamic(
            str(source),
            str(target),
            op_types_to_quantize=list(chosen.operators),
            per_channel=chosen.per_channel,
            reduce_range=chosen.reduces_range,
            weight_type=QuantType.QInt8 if chosen.signed_weights else QuantType.QUInt8,
            use_external_data_format=bool(ONNX.companions(graph)),
        )


def first_of(settings: Mapping[str, Any], *names: str) -> int:
    """The first of some settings that there is; 0, which lets ONNX Runtime find out, where there is none."""
    return next((int(settings[name]) for name in names if settings.get(name)), 0)


@contextmanager
def quiet_runtime() -> Iterator[None]:
    """Silence the steps that ONNX Runtime's tools report through the root logger."""
    import logging

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
