"""MLM: what is masked, the head that guesses, and the perplexity."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from recipes.small_files import sentences
from recipes.smallest import mlm
from sentence_transformers import SentenceTransformer
from sentence_transformers.recipes.mlm import (
    CHECKPOINT,
    Config,
    GuessingLoss,
    masked_language_model,
    perplexity,
    run,
)
from tiny import ENCODERS, sample_texts, tiny_checkpoint


@pytest.fixture(scope="module")
def loss(tmp_path_factory):
    folder = tiny_checkpoint("bert", tmp_path_factory.mktemp("bert"))
    return GuessingLoss(SentenceTransformer(str(folder), device="cpu"), seed=5)


def features_of(loss, texts):
    return loss.model.preprocess(list(texts))


def test_masks_depend_on_seed_and_number_alone(loss):
    features = features_of(loss, sample_texts()[:4])
    ids, mask = features["input_ids"], features["attention_mask"]
    shown, chosen = loss.masked(ids, mask, [3, 4, 5, 6])
    again, also_chosen = loss.masked(ids.flip(0), mask.flip(0), [6, 5, 4, 3])
    assert torch.equal(shown, again.flip(0))
    assert torch.equal(chosen, also_chosen.flip(0))
    assert not torch.equal(chosen, loss.masked(ids, mask, [13, 14, 15, 16])[1])


def test_masks_do_not_depend_on_the_padding(loss):
    text = sample_texts()[0]
    alone, beside = features_of(loss, [text]), features_of(loss, [text, text + " " + text])
    length = alone["input_ids"].shape[1]
    one = loss.masked(alone["input_ids"], alone["attention_mask"], [7])
    other = loss.masked(beside["input_ids"], beside["attention_mask"], [7, 8])
    assert torch.equal(one[0][0], other[0][0, :length])
    assert torch.equal(one[1][0], other[1][0, :length])


def test_of_the_chosen_tokens_eight_in_ten_are_masked_and_one_is_another(loss):
    ids = torch.randint(10, 390, (60, 100), generator=torch.Generator().manual_seed(0))
    ids[torch.isin(ids, loss.special_ids)] = 10
    shown, chosen = loss.masked(ids, torch.ones_like(ids), list(range(60)))
    assert float(chosen.float().mean()) == pytest.approx(0.15, abs=0.02)
    masked = shown == loss.mask_id
    assert float(masked[chosen].float().mean()) == pytest.approx(0.8, abs=0.05)
    assert float((shown == ids)[chosen].float().mean()) == pytest.approx(0.1, abs=0.04)
    assert torch.equal(shown[~chosen], ids[~chosen])


def test_special_tokens_and_padding_are_never_guessed_and_every_text_has_one_to_guess(loss):
    features = features_of(loss, ["a", *sample_texts()[:3]])
    _, chosen = loss.masked(features["input_ids"], features["attention_mask"], [0, 1, 2, 3])
    assert not chosen[features["attention_mask"] == 0].any()
    assert not chosen[torch.isin(features["input_ids"], loss.special_ids)].any()
    assert chosen.any(dim=1).all()


@pytest.mark.parametrize("family", [family for family in ENCODERS if family != "t5"])
def test_the_head_gives_the_logits_of_the_whole_masked_language_model(family, tmp_path):
    model = SentenceTransformer(str(tiny_checkpoint(family, tmp_path)), device="cpu").eval()
    loss = GuessingLoss(model).eval()
    whole = masked_language_model(model[0].auto_model, 42)[0].eval()
    features = model.preprocess(sample_texts()[:3])
    real = features["attention_mask"].bool()
    with torch.no_grad():
        logits = loss.head(model(dict(features))["token_embeddings"][real])
        names = ("input_ids", "attention_mask", "token_type_ids")
        expected = whole(**{name: features[name] for name in names if name in features})["logits"][real]
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_the_head_of_the_checkpoint_is_used_where_it_has_one(tmp_path):
    from transformers import AutoModelForMaskedLM

    folder = tiny_checkpoint("bert", tmp_path)
    torch.manual_seed(9)
    whole = AutoModelForMaskedLM.from_pretrained(folder)
    torch.nn.init.normal_(whole.cls.predictions.bias)
    whole.save_pretrained(folder)
    loss = GuessingLoss(SentenceTransformer(str(folder), device="cpu"), texts=sentences(20))
    assert not loss.head.is_new
    head = loss.head.whole.cls.predictions
    assert torch.equal(head.bias, whole.cls.predictions.bias)
    assert torch.equal(head.transform.dense.weight, whole.cls.predictions.transform.dense.weight)


def test_a_new_head_shares_the_token_embeddings_and_is_the_same_for_a_seed(loss):
    embeddings = loss.model[0].auto_model.get_input_embeddings().weight
    assert loss.head.whole.get_output_embeddings().weight is embeddings
    again = GuessingLoss(loss.model, seed=5).head.whole.cls.predictions.transform.dense.weight
    assert torch.equal(again, loss.head.whole.cls.predictions.transform.dense.weight)


def test_a_new_head_begins_with_how_often_tokens_occur(loss):
    texts = ["What is this?", "What is that?"]
    made = GuessingLoss(loss.model, texts=texts)
    assert made.head.is_new
    bias = made.head.whole.cls.predictions.bias.detach()
    ids = [
        token for text in texts for token in loss.model.tokenizer(text, add_special_tokens=False)["input_ids"]
    ]
    assert float(bias.exp().sum()) == pytest.approx(1, abs=1e-4)
    often, never = ids[0], next(token for token in range(len(bias)) if token not in ids)
    assert float((bias[often] - bias[never]).exp()) == pytest.approx(ids.count(often) / 0.1 + 1, rel=1e-3)


def test_perplexity_agrees_with_its_definition(loss):
    texts = sample_texts()[:7]
    losses = []
    loss.eval()
    for number, text in enumerate(texts):
        with torch.no_grad():
            logits, targets = loss.guesses(features_of(loss, [text]), torch.tensor([number]))
        losses.append(F.cross_entropy(logits, targets, reduction="none"))
    assert perplexity(loss, texts, 3) == pytest.approx(math.exp(float(torch.cat(losses).mean())), rel=1e-3)


def test_training_lowers_the_perplexity_and_its_head_is_kept_for_it(tmp_path):
    settings = {**mlm(tmp_path), "epochs": 30, "learning_rate": 3e-3, "out": tmp_path / "out", "dev": None}
    report = run(Config(**settings))
    assert report.row("MLM")["perplexity"] < 0.85 * report.row("start")["perplexity"]
    model = SentenceTransformer(str(report.model_path), device="cpu")
    assert model.encode(list(sentences(2))).shape == (2, 32)


def test_a_second_run_goes_on_with_the_head_of_the_first(tmp_path):
    settings = {**mlm(tmp_path), "epochs": 10, "learning_rate": 3e-3, "dev": None}
    first = run(Config(**settings, out=tmp_path / "first"))
    checkpoint = tmp_path / "first" / "steps" / CHECKPOINT
    second = run(Config(**{**settings, "model": str(checkpoint), "epochs": 1}, out=tmp_path / "second"))
    assert second.row("start")["perplexity"] == first.row("MLM")["perplexity"]
    with_head, without = (
        SentenceTransformer(str(place), device="cpu")[0].auto_model.state_dict()
        for place in (checkpoint, first.model_path)
    )
    assert all(torch.equal(with_head[name], without[name]) for name in without)


def test_a_model_without_a_mask_token_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no mask token"):
        GuessingLoss(SentenceTransformer(str(tiny_checkpoint("t5", tmp_path)), device="cpu"))


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.1])
def test_a_share_that_leaves_nothing_is_refused(tmp_path, ratio):
    with pytest.raises(ValueError, match="mask_ratio"):
        Config(**mlm(tmp_path), out=tmp_path / "out", mask_ratio=ratio)
