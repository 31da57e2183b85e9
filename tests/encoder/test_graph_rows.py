"""Rows through a graph: what comes out is what the modules would have made, whatever stands behind the graph."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sentence_transformers import SentenceTransformer, models
from sentence_transformers.encoder import computing, graph_rows
from sentence_transformers.inputs.rows import TokenRows
from tiny import WIDTH, tiny_checkpoint

pytest.importorskip("onnxruntime")

TEXTS = [
    "a much longer sentence about the treatment of the disease",
    "short",
    "of middling length",
    "a",
    "a b",
]
PAIRS = [("what is it?", "a much longer text about the disease"), ("short", "a"), ("of middling", "length")]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint with its graph."""
    folder = tmp_path_factory.mktemp("graph")
    made = models.Transformer(str(tiny_checkpoint("bert", folder / "bert")), backend="onnx")
    made.save(str(folder / "graph"))
    return str(folder / "graph")


def model_of(checkpoint, *parts):
    return SentenceTransformer(modules=[models.Transformer(checkpoint, backend="onnx"), *parts], device="cpu")


def both_ways(model, monkeypatch, inputs, **options):
    """What `encode` gives through the graph's own way, and what it gives through all modules."""
    used = []
    real = graph_rows.GraphRows.forward
    with monkeypatch.context() as patched:
        patched.setattr(
            graph_rows.GraphRows, "forward", lambda self, rows: (used.append(1), real(self, rows))[1]
        )
        found = model.encode(inputs, **options)
        assert used
        patched.setattr(computing, "graph_rows", lambda *details: None)
        return found, model.encode(inputs, **options)


PARTS = {
    "mean": lambda: [models.Pooling(WIDTH, "mean")],
    "mean, normalised": lambda: [models.Pooling(WIDTH, "mean"), models.Normalize()],
    "first": lambda: [models.Pooling(WIDTH, "cls"), models.Normalize()],
    "largest": lambda: [models.Pooling(WIDTH, "max")],
    "two": lambda: [models.Pooling(WIDTH, ["mean", "cls"]), models.Normalize()],
    "dense": lambda: [models.Pooling(WIDTH, "mean"), models.Dense(WIDTH, 8), models.Normalize()],
}


@pytest.mark.parametrize("parts", list(PARTS))
def test_the_vectors_are_those_of_the_modules(checkpoint, monkeypatch, parts):
    model = model_of(checkpoint, *PARTS[parts]())
    for side in ("right", "left"):
        model.tokenizer.padding_side = side
        for inputs in (TEXTS, TEXTS[0], PAIRS, [[5, 6, 7], [8]]):
            found, expected = both_ways(model, monkeypatch, inputs)
            np.testing.assert_allclose(found, expected, atol=1e-6)
        found, expected = both_ways(model, monkeypatch, TEXTS, output_value="token_embeddings")
        for ours, theirs in zip(found, expected):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)
    found, expected = both_ways(
        model, monkeypatch, TEXTS, truncate_dim=4, normalize_embeddings=True, convert_to_tensor=True
    )
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("includes", [True, False])
def test_a_prompt_is_counted_or_left_out_as_the_pooling_says(checkpoint, monkeypatch, includes):
    pooling = models.Pooling(WIDTH, "mean", include_prompt=includes)
    model = model_of(checkpoint, pooling, models.Normalize())
    found, expected = both_ways(model, monkeypatch, TEXTS, prompt="a query about: ")
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_rows_without_tokens_have_vectors_of_zeros():
    mask = np.array([[1, 1, 1], [0, 0, 0], [0, 1, 1]])
    tokens = np.arange(18, dtype=np.float32).reshape(3, 3, 2)
    rows = TokenRows(ids=[[1, 1, 1], [], [1, 1]])
    pooled = graph_rows.finish_of([models.Pooling(2, "mean"), models.Normalize()], rows)
    means = np.array([tokens[0].mean(axis=0), [0, 0], tokens[2, 1:].mean(axis=0)])
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(
        pooled(tokens, mask, rows.lengths), means / np.where(lengths, lengths, 1), atol=1e-6
    )
    first = graph_rows.finish_of([models.Pooling(2, "cls")], rows)
    np.testing.assert_array_equal(first(tokens, mask, rows.lengths), [[0, 1], [0, 0], [14, 15]])


def test_whoever_looks_on_or_changes_something_sees_the_usual_modules(checkpoint):
    def taken(model):
        source = model._source(TEXTS, packed=True, prompt=None)
        return graph_rows.graph_rows(model, source, torch.device("cpu")) is not None

    model = model_of(checkpoint, models.Pooling(WIDTH, "mean"))
    assert taken(model)
    handle = model[1].register_forward_hook(lambda *details: None)
    assert not taken(model)
    handle.remove()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not taken(model)
    seen = []
    forward = model[1].forward
    model[1].forward = lambda features: (seen.append(1), forward(features))[1]
    model.encode(TEXTS)
    assert seen
    del model[1].forward
    model[0].forward = model[0].forward
    assert not taken(model)


def test_a_batch_holds_what_stays_in_the_cache(checkpoint):
    model = model_of(checkpoint, models.Pooling(WIDTH, "mean"))
    assert model._budget().tokens == 512
    assert SentenceTransformer(modules=[models.BoW(["a"])], device="cpu")._budget().tokens > 512
