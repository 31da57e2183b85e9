"""Tiny models behind an application, for the tests of the server."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.modules.normalize import Normalize
from tiny import tiny_checkpoint


def tiny_embedder(folder: Path) -> SentenceTransformer:
    """An encoder of width 32 with prompts, whose vectors have length one."""
    plain = SentenceTransformer(str(tiny_checkpoint("bert", folder)), device="cpu")
    return SentenceTransformer(
        modules=[*plain, Normalize()], prompts={"query": "find: ", "document": ""}, device="cpu"
    )


def tiny_reranker(folder: Path) -> CrossEncoder:
    """A cross-encoder with one score."""
    return CrossEncoder(str(tiny_checkpoint("bert", folder)), num_labels=1, device="cpu")


class Held:
    """A model that computes nothing until `open` is set; `begun` says that it was asked.

    Texts with "fail" in them raise an error that nobody outside may see.
    """

    model_type = "SentenceTransformer"

    def __init__(self, model: SentenceTransformer) -> None:
        self.model = model
        self.open = threading.Event()
        self.begun = threading.Event()
        self.seen: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def __iter__(self) -> Any:
        return iter(self.model)

    def encode(self, inputs: list[Any], **options: Any) -> Any:
        self.seen += inputs
        self.begun.set()
        assert self.open.wait(60)
        if any("fail" in text for text in inputs):
            raise RuntimeError("the password is hunter2")
        return self.model.encode(inputs, **options)
