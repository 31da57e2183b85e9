"""A fingerprint is that of a model's embeddings."""

from __future__ import annotations

import copy

import pytest
import torch

from sentence_transformers import SentenceTransformer
from sentence_transformers.encoder.fingerprint import model_fingerprint
from tiny import tiny_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tiny_checkpoint("bert", tmp_path_factory.mktemp("bert")))


@pytest.fixture
def model(folder):
    return SentenceTransformer(folder, device="cpu")


def test_it_outlasts_saving_and_moving(model, folder, tmp_path):
    expected = model_fingerprint(model)
    assert model_fingerprint(SentenceTransformer(folder, device="cpu")) == expected
    assert model_fingerprint(copy.deepcopy(model)) == expected
    model.encode(["a text"])
    assert model.transformers_model is not None  # which may now be the real one of transformers
    assert model_fingerprint(model) == expected
    model.save(str(tmp_path / "saved"))
    assert model_fingerprint(SentenceTransformer(str(tmp_path / "saved"), device="cpu")) == expected


def test_it_tells_weights_types_and_settings_apart(model):
    found = {model_fingerprint(model)}

    def changed(change):
        other = copy.deepcopy(model)
        with torch.no_grad():
            change(other)
        found.add(model_fingerprint(other))

    changed(lambda other: list(other.parameters())[-1].add_(1e-3))
    changed(lambda other: other.half())
    changed(lambda other: setattr(other, "max_seq_length", 17))
    changed(lambda other: setattr(other[1], "include_prompt", False))
    changed(lambda other: other.append(torch.nn.Identity()))
    assert len(found) == 6
