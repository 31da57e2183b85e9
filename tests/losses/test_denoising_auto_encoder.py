"""Rebuilding a text from the embedding of a damaged copy."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from sentence_transformers import SentenceTransformer, losses
from sentence_transformers.losses.denoising_auto_encoder import padded_right
from sentence_transformers.models import Dense, Pooling, StaticEmbedding, Transformer
from tiny import WIDTH, sample_texts, tiny_checkpoint, tiny_tokenizer

TEXTS = [text[: 20 + 15 * (number % 4)] for number, text in enumerate(sample_texts()[:6])]
DAMAGED = [" ".join(text.split()[::2]) for text in TEXTS]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    families = ("bert", "roberta", "electra", "qwen3", "mpnet")
    return {family: str(tiny_checkpoint(family, tmp_path_factory.mktemp(family))) for family in families}


@pytest.fixture
def model(folders):
    return SentenceTransformer(folders["bert"], device="cpu").eval()


def features(model):
    return [model.preprocess(DAMAGED), model.preprocess(TEXTS)]


def shared(loss) -> int:
    """How many parameters the decoder has in common with the model."""
    inside = {id(parameter) for parameter in loss.model.parameters()}
    return sum(id(parameter) in inside for parameter in loss.decoder.parameters())


def test_the_value_is_the_mean_cross_entropy_of_the_tokens_after_the_first(model):
    loss = losses.DenoisingAutoEncoderLoss(model)
    columns = features(model)
    vectors = model(dict(columns[0]))["sentence_embedding"]
    entropies = []
    for vector, text in zip(vectors, TEXTS):
        # One text at a time, so there is no padding.
        ids = torch.tensor([model.tokenizer(text)["input_ids"]])
        logits = loss.decoder(input_ids=ids, encoder_hidden_states=vector[None, None]).logits[0]
        entropies.extend(
            -logits[place].log_softmax(dim=0)[ids[0, place + 1]].item() for place in range(ids.shape[1] - 1)
        )
    assert loss(columns, None).item() == pytest.approx(sum(entropies) / len(entropies), rel=1e-5)


@pytest.mark.parametrize("family", ["bert", "roberta", "electra"])
def test_a_tied_decoder_has_the_encoder_s_weights_and_goes_on_having_them(folders, family):
    model = SentenceTransformer(folders[family], device="cpu").eval()
    loss = losses.DenoisingAutoEncoderLoss(model)
    body = [name for name, _ in model.transformers_model.named_parameters() if not name.startswith("pooler.")]
    assert shared(loss) == len(body)
    embeddings = model.transformers_model.get_input_embeddings().weight
    assert loss.decoder.get_input_embeddings().weight is embeddings
    assert loss.decoder.get_output_embeddings().weight is embeddings
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.01)
    before = loss(features(model), None)
    before.backward()
    optimizer.step()
    assert shared(loss.double()) == len(body)
    assert loss.float()(features(model), None) < before


def test_the_encoder_learns_through_the_embedding_alone(folders, model):
    loss = losses.DenoisingAutoEncoderLoss(model, folders["roberta"], tie_encoder_decoder=False)
    assert shared(loss) == 0
    loss(features(model), None).backward()
    assert model.transformers_model.embeddings.word_embeddings.weight.grad.abs().max() > 0
    assert all(
        parameter.grad is not None
        for name, parameter in loss.decoder.named_parameters()
        if "crossattention" in name
    )


@pytest.mark.parametrize("layers", [1, 3])
def test_any_number_of_layers_will_do(tmp_path, layers):
    folder = tiny_checkpoint("bert", tmp_path, num_hidden_layers=layers)
    loss = losses.DenoisingAutoEncoderLoss(SentenceTransformer(str(folder), device="cpu").eval())
    assert loss.decoder.config.num_hidden_layers == layers
    assert loss(features(loss.model), None).isfinite()


def test_a_checkpoint_that_has_gone_is_not_needed(tmp_path):
    folder = tiny_checkpoint("bert", tmp_path / "model")
    model = SentenceTransformer(str(folder), device="cpu").eval()
    assert model.transformers_model is not None
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    assert shared(losses.DenoisingAutoEncoderLoss(model)) > 0


def test_a_decoder_with_another_tokenizer_writes_its_own_tokens(folders, model):
    loss = losses.DenoisingAutoEncoderLoss(model, folders["roberta"], tie_encoder_decoder=False)
    assert loss.need_retokenization
    ids, mask = loss.context(features(model))
    known = model.tokenizer.batch_decode(model.tokenizer(TEXTS)["input_ids"], skip_special_tokens=True)
    expected = loss.tokenizer_decoder(known, padding=True, return_tensors="pt")
    assert ids.equal(expected["input_ids"])
    assert mask.equal(expected["attention_mask"])


def test_a_decoder_with_the_same_tokenizer_takes_the_tokens_as_they_are(folders, model):
    loss = losses.DenoisingAutoEncoderLoss(model, folders["bert"], tie_encoder_decoder=False)
    columns = features(model)
    assert not loss.need_retokenization
    assert loss.context(columns)[0].equal(columns[1]["input_ids"])


def test_an_encoder_without_transformer_can_have_a_decoder(folders):
    static = StaticEmbedding(tiny_tokenizer("bert"), embedding_dim=WIDTH)
    model = SentenceTransformer(modules=[static], device="cpu")
    loss = losses.DenoisingAutoEncoderLoss(model, folders["bert"], tie_encoder_decoder=False)
    loss(features(model), None).backward()
    assert static.embedding.weight.grad.abs().max() > 0
    with pytest.raises(ValueError, match="this model has none"):
        losses.DenoisingAutoEncoderLoss(model)


def test_cached_gradients_reach_tied_weights_from_both_sides(model):
    loss = losses.DenoisingAutoEncoderLoss(model)
    results = []
    for rows in (None, 2):
        loss.mini_batch_size = rows
        loss.zero_grad()
        loss(features(model), None).backward()
        results.append({name: parameter.grad for name, parameter in loss.named_parameters()})
    for name, gradient in results[0].items():
        if gradient is not None:
            torch.testing.assert_close(results[1][name], gradient, rtol=1e-4, atol=1e-6)


def test_padding_moves_behind_the_tokens():
    ids, mask = torch.tensor([[0, 0, 5, 6], [7, 8, 9, 0]]), torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]])
    moved, moved_mask = padded_right(ids, mask)
    assert moved.tolist() == [[5, 6, 0, 0], [7, 8, 9, 0]]
    assert moved_mask.tolist() == [[1, 1, 0, 0], [1, 1, 1, 0]]


@pytest.mark.parametrize(
    ("family", "message"), [("qwen3", "no cross attention"), ("mpnet", "no decoder for")]
)
def test_architectures_that_cannot_decode_are_refused(folders, family, message):
    with pytest.raises(ValueError, match=message):
        losses.DenoisingAutoEncoderLoss(SentenceTransformer(folders[family], device="cpu"))


def test_a_decoder_has_to_be_as_wide_as_the_embedding(folders, model):
    narrow = SentenceTransformer(
        modules=[Transformer(folders["bert"]), Pooling(WIDTH), Dense(WIDTH, 16)], device="cpu"
    )
    with pytest.raises(ValueError, match="16 dimensions, and the decoder reads 32"):
        losses.DenoisingAutoEncoderLoss(narrow)
    shortened = losses.MatryoshkaLoss(model, losses.DenoisingAutoEncoderLoss(model), [16])
    with pytest.raises(ValueError, match="cannot be combined with MatryoshkaLoss"):
        shortened(features(model), None)


def test_names_are_needed_or_not_used(folders, model, caplog):
    with pytest.raises(ValueError, match="decoder_name_or_path"):
        losses.DenoisingAutoEncoderLoss(model, tie_encoder_decoder=False)
    with caplog.at_level(logging.WARNING):
        losses.DenoisingAutoEncoderLoss(model, folders["roberta"])
    assert "is not used" in caplog.text


def test_the_card_names_no_folder_of_this_machine(folders, model):
    loss = losses.DenoisingAutoEncoderLoss(model, str(folders["bert"]), tie_encoder_decoder=False)
    assert loss.get_config_dict()["decoder_name_or_path"] == Path(folders["bert"]).name


def test_the_embedding_makes_the_difference(model):
    loss = losses.DenoisingAutoEncoderLoss(model)
    columns = features(model)
    swapped = [{name: value.flip(0) for name, value in columns[0].items()}, columns[1]]
    assert not torch.isclose(loss(columns, None), loss(swapped, None), rtol=1e-4, atol=0)
    assert F.cross_entropy(torch.zeros(1, 400), torch.tensor([0])).item() == pytest.approx(
        loss(columns, None).item(), rel=0.5
    )
