"""SimCSE: the two copies of a text differ by dropout, and by nothing else."""

from __future__ import annotations

import pytest
import torch

from recipes.small_files import sentences
from recipes.smallest import simcse
from sentence_transformers import SentenceTransformer
from sentence_transformers.losses import MultipleNegativesRankingLoss
from sentence_transformers.recipes.simcse import Config, check_dropout, run, set_dropout
from tiny import tiny_checkpoint


@pytest.fixture
def settings(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    return {**simcse(data), "out": tmp_path / "out"}


@pytest.fixture
def without_dropout(tmp_path):
    shares = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return str(tiny_checkpoint("bert", tmp_path / "dry", **shares))


def test_the_views_of_a_text_really_differ_while_training(settings, monkeypatch):
    """Looks at the embeddings that the loss is given in a real run."""
    seen = []
    original = MultipleNegativesRankingLoss.parts

    def parts(self, embeddings, labels, **options):
        seen.append([column.values.detach().clone() for column in embeddings])
        yield from original(self, embeddings, labels, **options)

    monkeypatch.setattr(MultipleNegativesRankingLoss, "parts", parts)
    run(Config(**settings))
    assert len(seen) == 6
    for first, second in seen:
        differences = (first - second).norm(dim=1) / first.norm(dim=1)
        assert (differences > 0.01).all()
        # Nearer to itself than to the others, by and large: the same text under another dropout.
        assert torch.nn.functional.cosine_similarity(first, second).mean() > 0.5


def test_a_checkpoint_without_dropout_is_refused(settings, without_dropout):
    with pytest.raises(ValueError, match=r"no dropout, or a share of 0.*dropout=0\.1"):
        run(Config(**{**settings, "model": without_dropout}))


def test_dropout_can_be_given_to_a_checkpoint_that_has_none(settings, without_dropout):
    report = run(Config(**{**settings, "model": without_dropout, "dropout": 0.2}))
    losses = [entry["loss"] for entry in report.curves["training"] if "loss" in entry]
    assert min(losses) > 0


def test_checking_leaves_the_mode_of_a_model_as_it_was(settings):
    model = SentenceTransformer(settings["model"], device="cpu").eval()
    check_dropout(model, sentences(1)[0])
    assert not any(part.training for part in model.modules())
    set_dropout(model, 0.0)
    with pytest.raises(ValueError, match="no dropout"):
        check_dropout(model, sentences(1)[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": 0.0}, "scale=0.0"),
        ({"dropout": 1.0}, "leaves nothing"),
        ({"dropout": -0.1}, "dropout=-0.1"),
        ({"batch_size": 1}, "Pass 2 or more"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, changes, message):
    with pytest.raises(ValueError, match=message):
        Config(**{**settings, **changes})
