"""Tiny models and their graphs, made once for all tests of this room."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tiny import WIDTH, tiny_checkpoint

TEXTS = ["a much longer sentence about the treatment of the disease", "short", "of middling length", "a"]


@pytest.fixture(scope="session")
def torch_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved bi-encoder with weights: BERT, mean pooling, a dense layer and normalisation."""
    import torch

    from sentence_transformers import SentenceTransformer, models

    folder = tmp_path_factory.mktemp("graphs")
    checkpoint = tiny_checkpoint("bert", folder / "checkpoint")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        dense = models.Dense(WIDTH, 12)
    parts = [models.Transformer(str(checkpoint)), models.Pooling(WIDTH, "mean"), dense, models.Normalize()]
    SentenceTransformer(modules=parts, device="cpu").save_pretrained(str(folder / "torch"))
    return folder / "torch"


@pytest.fixture(scope="session")
def torch_model(torch_folder: Path) -> Any:
    """The same, loaded; leave it as it is."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(torch_folder), device="cpu")


@pytest.fixture(scope="session")
def graph_folders(torch_folder: Path) -> dict[str, Path]:
    """The same model saved with its graph instead of its weights, by backend."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    from sentence_transformers import SentenceTransformer

    folders = {}
    for backend in ("onnx", "openvino"):
        folders[backend] = torch_folder.with_name(backend)
        model = SentenceTransformer(str(torch_folder), backend=backend, device="cpu")
        model.save_pretrained(str(folders[backend]))
    return folders


@pytest.fixture(scope="session", params=["onnx", "openvino"])
def graph_model(request: pytest.FixtureRequest, graph_folders: dict[str, Path]) -> Any:
    """The same model with each backend, from its saved graph; leave it as it is."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(graph_folders[request.param]), backend=request.param, device="cpu")
