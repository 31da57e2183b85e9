"""TSDAE: what it is told, and what the rows of its passes are."""

from __future__ import annotations

import pytest
import torch

from recipes.small_files import sentences
from recipes.smallest import tsdae, tsdae_over_and_over
from sentence_transformers import SentenceTransformer
from sentence_transformers.recipes.tsdae import Config, damaged, run


@pytest.fixture
def settings(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    return {**tsdae(data), "out": tmp_path / "out"}


def test_each_pass_damages_the_texts_anew_and_shuffles_them(settings):
    config, texts = Config(**settings), list(sentences(24))
    first, second = damaged(texts, config, 0), damaged(texts, config, 1)
    assert first == damaged(texts, config, 0)
    assert sorted(first["text"]) == sorted(second["text"]) == sorted(texts)
    assert first["text"] != second["text"]
    copies = [dict(zip(rows["text"], rows["damaged"], strict=True)) for rows in (first, second)]
    assert sum(copies[0][text] != copies[1][text] for text in texts) > 20


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noise_ratio": 1.2}, "noise_ratio=1.2 is no share"),
        ({"noise_ratio": -0.1}, "noise_ratio=-0.1"),
        ({"noise": "burn"}, "noise='burn' is not known. Known: delete, swap, repeat"),
        ({"pooling": "middle"}, "pooling='middle' is not known"),
        ({"decoder": "bert-base-uncased"}, "would not be used"),
        ({"tie_encoder_decoder": False}, "needs a decoder of its own"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, changes, message):
    with pytest.raises(ValueError, match=message):
        Config(**settings, **changes)


def test_an_unknown_decoder_is_refused_before_anything_is_written(settings, tmp_path):
    config = Config(**settings, tie_encoder_decoder=False, decoder=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="no checkpoint that transformers can load"):
        run(config)
    assert not config.out.exists()


def test_a_decoder_of_its_own_learns_too(settings):
    report = run(Config(**settings, tie_encoder_decoder=False, decoder=settings["model"]))
    assert [row["model"] for row in report.rows] == ["start", "TSDAE"]
    assert report.model_path.is_dir()


def test_the_loss_falls(tmp_path):
    settings = {**tsdae_over_and_over(tmp_path), "out": tmp_path / "out", "epochs": 10, "learning_rate": 3e-3}
    report = run(Config(**settings))
    losses = [entry["loss"] for entry in report.curves["training"] if "loss" in entry]
    assert losses[-1] < 0.9 * losses[0]


def test_what_reads_the_vector_may_learn_at_a_rate_of_its_own(tmp_path):
    settings = {**tsdae_over_and_over(tmp_path), "out": tmp_path / "out", "epochs": 10, "learning_rate": 0.0}
    report = run(Config(**settings, pooling="mean", cross_attention_learning_rate=3e-2))
    losses = [entry["loss"] for entry in report.curves["training"] if "loss" in entry]
    assert losses[-1] < losses[0]
    before, after = (
        SentenceTransformer(str(place), device="cpu") for place in (settings["model"], report.model_path)
    )
    weights, trained = before[0].auto_model.state_dict(), after[0].auto_model.state_dict()
    assert all(torch.equal(weights[name], trained[name]) for name in weights)
