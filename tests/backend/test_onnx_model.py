from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from sentence_transformers import SentenceTransformer

onnxruntime = pytest.importorskip("onnxruntime")

TEXTS = ["a much longer sentence about the treatment of the disease", "short"]


def test_options_of_the_session_are_used_as_they_are(graph_folders, torch_model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = SentenceTransformer(
        str(graph_folders["onnx"]),
        backend="onnx",
        device="cpu",
        model_kwargs={"provider": "CPUExecutionProvider", "provider_options": {}, "session_options": options},
    )
    assert model[0].auto_model.session.get_session_options().intra_op_num_threads == 1
    np.testing.assert_allclose(model.encode(TEXTS), torch_model.encode(TEXTS), atol=1e-5)
    assert not model[0].auto_model.runs_side_by_side
    assert model[0].auto_model.batch_tokens == min(2048, 512 * torch.get_num_threads())


def test_a_provider_that_is_not_installed_is_refused_with_those_that_are(graph_folders):
    with pytest.raises(ValueError, match=r"'TpuExecutionProvider'.*CPUExecutionProvider"):
        SentenceTransformer(
            str(graph_folders["onnx"]), backend="onnx", model_kwargs={"provider": "TpuExecutionProvider"}
        )


def test_a_graph_of_another_name_keeps_it_when_saved(graph_folders, tmp_path):
    shutil.copytree(graph_folders["onnx"], tmp_path / "model")
    (tmp_path / "model" / "onnx" / "model.onnx").rename(tmp_path / "model" / "onnx" / "model_mine.onnx")
    model = SentenceTransformer(
        str(tmp_path / "model"), backend="onnx", model_kwargs={"file_name": "model_mine.onnx"}
    )
    model.save_pretrained(str(tmp_path / "saved"))
    assert [path.name for path in (tmp_path / "saved" / "onnx").iterdir()] == ["model_mine.onnx"]
