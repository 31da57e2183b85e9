"""Rows of token ids through a graph, without a tensor before it and with few steps behind it.

A single text takes a graph a few milliseconds, and everything around it counts: so the arrays that the graph wants
are made of the rows at once, and the usual modules behind it (the mean of the tokens or the first of them, length
one) are computed here. Other modules get the features they always get.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from sentence_transformers.backend.exported import ExportedModel
from sentence_transformers.backend.untouched import has_hooks
from sentence_transformers.inference.lanes import is_lane
from sentence_transformers.inference.tokens import RowSource, Source
from sentence_transformers.inputs.rows import TokenRows
from sentence_transformers.modules.normalize import Normalize
from sentence_transformers.modules.pooling import Pooling
from sentence_transformers.modules.transformer.module import Transformer
from sentence_transformers.modules.transformer.text import with_extras

MOST_GRAPH_LANES = 64
"""Batches at once: a graph keeps Python only for a moment, so many do not wait for each other."""

FROM_ROWS = frozenset(("input_ids", "attention_mask", "token_type_ids", "position_ids"))
"""Inputs of a graph that follow from the rows."""

SMALLEST_NORM = 1e-12
"""What vectors are divided by at least when they are scaled to length one."""

Finish = Callable[[np.ndarray, np.ndarray, list[int]], np.ndarray]
"""Makes vectors (B, D) of token embeddings (B, T, D), their mask (B, T) and the lengths of the rows."""


class GraphRows:
    """Makes arrays of rows, and runs them through a model whose transformer is a graph; a `Source` of the engine.

    Args:
        model: The model.
        source: What reads its inputs.
    """

    packed = False
    usual_rows: int | None = None

    def __init__(self, model: Any, source: RowSource) -> None:
        (_, first), *self.others = model.named_children()
        self.read: Callable[[Sequence[Any]], TokenRows] = source.read
        self.graph: ExportedModel = first.held_model
        self.result_name: str = first.module_output_name
        self.tokenizer = first.held_tokenizer
        self._through = model._through

    def collate(self, rows: TokenRows) -> dict[str, Any]:
        """What `forward` takes."""
        return {"rows": rows}

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        """The features of a batch with what the modules make of it."""
        rows: TokenRows = features["rows"]
        inputs = self._inputs(rows)
        wanted = self.graph.input_types
        given = {name: inputs[name].astype(kind, copy=False) for name, kind in wanted.items()}
        result = self.graph.run(given, alone=is_lane())
        mask = inputs["attention_mask"]
        finish = finish_of([part for _, part in self.others], rows)
        if finish is not None:
            return {
                "attention_mask": torch.from_numpy(mask),
                self.result_name: torch.from_numpy(result),
                "sentence_embedding": torch.from_numpy(finish(result, mask, rows.lengths)),
            }
        inputs.pop("position_ids", None)
        features = {name: torch.from_numpy(values) for name, values in inputs.items()}
        features[self.result_name] = torch.from_numpy(result)
        return self._through(self.others, with_extras(features, rows))

    def _inputs(self, rows: TokenRows) -> dict[str, np.ndarray]:
        """What the features of a batch hold, and what else the graph may want, (B, T)."""
        lengths = rows.lengths
        width = max(1, *lengths) if len(lengths) > 1 else max(1, lengths[0])
        if min(lengths) == width:
            ids = np.array(rows.ids, dtype=np.int64)
            mask = np.ones_like(ids)
        else:
            ids = self._padded(rows.ids, width, self._filler())
            mask = self._padded([[1] * length for length in lengths], width, 0)
        inputs = {"input_ids": ids, "attention_mask": mask}
        reads_types = "token_type_ids" in self.tokenizer.model_input_names
        if reads_types or "token_type_ids" in self.graph.input_types:
            given = rows.type_ids if reads_types else None
            inputs["token_type_ids"] = np.zeros_like(ids) if given is None else self._padded(given, width, 0)
        if "position_ids" in self.graph.input_types:
            inputs["position_ids"] = np.tile(np.arange(width), (len(ids), 1))
        return inputs

    def _filler(self) -> int:
        pad = self.tokenizer.pad_token_id
        return (self.tokenizer.eos_token_id or 0) if pad is None else pad

    def _padded(self, rows: Sequence[Sequence[int]], width: int, filler: int) -> np.ndarray:
        """Rows filled up to a width, on the side the tokenizer pads."""
        left = self.tokenizer.padding_side == "left"
        array = np.full((len(rows), width), filler, dtype=np.int64)
        for number, row in enumerate(rows):
            array[number, slice(width - len(row), None) if left else slice(len(row))] = row
        return array


def graph_rows(model: Any, source: Source, device: torch.device) -> GraphRows | None:
    """The way of a model's rows through its graph; None where it has none, or somebody looks on or changes things."""
    first = next(iter(model.children()))
    if type(first) is not Transformer or not isinstance(first.held_model, ExportedModel):
        return None
    if type(source) is not RowSource or device.type != "cpu" or not model._runs_plainly or has_hooks(model):
        return None
    if not first.held_model.input_types.keys() <= FROM_ROWS or torch_is_watched():
        return None
    if getattr(first.held_tokenizer, "pad_token_type_id", 0) or "forward" in first.__dict__:
        return None
    return GraphRows(model, source)


