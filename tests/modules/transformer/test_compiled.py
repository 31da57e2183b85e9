"""`model.compile()` reaches `encode`, in few shapes, and changes no result."""

from __future__ import annotations

import copy
import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sentence_transformers import CrossEncoder, SentenceTransformer, models
from sentence_transformers.inputs.rungs import rung
from sentence_transformers.modules.transformer.compiled import filled_up
from tiny import WIDTH, sample_texts, tiny_checkpoint

WORDS = " ".join(sample_texts()).split()
TEXTS = [" ".join(WORDS[number : number + 1 + 3 * (number % 17)]) for number in range(60)]


class Counting:
    """A compiler that compiles nothing, and notes the shapes it is given."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, graph: Any, inputs: list[Any]) -> Any:
        self.shapes.append(next(tuple(one.shape) for one in inputs if one.dtype == torch.int64))
        return graph.forward


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep pytest from collecting what torch traces, which takes longer than all the rest."""
    import torch._dynamo

    torch._dynamo.reset()
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "disabled", True)


def tiny_model(family: str, folder: Path) -> SentenceTransformer:
    checkpoint = tiny_checkpoint(family, folder / "checkpoint")
    parts = [models.Transformer(str(checkpoint)), models.Pooling(WIDTH)]
    return SentenceTransformer(modules=parts, device="cpu")


@pytest.fixture
def bert(tmp_path: Path) -> SentenceTransformer:
    return tiny_model("bert", tmp_path)


def test_a_compiled_model_gives_the_same_vectors_in_few_shapes(tmp_path):
    model = tiny_model("roberta", tmp_path)  # which counts positions by what is no padding
    expected = model.encode(TEXTS)
    compiler = Counting()
    assert model.compile(backend=compiler, fullgraph=True) is model
    for size in (7, 6, 5):
        np.testing.assert_allclose(model.encode(TEXTS[1 : 1 + size]), expected[1 : 1 + size], atol=1e-5)
    for number in (0, 2):
        np.testing.assert_allclose(model.encode(TEXTS[number]), expected[number], atol=1e-5)
    met = len(compiler.shapes)
    assert len(set(compiler.shapes)) == met <= 5
    for rows, width in compiler.shapes:
        assert rows in (1, 8)
        assert width == rung(width)
    model.encode(TEXTS[1:7])
    model.encode(TEXTS[2])
    assert len(compiler.shapes) == met


@pytest.mark.parametrize("family", ["t5", "qwen3"])
def test_other_architectures_are_compiled_too(family, tmp_path):
    model = tiny_model(family, tmp_path)
    expected = model.encode(TEXTS[:3])
    compiler = Counting()
    model.compile(backend=compiler)
    np.testing.assert_allclose(model.encode(TEXTS[:3]), expected, atol=1e-5)
    assert compiler.shapes


def test_more_shapes_are_compiled_than_torch_would(bert):
    compiler = Counting()
    bert.compile(backend=compiler)
    with torch._dynamo.config.patch(cache_size_limit=1):
        for words in (1, 20):
            bert.encode(" ".join(WORDS[:words]))
    assert len(set(compiler.shapes)) == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of parts of torch that are imported for it
def test_torchs_own_compiler_gives_the_same_vectors(bert):
    expected = bert.encode(TEXTS[:3])
    bert.compile()
    np.testing.assert_allclose(bert.encode(TEXTS[:3]), expected, atol=1e-5)


def test_scores_of_a_cross_encoder_stay_the_same(tmp_path):
    checkpoint = tiny_checkpoint("roberta", tmp_path / "checkpoint")
    scorer = CrossEncoder(str(checkpoint), num_labels=1, device="cpu")
    pairs = list(zip(TEXTS[:9], TEXTS[9:18]))
    expected = scorer.predict(pairs)
    compiler = Counting()
    scorer.compile(backend=compiler)
    np.testing.assert_allclose(scorer.predict(pairs), expected, atol=1e-5)
    assert compiler.shapes


def test_copies_and_pickles_are_compiled_themselves(bert):
    expected = bert.encode(TEXTS[:4])
    bert.compile(backend="eager")
    bert.encode(TEXTS[:4])
    for other in (copy.deepcopy(bert), pickle.loads(pickle.dumps(bert))):
        assert other[0].compiled is not None
        assert other[0].compiled is not bert[0].compiled
        with torch.no_grad():
            other[0].auto_model.embeddings.word_embeddings.weight.zero_()
        assert np.abs(other.encode(TEXTS[:4]) - expected).max() > 0.01
    np.testing.assert_allclose(bert.encode(TEXTS[:4]), expected, atol=1e-5)


def test_changed_weights_are_used(bert):
    bert.compile(backend="eager")
    bert.encode(TEXTS[:4])
    with torch.no_grad():
        bert[0].auto_model.encoder.layer[0].output.dense.weight.mul_(-1)
    plain = copy.deepcopy(bert)
    plain[0].compiled = None
    np.testing.assert_allclose(bert.encode(TEXTS[:4]), plain.encode(TEXTS[:4]), atol=1e-5)


def test_training_is_as_before(bert):
    bert.train()
    before = bert[0].computes_no_padding
    compiler = Counting()
    bert.compile(backend=compiler)
    assert bert[0].computes_no_padding == before
    bert(bert.preprocess(TEXTS[:4]))["sentence_embedding"].sum().backward()
    assert bert[0].auto_model.embeddings.word_embeddings.weight.grad is not None
    assert not compiler.shapes


def test_without_a_compiler_there_is_one_clear_sentence(bert, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(RuntimeError, match=r"needs a C\+\+ compiler"):
        bert.compile()
    assert bert[0].compiled is None
    found = bert.optimize(TEXTS[:4], ways=["compiled"], rounds=1, show_table=False)
    assert "needs a C++ compiler" in found.rows[1].reason


def test_a_model_without_transformer_has_nothing_to_compile():
    from tiny import tiny_tokenizer

    static = models.StaticEmbedding(tiny_tokenizer("bert"), embedding_dim=16)
    with pytest.raises(ValueError, match="nothing to compile"):
        SentenceTransformer(modules=[static], device="cpu").compile()


def test_batches_are_filled_up_to_the_ladder():
    ids = torch.arange(1, 16).view(3, 5)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0], [1, 1, 0, 0, 0]])
    filled = filled_up({"input_ids": ids, "attention_mask": mask}, filler=9, limit=None)
    assert filled["input_ids"].shape == filled["attention_mask"].shape == (4, 8)
    assert filled["input_ids"][:3, :5].equal(ids)
    assert filled["input_ids"][:, 5:].unique().tolist() == [9]
    assert filled["attention_mask"].sum(dim=1).tolist() == [5, 4, 2, 5]
    assert filled["input_ids"][3, :5].equal(ids[0])


def test_rows_are_not_filled_up_beyond_the_limit():
    ids = torch.ones(4, 13, dtype=torch.int64)
    assert filled_up({"input_ids": ids}, filler=0, limit=14)["input_ids"].shape == (4, 14)
    assert filled_up({"input_ids": ids}, filler=0, limit=10)["input_ids"].shape == (4, 13)
    assert [rung(length) for length in (1, 8, 9, 130, 9000)] == [8, 8, 16, 192, 9216]
