"""Models whose vectors are made of first tokens: the same vectors, with less computed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sentence_transformers import SentenceTransformer
from sentence_transformers.backend import native
from sentence_transformers.modules.dense import Dense
from sentence_transformers.modules.dropout import Dropout
from sentence_transformers.modules.normalize import Normalize
from sentence_transformers.modules.pooling import Pooling
from sentence_transformers.modules.transformer.module import Transformer
from sentence_transformers.sentence_transformer.first_tokens import first_tokens_suffice
from tiny import WIDTH, sample_texts, tiny_checkpoint

TEXTS = [*sample_texts()[:12], "", " ".join(sample_texts()[:30])]


@pytest.fixture(params=["bert", "mpnet", "distilbert", "modernbert", "nomic-bert"])
def model(request, tmp_path):
    transformer = Transformer(str(tiny_checkpoint(request.param, tmp_path)))
    return SentenceTransformer(
        modules=[transformer, Pooling(WIDTH, "cls"), Dense(WIDTH, 8), Normalize()], device="cpu"
    )


@pytest.fixture
def computed(monkeypatch):
    """What our forward has been asked for, call by call."""
    asked = []
    forward_of = native.forward_of

    def noted(model, *, first_tokens_only=False):
        asked.append(first_tokens_only)
        return forward_of(model, first_tokens_only=first_tokens_only)

    monkeypatch.setattr(native, "forward_of", noted)
    return asked


def test_vectors_are_those_of_whole_rows(model, computed):
    alone = model.encode(TEXTS)
    assert len(computed) > 0
    assert all(computed)
    computed.clear()
    model[1].register_forward_hook(lambda module, inputs, output: None)
    np.testing.assert_allclose(alone, model.encode(TEXTS), atol=1e-5)
    assert not any(computed)


def test_a_prompt_that_counts_changes_nothing_and_one_that_does_not_needs_whole_rows(model, computed):
    with_prompt = model.encode(TEXTS, prompt="query: ")
    assert all(computed)
    np.testing.assert_allclose(with_prompt, model.encode(["query: " + text for text in TEXTS]), atol=1e-5)
    computed.clear()
    model[1].include_prompt = False
    model.encode(TEXTS, prompt="query: ")
    assert not any(computed)


@pytest.mark.parametrize("output_value", ["token_embeddings", None])
def test_whoever_asks_for_tokens_gets_all_of_them(model, output_value):
    found = model.encode(TEXTS[:3], output_value=output_value)
    tokens = [row if output_value else row["token_embeddings"] for row in found]
    lengths = [len(ids) for ids in model.tokenizer(TEXTS[:3])["input_ids"]]
    assert all(len(row) >= length for row, length in zip(tokens, lengths))


class OwnPooling(Pooling):
    pass


@pytest.mark.parametrize(
    ("parts", "suffices"),
    [
        ([Pooling(WIDTH, "cls")], True),
        ([Pooling(WIDTH, "cls"), Normalize(), Dense(WIDTH, 8)], True),
        ([], False),
        ([Pooling(WIDTH, "mean")], False),
        ([Pooling(WIDTH, ["cls", "mean"])], False),
        ([OwnPooling(WIDTH, "cls")], False),
        ([Dense(WIDTH, 8, module_input_name="token_embeddings"), Pooling(8, "cls")], False),
        ([Pooling(WIDTH, "cls"), Dense(WIDTH, 8, module_input_name="token_embeddings")], False),
        ([Pooling(WIDTH, "cls"), Normalize("token_embeddings")], False),
        ([Pooling(WIDTH, "cls"), Dropout()], False),
        ([Pooling(WIDTH, "cls"), nn.Identity()], False),
    ],
)
def test_first_tokens_suffice_only_where_every_part_is_known_to_look_at_nothing_else(
    parts, suffices, tmp_path
):
    transformer = Transformer(str(tiny_checkpoint("bert", tmp_path)))
    assert first_tokens_suffice([transformer, *parts]) == suffices
    assert not first_tokens_suffice([nn.Identity(), *parts])


def test_features_say_that_each_row_has_one_token_left(tmp_path):
    transformer = Transformer(str(tiny_checkpoint("bert", tmp_path)))
    rows = transformer.read_rows(TEXTS[:3])
    features = transformer.collate_rows(rows, packed=True)
    with torch.inference_mode():
        whole = transformer({**features})["token_embeddings"][0]
        found = transformer({**features, "first_tokens_only": True})
    starts = features["cu_seq_lens_q"][:-1].long()
    torch.testing.assert_close(found["token_embeddings"][0], whole[starts], atol=1e-5, rtol=1e-5)
    assert found["row_lengths"] == [1, 1, 1]
    assert found["cu_seq_lens_q"].tolist() == [0, 1, 2, 3]
    assert torch.equal(found["input_ids"], features["input_ids"][:, starts])
