"""A whole model as one ONNX graph: token ids in, finished vectors out.

Pooling, dense layers, normalisation and truncation stand in the graph behind the transformer, so that what
runs it needs neither torch nor this library: ONNX Runtime and a tokenizer do. `inference/onnx_pipeline.py` is such
a runner; `pipeline.json` beside the graph tells it, or another one, what the graph does not say.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sentence_transformers.backend.exported import ExportedModel
from sentence_transformers.backend.onnx_export import (
    Transformed,
    examples,
    export_graph,
    input_names,
    ready_to_export,
)
from sentence_transformers.storage.folder import write_json

GRAPH_NAME = "pipeline.onnx"
SETTINGS_NAME = "pipeline.json"
RESULT = "sentence_embedding"


class Pipeline(nn.Module):
    """All modules of a model, as a function of what its transformer is given.

    Args:
        transformer: The transformers model.
        parts: The modules behind the transformer.
        inputs: Names of the transformer's inputs, in order.
        truncate_dim: Leading dimensions to keep; None for all.
        normalize: Whether to scale vectors to length one at the end.
    """

    def __init__(
        self,
        transformer: nn.Module,
        parts: Sequence[nn.Module],
        inputs: Sequence[str],
        *,
        truncate_dim: int | None,
        normalize: bool,
    ) -> None:
        super().__init__()
        self.transformed = Transformed(transformer, inputs)
        self.parts = nn.ModuleList(parts)
        self.inputs = tuple(inputs)
        self.truncate_dim = truncate_dim
        self.normalize = normalize

    def forward(self, *values: Tensor) -> Tensor:
        """Vectors, (B, D)."""
        features: dict[str, Any] = dict(zip(self.inputs, values))
        features["token_embeddings"] = self.transformed(*values)
        for part in self.parts:
            features = part(features)
        vectors = features[RESULT]
        if self.truncate_dim is not None:
            vectors = vectors[:, : self.truncate_dim]
        return nn.functional.normalize(vectors, dim=-1) if self.normalize else vectors


def export_pipeline_onnx(model: Any, path: str | Path, *, normalize_embeddings: bool = False) -> Path:
    """Write a model as one ONNX graph that gives the vectors `encode` gives.

    Beside the graph, `pipeline.onnx`, stand `pipeline.json` and the tokenizer's files, so the folder is all that
    `OnnxPipeline` needs. The folder may be the model's own.

    Args:
        model: A `SentenceTransformer` with `backend="torch"` whose first module is a `Transformer` over texts.
        path: The folder.
        normalize_embeddings: Whether vectors are scaled to length one, as by that argument of `encode`.

    Returns:
        The graph's file. Its inputs are `input_ids`, `attention_mask` and, where the model reads them,
        `token_type_ids`, (B, T) int64; its result `sentence_embedding` is (B, D) float32. The model's
        `truncate_dim` is applied in it.

    Raises:
        ValueError: If the model is of another backend or kind, or reads anything but texts.
        ImportError: If the package onnx or ONNX Runtime is not installed.
        RuntimeError: If torch cannot export the model.
    """
    first, *parts = model
    transformer = getattr(first, "auto_model", None)
    if isinstance(transformer, ExportedModel):
        raise ValueError(
            f"This model has backend={transformer.backend!r}. Load it with backend='torch' to export all of it."
        )
    if transformer is None or getattr(first, "transformer_task", None) != "feature-extraction":
        raise ValueError(
            f"A pipeline starts with a Transformer that embeds texts, and this model with {type(first).__name__}."
        )
    if model.tokenizer is None or not getattr(model.tokenizer, "is_fast", False):
        raise ValueError("The pipeline tokenises with tokenizer.json, and this model's tokenizer has none.")
    pooling = next((part for part in parts if hasattr(part, "include_prompt")), None)
    if not getattr(pooling, "include_prompt", True) and any(model.prompts.values()):
        raise ValueError(
            "This model's pooling leaves the tokens of the prompt out (include_prompt=False), which are not known in "
            "a graph. Use SentenceTransformer(..., backend='onnx')."
        )
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    graph = folder / "onnx" / GRAPH_NAME
    names = input_names(transformer)
    device = transformer.device
    with ready_to_export(transformer):
        pipeline = Pipeline(
            transformer, parts, names, truncate_dim=model.truncate_dim, normalize=normalize_embeddings
        )
        try:
            export_graph(
                pipeline.to("cpu"), graph, examples(names, transformer.config), outputs={RESULT: {0: "batch"}}
            )
        finally:
            for part in parts:
                part.to(device)
    first.save_tokenizer(str(folder))
    write_json(folder / "onnx" / SETTINGS_NAME, pipeline_settings(model, first, names))
    return graph


def pipeline_settings(model: Any, first: Any, names: Sequence[str]) -> dict[str, Any]:
    """What a runner has to know beside the graph."""
    tokenizer = first.tokenizer
    return {
        "inputs": list(names),
        "max_seq_length": first.max_seq_length,
        "do_lower_case": bool(first.do_lower_case),
        "pad_token_id": tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0,
        "padding_side": tokenizer.padding_side,
        "prompts": dict(model.prompts),
        "default_prompt_name": model.default_prompt_name,
        "similarity_fn_name": str(getattr(model, "similarity_fn_name", None) or "cosine"),
    }
