"""What holds for every transformer architecture: each tiny family is loaded, encoded with, and saved.

The expected embeddings come from transformers' own padded forward and a pooling written out here.
"""

from __future__ import annotations

import copy
import json
import random
import threading
from functools import cache

import numpy as np
import pytest
import torch

from sentence_transformers import SentenceTransformer
from sentence_transformers.backend.lean import CLASSES
from sentence_transformers.models import Pooling, Transformer
from sentence_transformers.modules.transformer.architectures import PACKABLE
from tiny import DECODERS, FAMILIES, MAX_TOKENS, sample_texts, tiny_checkpoint, tiny_tokenizer

LIKE_ROBERTA = {
    "camembert": "camembert",
    "roberta-prelayernorm": "roberta-prelayernorm",
    "xlm-roberta-xl": "xlm-roberta-xl",
}
"""Further architectures, made here from RoBERTa's settings and tokenizer, and their model types."""

ARCHITECTURES = (*FAMILIES, *LIKE_ROBERTA)

# From one token to far too many, in no order, with neighbours of equal length and a text that comes twice.
TEXTS = [
    "word",
    *sample_texts()[:6],
    " ".join(sample_texts()[:10]),
    "two words",
    "",
    sample_texts()[2],
    " ".join(sample_texts()[10:12]),
    "word word",
]


EQUAL = {"atol": 5e-6, "rtol": 0}
"""How far rounding goes where the same is computed in batches of another shape; values are around 1."""


