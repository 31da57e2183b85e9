"""Vectors from a model that was exported whole as one ONNX graph, without torch.

For programs that only embed and want to start at once: what is imported is numpy, ONNX Runtime and tokenizers.
The graph is made by `export_pipeline_onnx` in `backend/pipeline_graph.py`. Batches are planned by true length, as
everywhere, so that hardly any padding is computed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sentence_transformers.backend.onnx_session import open_session
from sentence_transformers.inference.plan import plan_batches
from sentence_transformers.storage.folder import read_json

BATCH_TOKENS = 512
"""Tokens of a batch for each thread, with padding: what the layers make of them stays in a core's cache."""

MOST_BATCH_TOKENS = 2048
"""Of a batch that many threads compute together."""


class OnnxPipeline:
    """A model in one graph. May be used by several threads at once.

    Args:
        path: The folder that `export_pipeline_onnx` wrote.
        provider: What computes, such as "CUDAExecutionProvider"; None for the fastest that is installed.
        threads: Threads within an operation; None for one per core.

    Raises:
        FileNotFoundError: If the folder holds no such graph.
        ImportError: If ONNX Runtime is not installed.

    Example:
        >>> model = OnnxPipeline("my-model")  # doctest: +SKIP
        >>> model.encode(["The weather is lovely today."]).shape  # doctest: +SKIP
        (1, 384)
    """

    def __init__(self, path: str | Path, *, provider: str | None = None, threads: int | None = None) -> None:
        from tokenizers import Tokenizer

        folder = Path(path)
        graph, settings = folder / "onnx" / "pipeline.onnx", folder / "onnx" / "pipeline.json"
        if not graph.is_file() or not settings.is_file():
            raise FileNotFoundError(
                f"{folder} holds no onnx/pipeline.onnx with its pipeline.json. Write them with "
                "export_pipeline_onnx(model, folder)."
            )
        self.settings: dict[str, Any] = read_json(settings)
        self.prompts: dict[str, str] = self.settings["prompts"]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        if self.settings["max_seq_length"] is not None:
            self.tokenizer.enable_truncation(self.settings["max_seq_length"])
        threads = threads or len(cores())
        self.session = open_session(graph, provider=provider, threads=threads)
        self._batch_tokens = min(MOST_BATCH_TOKENS, BATCH_TOKENS * threads)

    def encode(
        self,
        sentences: str | Sequence[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """Compute embeddings.

        Args:
            sentences: A text, or n texts.
            prompt_name: Name of the prompt to put in front of each text.
            prompt: The prompt itself; wins over `prompt_name`.
            batch_size: Texts of a batch at most; None for as many as fill it with tokens.

        Returns:
            (n, D) float32, or (D,) for a single text.

        Raises:
            ValueError: If there is no prompt of that name.
        """
        if isinstance(sentences, str):
            return self.encode([sentences], prompt_name=prompt_name, prompt=prompt)[0]
        start = self._prompt(prompt_name) if prompt is None else prompt
        texts = [start + text for text in sentences]
        if self.settings["do_lower_case"]:
            texts = [text.lower() for text in texts]
        rows = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts)]
        vectors: np.ndarray | None = None
        for batch in plan_batches(
            [len(row) for row in rows], max_tokens=self._batch_tokens, max_rows=batch_size
        ):
            values = self.session.run(None, self._inputs([rows[number] for number in batch]))[0]
            if vectors is None:
                vectors = np.empty((len(rows), values.shape[1]), dtype=np.float32)
            vectors[batch] = values
        return np.empty((0, 0), dtype=np.float32) if vectors is None else vectors

    def _prompt(self, name: str | None) -> str:
        name = self.settings["default_prompt_name"] if name is None else name
        if name is None:
            return ""
        if name not in self.prompts:
            raise ValueError(f"There is no prompt {name!r}. Known: {', '.join(map(repr, self.prompts))}.")
        return self.prompts[name]

    def _inputs(self, rows: list[list[int]]) -> dict[str, np.ndarray]:
        """The graph's inputs, (B, T), padded on the side the model expects."""
        width = max(1, *map(len, rows))
        ids = np.full((len(rows), width), self.settings["pad_token_id"], dtype=np.int64)
        mask = np.zeros_like(ids)
        for number, row in enumerate(rows):
            place = (
                slice(width - len(row), None) if self.settings["padding_side"] == "left" else slice(len(row))
            )
            ids[number, place] = row
            mask[number, place] = 1
        known = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        wanted = {entry.name for entry in self.session.get_inputs()}
        return {name: values for name, values in known.items() if name in wanted}


def cores() -> set[int]:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))
