"""From a torch module to an ONNX file.

The module takes and gives tensors (B, T, …) whose first two sizes are open in the file. What was written is
computed once with ONNX Runtime on other sizes and compared with torch, so that a graph in which a size got stuck
is never handed on. Nothing here knows models of this library.
"""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sentence_transformers.backend.exported import RESULTS
from sentence_transformers.backend.onnx_session import open_session

logger = logging.getLogger(__name__)

OPSET = 18
"""Version of the operators in the file: ONNX Runtime reads it from 1.14 on."""

LARGEST_FILE = 2**31 - 2**24
"""Bytes beyond which weights need a file of their own beside the graph."""

TOLERANCE = 1e-3
"""Largest difference from torch, relative to the largest value, that is put down to rounding."""


class Transformed(nn.Module):
    """A transformers model as a function of its inputs, in a fixed order, with the one result of a task."""

    def __init__(self, model: nn.Module, inputs: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.inputs = tuple(inputs)

    def forward(self, *values: Tensor) -> Tensor:
        given: dict[str, Any] = dict(zip(self.inputs, values))
        if getattr(self.model.config, "use_cache", None) is not None and takes(self.model, "use_cache"):
            given["use_cache"] = False
        return self.model(**given, return_dict=True)[0]


def export_transformer(model: Any, path: Path, *, task: str) -> None:
    """Write a transformers model as an ONNX file.

    Args:
        model: The model, with the head of its task.
        path: The file.
        task: A key of `RESULTS`; the first name there is what the graph's result is called.

    Raises:
        ImportError: If a package that exporting needs is not installed.
        RuntimeError: If torch cannot export the model, or the graph computes something else.
    """
    names = input_names(model)
    result = RESULTS[task][0]
    axes = {0: "batch"} if task == "sequence-classification" else {0: "batch", 1: "sequence"}
    with ready_to_export(model):
        export_graph(Transformed(model, names), path, examples(names, model.config), outputs={result: axes})


def input_names(model: Any) -> list[str]:
    """What a text model's graph is given, in the order every release has them."""
    names = ["input_ids", "attention_mask"]
    # Those with one type of token have a table of one row, and add it by themselves.
    if takes(model, "token_type_ids") and (getattr(model.config, "type_vocab_size", 0) or 0) > 1:
        names.append("token_type_ids")
    return names


def takes(model: nn.Module, name: str) -> bool:
    """Whether a model's forward has an argument of this name."""
    return name in inspect.signature(model.forward).parameters


def examples(names: Sequence[str], config: Any) -> list[dict[str, Tensor]]:
    """Inputs of two sizes, (2, 7) and (3, 40) or as long as the model can read, with padding in the second."""
    found: list[dict[str, Tensor]] = []
    longest = min(40, (getattr(config, "max_position_embeddings", None) or 512) - 2)
    for rows, tokens in ((2, 7), (3, longest)):
        # From the end of the vocabulary: special tokens are at its beginning.
        ids = config.vocab_size - 1 - torch.arange(rows * tokens).remainder(config.vocab_size // 2)
        kinds = {"input_ids": ids.reshape(rows, tokens)}
        kinds["attention_mask"] = torch.ones_like(kinds["input_ids"])
        if found:
            kinds["attention_mask"][0, tokens // 2 :] = 0
            padding = getattr(config, "pad_token_id", None) or 0
            kinds["input_ids"][0, tokens // 2 :] = padding
        kinds["token_type_ids"] = torch.zeros_like(kinds["input_ids"])
        found.append({name: kinds[name] for name in names})
    return found


def export_graph(
    module: nn.Module,
    path: Path,
    inputs: Sequence[Mapping[str, Tensor]],
    *,
    outputs: Mapping[str, Mapping[int, str]],
) -> None:
    """Write a module as an ONNX file.

    Args:
        module: Takes the inputs in the order of their names, and gives one tensor.
        path: The file; its folder is made if need be. Above 2 GB the weights are in a file beside it.
        inputs: The tensors to trace the module with, (B, T), by name; and others, of other sizes, with which the
            result is checked.
        outputs: Name of the result, and the names of its open axes.

    Raises:
        ImportError: If a package that exporting needs is not installed.
        RuntimeError: If torch cannot export the module, or the graph computes something else.
    """
    require("onnx")
    path.parent.mkdir(parents=True, exist_ok=True)
    module.eval()
    example = inputs[0]
    axes = {name: {0: "batch", 1: "sequence"} for name in example} | {
        name: dict(open_axes) for name, open_axes in outputs.items()
    }
    with torch.no_grad(), quiet_exporter():
        try:
            trace(module, path, example, list(outputs), axes)
            check(module, path, inputs)
        except Exception as error:  # torch and ONNX Runtime have many ways to say that a trace is no graph
            logger.debug("Tracing did not give a graph (%s); capturing the module instead.", error)
            capture(module, path, example, list(outputs))
            check(module, path, inputs)


def trace(
    module: nn.Module,
    path: Path,
    example: Mapping[str, Tensor],
    outputs: Sequence[str],
    axes: Mapping[str, Mapping[int, str]],
) -> None:
    """Write what a module does with an example: in a thirtieth of the time that `capture` takes.

    A size that the module's code looks at may get stuck in the graph, hence the check afterwards.
    """
    torch.onnx.export(
        module,
        tuple(example.values()),
        str(path),
        input_names=list(example),
        output_names=list(outputs),
        dynamic_axes=axes,
        opset_version=OPSET,
        dynamo=False,
    )
    gather_weights(path, weight_bytes(module))


def capture(module: nn.Module, path: Path, example: Mapping[str, Tensor], outputs: Sequence[str]) -> None:
    """Write a module with torch's newer exporter, which follows sizes through the module's code."""
    require("onnxscript")
    sizes = tuple({0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")} for _ in example)
    torch.onnx.export(
        Positional(module).eval(),
        tuple(example.values()),
        str(path),
        input_names=list(example),
        output_names=list(outputs),
        dynamic_shapes=(sizes,),
        opset_version=OPSET,
        dynamo=True,
        external_data=weight_bytes(module) >= LARGEST_FILE,
        verbose=False,
    )


class Positional(nn.Module):
    """A module whose inputs have no names, so that sizes can be told by place."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *values: Tensor) -> Tensor:
        return self.module(*values)


def weight_bytes(module: nn.Module) -> int:
    """Size of all weights."""
    return sum(tensor.nbytes for tensor in module.state_dict().values())


def check(module: nn.Module, path: Path, inputs: Sequence[Mapping[str, Tensor]]) -> None:
    """Compare the graph with the module it was made of.

    Raises:
        RuntimeError: If they differ by more than rounding where the attention mask says that a token counts, or
            the graph does not run.
    """
    session = open_session(path, provider="CPUExecutionProvider")
    known = {entry.name for entry in session.get_inputs()}
    for given in inputs:
        expected = module(*given.values()).float().numpy()
        try:
            computed = session.run(
                None, {name: value.numpy() for name, value in given.items() if name in known}
            )
        except Exception as error:  # ONNX Runtime has a class for each way in which a graph can be wrong
            raise RuntimeError(f"The exported graph does not run: {error}. {ADVICE}") from error
        difference = np.abs(expected - computed[0])
        if expected.ndim == 3:
            difference = difference[given["attention_mask"].numpy().astype(bool)]
        if difference.max() > TOLERANCE * max(1.0, np.abs(expected).max()):
            raise RuntimeError(
                f"The exported graph gives other results than the model, by up to {difference.max():.2g}. {ADVICE}"
            )


ADVICE = "This architecture cannot be exported as it is; use backend='torch'."


def gather_weights(path: Path, size: int) -> None:
    """Where torch wrote large weights into a file for each, put them into one beside the graph."""
    if size < LARGEST_FILE:
        return
    import onnx

    graph = onnx.load(str(path))
    scattered = {
        entry.value
        for tensor in graph.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    onnx.save(graph, str(path), save_as_external_data=True, location=f"{path.name}_data")
    for name in scattered:
        (path.parent / name).unlink(missing_ok=True)


@contextmanager
def ready_to_export(model: Any) -> Iterator[None]:
    """Within the block the model is on the CPU, in float32 and evaluation, with attention in plain operations."""
    before = getattr(model.config, "_attn_implementation", None)
    place, kind, training = model.device, model.dtype, model.training
    with ExitStack() as restored:
        if before not in (None, "eager"):
            model.set_attn_implementation("eager")
            restored.callback(model.set_attn_implementation, before)
        model.to("cpu", torch.float32).eval()
        restored.callback(model.train, training)
        restored.callback(model.to, place, kind)
        yield


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Silence what torch and transformers say to those who write exporters: none of it is the caller's to change."""
    names = ("torch.onnx", "torch.onnx._internal.exporter")
    levels = {name: logging.getLogger(name).level for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


def require(package: str) -> None:
    """Check that a package is installed which exporting needs.

    Raises:
        ImportError: If it is not.
    """
    try:
        import_module(package)
    except ImportError as error:
        raise ImportError(
            f"Exporting this model as a graph needs the package {package}: pip install 'sentence-transformers[onnx]'.",
            name=package,
        ) from error
