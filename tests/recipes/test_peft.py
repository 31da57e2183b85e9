"""Training an adapter: only it learns, and what is saved can be loaded."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from recipes.smallest import peft as smallest
from sentence_transformers import SentenceTransformer
from sentence_transformers.recipes.peft import Config, run


def test_only_the_adapter_is_trained_and_saved(tmp_path):
    asked = smallest(tmp_path)
    report = run(Config(**asked, out=tmp_path / "out"))
    before = SentenceTransformer(asked["model"], device="cpu")
    after = SentenceTransformer(str(tmp_path / "out/model"), device="cpu")
    known = after.state_dict()
    for name, weights in before.state_dict().items():
        own = [key for key in known if key.replace(".base_layer", "") == name]
        assert len(own) == 1
        assert torch.equal(known[own[0]], weights), name
    row = report.row("LoRA")
    assert row["trained parameters"] == sum(
        parameter.numel() for name, parameter in after.named_parameters() if "lora_" in name
    )
    assert 0 < row["% of all"] < 100
    assert report.row("all weights")["% of all"] == 100
    assert (tmp_path / "out/model/adapter_model.safetensors").is_file()
    assert np.abs(before.encode("some text") - after.encode("some text")).max() > 1e-4


def test_a_missing_package_is_told_with_the_way_to_install_it(tmp_path, monkeypatch):
    asked = smallest(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ImportError, match=r"takes the package peft.*pip install 'sentence-transformers\[train\]'"
    ):
        run(Config(**asked, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_dropout_that_leaves_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"dropout=1\.0 leaves nothing"):
        Config(**{**smallest(tmp_path), "dropout": 1.0}, out=tmp_path / "out")
