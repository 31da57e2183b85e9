from __future__ import annotations

import pytest
import torch
from torch import nn

from sentence_transformers.backend import onnx_export
from sentence_transformers.backend.exported import light_config
from tiny import tiny_model, tiny_tokenizer

pytest.importorskip("onnx")
onnx_model = pytest.importorskip("sentence_transformers.backend.onnx_model")
pytest.importorskip("onnxruntime")

BATCHES = [
    ["hello world, this is it", "a"],
    ["one"],
    ["what is this thing called love " * 6, "b", "c d e " * 9],
]

FAMILIES = (
    "bert",
    "deberta-v2",
    "distilbert",
    "gemma2",
    "modernbert",
    "mpnet",
    "nomic-bert",
    "qwen3",
    "roberta",
    "t5",
    "xlm-roberta",
)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_graph_computes_what_the_model_does_at_any_size(family, tmp_path):
    model, tokenizer = tiny_model(family), tiny_tokenizer(family)
    onnx_export.export_transformer(model, tmp_path / "model.onnx", task="feature-extraction")
    graph = onnx_model.OnnxModel(
        tmp_path / "model.onnx", model.config.to_dict(), task="feature-extraction", name=family
    )
    for texts in BATCHES:
        features = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        with torch.no_grad():
            expected = model(**features)[0]
        counts = features["attention_mask"].bool()
        torch.testing.assert_close(graph(**features)[0][counts], expected[counts], atol=1e-4, rtol=0)


def test_a_model_is_left_as_it_was(tmp_path):
    model = tiny_model("bert").to(torch.bfloat16).train()
    before = model.config._attn_implementation
    onnx_export.export_transformer(model, tmp_path / "model.onnx", task="feature-extraction")
    assert model.training
    assert model.dtype == torch.bfloat16
    assert model.config._attn_implementation == before


class CountsTokens(nn.Module):
    """Looks at a size in a way that a trace does not follow."""

    def forward(self, ids, mask):
        del mask
        return ids.float()[:, :, None] * torch.sym_float(ids.shape[1])


def test_a_size_that_got_stuck_in_a_trace_is_noticed(tmp_path):
    config = light_config({"vocab_size": 50})
    inputs = onnx_export.examples(["input_ids", "attention_mask"], config)
    axes = {0: "batch", 1: "sequence"}
    with onnx_export.quiet_exporter():
        onnx_export.trace(
            CountsTokens(), tmp_path / "graph.onnx", inputs[0], ["out"], {"input_ids": axes, "out": axes}
        )
    with pytest.raises(RuntimeError, match="other results"):
        onnx_export.check(CountsTokens(), tmp_path / "graph.onnx", inputs)


@pytest.mark.slow
def test_what_a_trace_cannot_follow_is_captured(tmp_path):
    pytest.importorskip("onnxscript")
    inputs = onnx_export.examples(["input_ids", "attention_mask"], light_config({"vocab_size": 50}))
    onnx_export.export_graph(
        CountsTokens(), tmp_path / "graph.onnx", inputs, outputs={"out": {0: "batch", 1: "sequence"}}
    )
    onnx_export.check(CountsTokens(), tmp_path / "graph.onnx", inputs)
