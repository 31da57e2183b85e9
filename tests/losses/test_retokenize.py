"""Texts read back out of features."""

from __future__ import annotations

import copy

import pytest
import torch
from sentence_transformers.sentence_transformer.modules.tokenizer import WhitespaceTokenizer

from sentence_transformers import SentenceTransformer
from sentence_transformers.losses.features import token_rows
from sentence_transformers.losses.retokenize import reads_the_same, retokenized, texts_of
from sentence_transformers.models import Pooling, StaticEmbedding, Transformer, WordEmbeddings
from tiny import WIDTH, sample_texts, tiny_checkpoint, tiny_tokenizer

TEXTS = [text[: 15 * (number + 1)] for number, text in enumerate(sample_texts()[:3])]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    families = ("bert", "electra", "roberta", "qwen3")
    return {family: str(tiny_checkpoint(family, tmp_path_factory.mktemp(family))) for family in families}


def model_of(folder: str) -> SentenceTransformer:
    return SentenceTransformer(folder, device="cpu")


def static_model() -> SentenceTransformer:
    return SentenceTransformer(
        modules=[StaticEmbedding(tiny_tokenizer("bert"), embedding_dim=WIDTH)], device="cpu"
    )


def test_the_ids_of_rows_are_those_of_one_text_after_the_other(folders):
    for model in (model_of(folders["bert"]), model_of(folders["qwen3"]), static_model()):
        alone = [token_rows(model.preprocess([text]))[0] for text in TEXTS]
        assert len(set(map(len, alone))) > 1
        assert token_rows(model.preprocess(TEXTS)) == alone
    first = model_of(folders["bert"])[0]
    packed = first.collate_rows(first.read_rows(TEXTS), packed=True)
    assert token_rows(packed) == token_rows(first.preprocess(TEXTS))
    assert token_rows({"sentence_embedding": torch.zeros(3, 2)}) is None


@pytest.mark.parametrize("family", ["roberta", "qwen3"])
def test_texts_come_back_without_special_tokens(folders, family):
    model = model_of(folders[family])
    known = [
        model.tokenizer.decode(model.tokenizer(text)["input_ids"], skip_special_tokens=True) for text in TEXTS
    ]
    assert texts_of(model.tokenizer, model.preprocess(TEXTS)) == known
    assert all(word in known[2].lower() for word in TEXTS[2].lower().split()[:2])


def test_models_of_one_tokenizer_read_the_same_as_long_as_the_other_reads_as_much(folders):
    model, other = model_of(folders["bert"]), model_of(folders["electra"])
    assert reads_the_same(model, model)
    assert reads_the_same(model, other)
    other.max_seq_length = 20
    assert not reads_the_same(model, other)
    assert reads_the_same(other, model)


@pytest.mark.parametrize("how", ["vocabulary", "special tokens", "lower case", "flat"])
def test_models_that_differ_in_their_tokens_do_not_read_the_same(folders, how):
    model, other = model_of(folders["bert"]), model_of(folders["bert"])
    if how == "vocabulary":
        other = copy.deepcopy(other)
        other.tokenizer.add_tokens(["asthma"])
    elif how == "special tokens":
        from tokenizers.processors import TemplateProcessing

        other.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="[CLS] $A", special_tokens=[("[CLS]", other.tokenizer.cls_token_id)]
        )
    elif how == "lower case":
        from tokenizers.normalizers import BertNormalizer

        other.tokenizer.backend_tokenizer.normalizer = BertNormalizer(lowercase=False)
    else:
        other = static_model()
    assert not reads_the_same(model, other)
    assert not reads_the_same(other, model)


def test_features_for_another_model_are_those_it_makes_of_the_text(folders):
    model, other = model_of(folders["bert"]), model_of(folders["roberta"])
    found = retokenized(model, other, model.preprocess(TEXTS))
    expected = other.preprocess(texts_of(model.tokenizer, model.preprocess(TEXTS)))
    assert found.keys() == expected.keys()
    assert all(found[name].equal(expected[name]) for name in expected)


def test_a_tokenizer_that_cannot_spell_is_refused(folders):
    words = WhitespaceTokenizer(["what", "causes", "asthma"], stop_words=[], do_lower_case=True)
    model = SentenceTransformer(
        modules=[WordEmbeddings(words, torch.randn(4, WIDTH)), Pooling(WIDTH)], device="cpu"
    )
    other = SentenceTransformer(modules=[Transformer(folders["bert"]), Pooling(WIDTH)], device="cpu")
    assert not reads_the_same(model, other)
    with pytest.raises(
        ValueError, match=r"WhitespaceTokenizer made features.*one that reads the same tokens"
    ):
        retokenized(model, other, model.preprocess(["what causes asthma"]))