def checkpoint(architecture, folder):
    if architecture in FAMILIES:
        return tiny_checkpoint(architecture, folder)
    from transformers import AutoConfig, AutoModel

    family = FAMILIES["roberta"]
    config = AutoConfig.for_model(
        LIKE_ROBERTA[architecture],
        vocab_size=400,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        **family.settings,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModel.from_config(config).eval().save_pretrained(folder)
    tiny_tokenizer("roberta").save_pretrained(folder)
    return folder


def pooling_of(architecture):
    return "lasttoken" if architecture in DECODERS else "mean"


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Gives the model of an architecture and the folder of its checkpoint; each is made once."""

    @cache
    def model_of(architecture):
        folder = checkpoint(architecture, tmp_path_factory.mktemp(architecture))
        if pooling_of(architecture) == "mean":
            return SentenceTransformer(str(folder), device="cpu"), folder
        transformer = Transformer(str(folder))
        pooling = Pooling(transformer.get_word_embedding_dimension(), "lasttoken")
        return SentenceTransformer(modules=[transformer, pooling], device="cpu"), folder

    return model_of


@pytest.fixture(params=ARCHITECTURES)
def architecture(request):
    return request.param


@pytest.fixture
def model(architecture, opened):
    return opened(architecture)[0]


def by_transformers(folder, pooling):
    """Embeddings of the texts by transformers alone."""
    from transformers import AutoModel, AutoTokenizer, T5EncoderModel

    is_t5 = json.loads((folder / "config.json").read_text())["model_type"] == "t5"
    loader = T5EncoderModel if is_t5 else AutoModel
    transformer, tokenizer = loader.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    features = tokenizer(TEXTS, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
    with torch.no_grad():
        states = transformer(**features).last_hidden_state
    rows = [row[mask.bool()] for row, mask in zip(states, features["attention_mask"])]
    return torch.stack([row.mean(dim=0) if pooling == "mean" else row[-1] for row in rows]).numpy()


def test_embeddings_are_those_of_transformers_own_padded_forward(architecture, opened):
    model, folder = opened(architecture)
    expected = by_transformers(folder, pooling_of(architecture))
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=1e-5)
    spread = expected.std(axis=0).max()
    assert spread > 0.01, "embeddings that are all alike would show nothing"


def test_packed_rows_give_what_padded_ones_give_however_they_are_pooled(architecture, opened):
    transformer = copy.copy(opened(architecture)[0][0])
    model = SentenceTransformer(modules=[transformer, Pooling(32, Pooling.POOLING_MODES)], device="cpu")
    assert transformer.can_pack is (transformer.auto_model.config.model_type in (*PACKABLE, "mpnet"))
    packed = model.encode(TEXTS)
    assert packed.shape == (len(TEXTS), 32 * len(Pooling.POOLING_MODES))
    transformer.unpad_inputs = False
    assert not transformer.can_pack
    np.testing.assert_allclose(packed, model.encode(TEXTS), atol=2e-5)


def test_every_architecture_that_is_packed_is_tested_here(opened):
    tested = {kind.model_type for kind in FAMILIES.values()} | set(LIKE_ROBERTA.values())
    assert tested >= PACKABLE | set(CLASSES)


def test_token_embeddings_are_the_same_packed_and_padded(model):
    packed = model.encode(TEXTS, output_value="token_embeddings")
    model[0].unpad_inputs = False
    try:
        padded = model.encode(TEXTS, output_value="token_embeddings")
    finally:
        model[0].unpad_inputs = None
    assert [len(row) for row in packed] == model[0].read_rows(TEXTS).lengths
    for one, other in zip(packed, padded, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_batch_size_order_and_chunks_make_no_difference(model):
    expected = model.encode(TEXTS)
    assert np.array_equal(model.encode(TEXTS), expected)
    for batch_size in (1, 3, 32):
        np.testing.assert_allclose(model.encode(TEXTS, batch_size=batch_size), expected, **EQUAL)
    order = list(range(len(TEXTS)))
    random.Random(0).shuffle(order)
    np.testing.assert_allclose(model.encode([TEXTS[number] for number in order]), expected[order], **EQUAL)
    chunked = [model.encode(TEXTS[start : start + 5]) for start in range(0, len(TEXTS), 5)]
    np.testing.assert_allclose(np.concatenate(chunked), expected, **EQUAL)
    for number in (0, 1, 7, 9):
        np.testing.assert_allclose(model.encode(TEXTS[number]), expected[number], **EQUAL)


def test_a_saved_model_gives_the_same_after_loading(model, tmp_path):
    expected = model.encode(TEXTS)
    model.save(str(tmp_path / "saved"))
    loaded = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    np.testing.assert_allclose(loaded.encode(TEXTS), expected, atol=1e-6)
    assert loaded.max_seq_length == model.max_seq_length
    np.testing.assert_array_equal(model.encode(TEXTS), expected)  # saving leaves the model as it was


def test_encoding_changes_neither_the_tokenizer_nor_what_the_model_gives_to_others(model):
    tokenizer = model.tokenizer
    before = tokenizer(TEXTS[:3])["input_ids"], tokenizer.backend_tokenizer.to_str()
    features = tokenizer(TEXTS[:3], padding=True, return_tensors="pt")
    with torch.no_grad():
        states = model[0].auto_model(**features).last_hidden_state
        model.encode(TEXTS)
        assert torch.equal(model[0].auto_model(**features).last_hidden_state, states)
    assert (tokenizer(TEXTS[:3])["input_ids"], tokenizer.backend_tokenizer.to_str()) == before


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "calls"), [("bert", 1000), ("llama", 160), ("deberta-v2", 80)])
def test_many_threads_each_get_the_rows_of_their_own_texts(opened, architecture, calls):
    model = opened(architecture)[0]
    texts = [f"{text} {number}" for number, text in enumerate(sample_texts())]
    expected = model.encode(texts)
    outcome = []

    def encode(seed):
        choose = random.Random(seed)
        for _ in range(calls // 16 + 1):
            chosen = choose.choices(range(len(texts)), k=choose.choice([1, 2, 5, 9]))
            found = model.encode([texts[number] for number in chosen])
            outcome.append(float(np.abs(found - expected[chosen]).max()))

    threads = [threading.Thread(target=encode, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcome) >= calls
    assert max(outcome) < 1e-5


def trained(model):
    """A copy of a model to train, with dropout off wherever a part keeps its share of it."""
    model = copy.deepcopy(model).train()
    for part in model.modules():
        for name, value in list(vars(part).items()):
            if "dropout" in name and isinstance(value, float):
                setattr(part, name, 0.0)
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    return model


def gradients_of(model):
    """Of a sum over sentence and token embeddings in which no two places count alike; and those embeddings."""
    features = model.preprocess(TEXTS)
    mask = features["attention_mask"][..., None]
    outputs = model(dict(features))
    tokens, sentences = outputs["token_embeddings"] * mask, outputs["sentence_embedding"]
    total = sum(
        (values * torch.linspace(-1, 1, values.numel()).view(values.shape)).sum()
        for values in (tokens, sentences)
    )
    total.backward()
    gradients = {
        name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None
    }
    return tokens.detach(), sentences.detach(), gradients


def test_training_without_padding_has_the_gradients_of_training_with_it(architecture, model):
    packed, padded = trained(model), trained(model)
    padded[0].unpad_inputs = False
    is_packable = packed[0].auto_model.config.model_type in PACKABLE
    assert packed[0].computes_no_padding == is_packable
    assert not padded[0].computes_no_padding
    if not is_packable:
        return
    tokens, sentences, gradients = gradients_of(packed)
    tokens_expected, sentences_expected, expected = gradients_of(padded)
    torch.testing.assert_close(tokens, tokens_expected, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(sentences, sentences_expected, atol=2e-5, rtol=1e-4)
    # Of a row by itself in the padded model; the bias of a key changes nothing, and its gradient is rounding.
    assert gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(
            gradients[name], gradient, atol=1e-4 * max(scale, 1.0), rtol=1e-3, msg=f"{architecture}: {name}"
        )


def test_layers_are_seen_in_training_without_padding_too(model):
    packed, padded = trained(model), trained(model)
    padded[0].unpad_inputs = False
    features = {**packed.preprocess(TEXTS[:5]), "output_hidden_states": True}
    mask = features["attention_mask"][..., None]
    found, expected = packed(dict(features)), padded(dict(features))
    assert len(found["all_layer_embeddings"]) == len(expected["all_layer_embeddings"])
    for one, other in zip(found["all_layer_embeddings"], expected["all_layer_embeddings"], strict=True):
        torch.testing.assert_close(one * mask, other * mask, atol=2e-5, rtol=1e-4)
