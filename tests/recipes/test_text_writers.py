"""Models that write: what they read, what they are made of, and that the same is drawn for the same seed."""

from __future__ import annotations

import json

import pytest
import torch

from recipes.small_files import sentences
from recipes.small_models import tiny_start, tiny_writer
from sentence_transformers.recipes.text_writers import (
    Sampling,
    freeze,
    number_of,
    one_line,
    prompted,
    texts_about,
    warm_started,
    writer_named,
    writer_to_train,
)
from tiny import tiny_model, tiny_tokenizer


@pytest.fixture(scope="module", params=["t5", "qwen2"])
def writer(request, tmp_path_factory):
    return writer_named(tiny_writer(tmp_path_factory.mktemp("writer"), request.param), "cpu")


def about(writer, passages, **changes):
    options = {"passage_tokens": 16, "prompt": None, "seed": (3, 0), **changes}
    return texts_about(writer, passages, Sampling(texts=3, max_tokens=6), **options)


def test_every_passage_gets_its_texts_and_the_same_seed_the_same_ones(writer):
    passages = sentences(4)
    texts = about(writer, passages)
    assert [len(row) for row in texts] == [3, 3, 3, 3]
    assert any(any(row) for row in texts)
    torch.rand(5)  # whatever else is drawn in between
    assert about(writer, passages) == texts
    assert about(writer, passages, seed=(3, 1)) != texts


def test_writing_leaves_the_random_numbers_of_others_alone(writer):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    about(writer, sentences(2))
    assert torch.equal(torch.rand(3), expected)


def test_with_temperature_0_there_is_one_text_and_the_seed_does_not_matter(writer):
    sampling = Sampling(texts=3, max_tokens=6, temperature=0.0)
    ways = [
        texts_about(writer, sentences(2), sampling, passage_tokens=16, prompt=None, seed=(seed,))
        for seed in (1, 2)
    ]
    assert ways[0] == ways[1]
    assert [len(row) for row in ways[0]] == [1, 1]


def test_a_text_does_not_depend_on_the_length_of_its_neighbours(writer):
    sampling = Sampling(max_tokens=6, temperature=0.0)
    short, long = "A headache.", " ".join(sentences(2))
    together = texts_about(writer, [short, long], sampling, passage_tokens=40, prompt=None, seed=(1,))
    alone = texts_about(writer, [short], sampling, passage_tokens=40, prompt=None, seed=(1,))
    assert together[0] == alone[0]


def test_a_prompt_holds_the_passage_cut_to_its_tokens(writer):
    passage = " ".join(sentences(6))
    read = prompted(writer, [passage], 5, "Write about: {passage} Question:")[0]
    assert read.startswith("Write about: ")
    assert read.endswith(" Question:")
    inside = read.removeprefix("Write about: ").removesuffix(" Question:")
    assert 0 < len(inside) < len(passage) / 4


def test_an_encoder_reads_the_bare_passage_and_a_causal_model_a_prompt(writer):
    (read,) = prompted(writer, ["A headache."], 16, None)
    assert (read == "A headache.") == writer.has_encoder


def test_both_halves_of_a_warm_start_are_the_first_layers_of_the_encoder():
    encoder = tiny_model("bert")
    model = warm_started(encoder, tiny_tokenizer("bert"), 2, 1)
    kept, decoder = model.encoder.encoder.layer, model.decoder.bert.encoder.layer
    assert (len(kept), len(decoder)) == (2, 1)
    first = encoder.encoder.layer[0].attention.self.query.weight
    for part in (kept[0].attention, decoder[0].attention, decoder[0].crossattention):
        assert torch.equal(part.self.query.weight, first)
    words = encoder.get_input_embeddings().weight
    assert torch.equal(model.encoder.get_input_embeddings().weight, words)
    assert torch.equal(model.decoder.get_output_embeddings().weight, words)


def test_a_warm_start_does_not_name_the_folder_it_came_through(tmp_path):
    warm_started(tiny_model("bert"), tiny_tokenizer("bert"), 1, 1).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert [saved[half].get("_name_or_path", "") for half in ("encoder", "decoder")] == ["", ""]


def test_what_is_new_in_a_warm_start_hands_on_what_it_gets():
    decoder = warm_started(tiny_model("bert"), tiny_tokenizer("bert"), 1, 1).decoder
    looks = decoder.bert.encoder.layer[0].crossattention
    states = torch.randn(3, 32).clamp(-2, 2)
    with torch.no_grad():
        torch.testing.assert_close(looks.output.dense(looks.self.value(states)), states)
        torch.testing.assert_close(
            decoder.cls.predictions.transform(states),
            torch.nn.functional.layer_norm(states, (32,)),
            atol=0.1,
            rtol=0,
        )


def test_an_encoder_that_cannot_decode_is_refused():
    with pytest.raises(ValueError, match=r"kind 'mpnet'.*encoder-decoder.*roberta"):
        warm_started(tiny_model("mpnet"), tiny_tokenizer("mpnet"), 1, 1)


@pytest.mark.parametrize("what", ["nothing", "embeddings", "encoder"])
@pytest.mark.parametrize("family", ["bert", "t5"])
def test_what_is_frozen_does_not_learn(what, family, tmp_path):
    name = tiny_start(tmp_path) if family == "bert" else tiny_writer(tmp_path)
    model = writer_to_train(name, Config(), encoder_layers=1, decoder_layers=1).model
    freeze(model, what)
    assert model.get_decoder().get_input_embeddings().weight.requires_grad == (what == "nothing")
    layers = [
        weight.requires_grad for name, weight in model.get_encoder().named_parameters() if "layer." in name
    ]
    layers += [
        weight.requires_grad for name, weight in model.get_encoder().named_parameters() if "block." in name
    ]
    assert set(layers) == {what != "encoder"}


class Config:
    device, max_length = "cpu", None


def test_seeds_of_different_places_differ():
    assert len({number_of((seed, place)) for seed in range(20) for place in range(20)}) == 400


@pytest.mark.parametrize(
    ("text", "line"), [("\n  What is\tit? \nMore.", "What is it?"), ("", ""), (" \n ", ""), ("a  b", "a b")]
)
def test_a_query_is_one_line(text, line):
    assert one_line(text) == line
