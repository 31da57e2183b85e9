"""Contrastive tension: its pairs, and which of the two copies is kept."""

from __future__ import annotations

import pytest
import torch

from recipes.small_files import sentences
from recipes.smallest import ct, ct_in_batch
from sentence_transformers import SentenceTransformer
from sentence_transformers.losses.contrastive_tension import TwoModelLoss
from sentence_transformers.recipes.ct import Config, pairs, run


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def test_of_every_eight_pairs_the_first_is_a_text_with_itself():
    texts = list(sentences(100))
    rows = pairs(texts, 7, seed=1, number=0)
    assert len(rows["label"]) == 100 // 15 * 8
    assert rows["label"] == [1, 0, 0, 0, 0, 0, 0, 0] * 6
    for first, second, label in zip(rows["first"], rows["second"], rows["label"], strict=True):
        assert (first == second) == bool(label)


def test_no_text_is_in_two_pairs_of_a_pass():
    rows = pairs(list(sentences(100)), 7, seed=1, number=0)
    used = rows["first"] + [
        text for text, label in zip(rows["second"], rows["label"], strict=True) if not label
    ]
    assert len(used) == len(set(used)) == 90


def test_pairs_depend_on_seed_and_pass_alone():
    texts = list(sentences(60))
    first = pairs(texts, 7, seed=1, number=0)
    assert first == pairs(texts, 7, seed=1, number=0)
    assert first != pairs(texts, 7, seed=1, number=1)
    assert first != pairs(texts, 7, seed=2, number=0)


def test_too_few_texts_are_refused():
    with pytest.raises(ValueError, match=r"14 texts are too few.*need 15"):
        pairs(list(sentences(14)), 7, seed=1, number=0)


@pytest.mark.parametrize("settings", [ct, ct_in_batch])
def test_the_copy_that_is_kept_is_the_one_that_the_loss_calls_model2(settings, data, tmp_path, monkeypatch):
    losses = []
    original = TwoModelLoss.__init__

    def remember(self, model):
        original(self, model)
        losses.append(self)

    monkeypatch.setattr(TwoModelLoss, "__init__", remember)
    report = run(Config(**settings(data), out=tmp_path / "out"))
    (loss,) = losses
    kept = SentenceTransformer(str(report.model_path), device="cpu").state_dict()
    second, first = loss.model2.state_dict(), loss.model1.state_dict()
    assert kept.keys() == second.keys()
    assert all(torch.equal(kept[name], second[name]) for name in kept)
    assert any(not torch.equal(first[name], second[name]) for name in kept)
    start = SentenceTransformer(settings(data)["model"], device="cpu").state_dict()
    # Both copies have learned.
    assert any(not torch.equal(first[name], start[name]) for name in start if name in first)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 6}, "Pass a multiple of 4"),
        ({"negatives": 0}, "negatives=0"),
        ({"scale": -1.0}, "scale=-1.0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(data, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        Config(**{**ct(data), "out": tmp_path / "out", **changes})


def test_too_few_texts_are_refused_before_anything_is_written(data, tmp_path):
    with pytest.raises(ValueError, match="6 texts are too few"):
        run(Config(**{**ct(data), "out": tmp_path / "out", "limit": 6}))
    assert not (tmp_path / "out").exists()


def test_an_unknown_optimizer_is_refused_before_anything_is_written(data, tmp_path):
    with pytest.raises(ValueError, match=r"optimizer='rmsdrop' is not known.*rmsprop"):
        run(Config(**{**ct(data), "out": tmp_path / "out", "optimizer": "rmsdrop"}))
    assert not (tmp_path / "out").exists()
