from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from sentence_transformers import CrossEncoder, SentenceTransformer, models
from sentence_transformers.backend import OnnxPipeline, export_pipeline_onnx
from tiny import WIDTH, tiny_checkpoint

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

TEXTS = ["a much longer sentence about the treatment of the disease", "short", "of middling length", "a"]
LONG = ["word " * 300, *(f"{number} " * (1 + number % 30) for number in range(60))]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    checkpoint = tiny_checkpoint("bert", tmp_path_factory.mktemp("pipeline"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        dense = models.Dense(2 * WIDTH, 12)
    parts = [
        models.Transformer(str(checkpoint)),
        models.Pooling(WIDTH, ["mean", "max"]),
        dense,
        models.Normalize(),
    ]
    return SentenceTransformer(modules=parts, device="cpu", prompts={"query": "query: "}, truncate_dim=8)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline") / "exported"
    export_pipeline_onnx(model, folder)
    return folder


def test_vectors_are_those_of_encode(model, folder):
    pipeline = OnnxPipeline(folder)
    np.testing.assert_allclose(pipeline.encode(TEXTS + LONG), model.encode(TEXTS + LONG), atol=1e-5)
    np.testing.assert_allclose(pipeline.encode(TEXTS[0]), model.encode(TEXTS[0]), atol=1e-5)
    assert len(pipeline.encode([])) == 0


def test_prompts_go_in_front(model, folder):
    pipeline = OnnxPipeline(folder)
    expected = model.encode(TEXTS, prompt_name="query")
    np.testing.assert_allclose(pipeline.encode(TEXTS, prompt_name="query"), expected, atol=1e-5)
    np.testing.assert_allclose(pipeline.encode(TEXTS, prompt="query: "), expected, atol=1e-5)
    with pytest.raises(ValueError, match="'query'"):
        pipeline.encode(TEXTS, prompt_name="nobody's")


def test_vectors_are_scaled_when_asked(model, tmp_path):
    plain = SentenceTransformer(modules=list(model)[:2], device="cpu")
    export_pipeline_onnx(plain, tmp_path, normalize_embeddings=True)
    np.testing.assert_allclose(
        OnnxPipeline(tmp_path).encode(TEXTS), plain.encode(TEXTS, normalize_embeddings=True), atol=1e-5
    )


def test_nothing_heavy_is_imported(folder):
    code = (
        "import sys; from sentence_transformers.backend import OnnxPipeline;"
        f"OnnxPipeline({str(folder)!r}).encode(['a']);"
        "print(sorted({'torch', 'transformers', 'onnx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_folder_without_pipeline_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="export_pipeline_onnx"):
        OnnxPipeline(tmp_path)


def test_other_models_are_refused(model, folder, tmp_path):
    scorer = CrossEncoder(str(tiny_checkpoint("bert", tmp_path / "checkpoint")), num_labels=1, device="cpu")
    with pytest.raises(ValueError, match="Transformer that embeds texts"):
        export_pipeline_onnx(scorer, tmp_path)
    words = SentenceTransformer(
        modules=[
            models.Transformer(model[0].auto_model.name_or_path),
            models.Pooling(WIDTH, "mean", include_prompt=False),
        ],
        device="cpu",
        prompts={"query": "query: "},
    )
    with pytest.raises(ValueError, match="include_prompt"):
        export_pipeline_onnx(words, tmp_path)