def torch_is_watched() -> bool:
    """Whether the calling thread has switched something that changes what torch computes, or sees it."""
    return bool(
        torch.is_autocast_enabled("cpu")
        or torch._C._len_torch_function_stack()
        or torch._C._len_torch_dispatch_stack()
    )


def finish_of(parts: Sequence[nn.Module], rows: TokenRows) -> Finish | None:
    """What gives the vectors of the modules behind the transformer; None where they have to compute them."""
    pooling, *scaling = parts or (None,)
    if type(pooling) is not Pooling or len(pooling.modes) > 1 or pooling.modes[0] not in POOLED:
        return None
    if any("forward" in part.__dict__ for part in parts):
        return None
    if rows.prompt_length and not pooling.include_prompt:
        return None
    pool = POOLED[pooling.modes[0]]
    if not scaling:
        return pool
    if len(scaling) > 1 or not scales_embeddings(scaling[0]):
        return None
    return lambda tokens, mask, lengths: scaled(pool(tokens, mask, lengths))


def scales_embeddings(part: nn.Module) -> bool:
    """Whether a module does nothing but scale the embeddings."""
    names = ("sentence_embedding", "sentence_embedding")
    return type(part) is Normalize and (part.module_input_name, part.module_output_name) == names


def mean_tokens(tokens: np.ndarray, mask: np.ndarray, lengths: list[int]) -> np.ndarray:
    """Average of the tokens of each row."""
    width = tokens.shape[1]
    if min(lengths) == width:
        return np.add.reduce(tokens, axis=1) * np.float32(1 / width)
    weights = mask / np.maximum(mask.sum(axis=1, keepdims=True), 1)
    # By torch, which computes with the threads that this thread may use.
    together = torch.bmm(torch.from_numpy(weights.astype(np.float32))[:, None], torch.from_numpy(tokens))
    return together[:, 0].numpy()


def first_token(tokens: np.ndarray, mask: np.ndarray, lengths: list[int]) -> np.ndarray:
    """The first token of each row; zeros where there is none."""
    if min(lengths) == tokens.shape[1]:
        return tokens[:, 0]
    return tokens[np.arange(len(tokens)), mask.argmax(axis=1)] * mask.any(axis=1, keepdims=True)


def scaled(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length one; one of zeros stays as it is."""
    norms = np.sqrt(np.add.reduce(vectors * vectors, axis=1, keepdims=True))
    return vectors / np.maximum(norms, np.float32(SMALLEST_NORM))


POOLED: dict[str, Finish] = {"mean": mean_tokens, "cls": first_token}
"""Modes of pooling that are computed here, as `modules/pooling.py` does it."""
