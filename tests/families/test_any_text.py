"""Whatever characters a text is made of, and however many."""

from __future__ import annotations

import random
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentence_transformers import SentenceTransformer
from sentence_transformers.modules.transformer import text as text_module
from sentence_transformers.modules.transformer.text import TextTokenizer
from tiny import MAX_TOKENS, sample_texts, tiny_checkpoint, tiny_tokenizer

ANYTHING = (
    st.characters()
    | st.characters(categories=["Cs"])
    | st.sampled_from("  \t\n\u200d\ufe0f\u0301\x00👩🏽‍🔬é한ß中")
)
TEXTS = st.text(ANYTHING, max_size=40) | st.sampled_from(
    ["", " ", "\n\t ", "\ud83d", "\udc00\ud83d\ude00", "👨‍👩‍👧", "word"]
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return SentenceTransformer(str(tiny_checkpoint("bert", tmp_path_factory.mktemp("bert"))), device="cpu")


@settings(deadline=None, max_examples=60)
@given(st.lists(TEXTS, min_size=1, max_size=8))
def test_a_list_of_any_texts_gives_the_rows_of_each_by_itself(model, texts):
    found = model.encode(texts)
    assert found.shape == (len(texts), 32)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, np.stack([model.encode(text) for text in texts]), atol=5e-6)


@pytest.mark.parametrize(
    ("broken", "whole"),
    [("a \ud83d b", "a \ufffd b"), ("\udc00", "\ufffd"), ("\ud83d\ude00 smile", "😀 smile")],
    ids=["high", "low", "pair"],
)
def test_lone_surrogates_count_as_unreadable_characters_and_pairs_as_what_they_mean(model, broken, whole):
    np.testing.assert_array_equal(model.encode(broken), model.encode(whole))


# -- very long texts --------------------------------------------------------------------------------------

WORDS = " ".join(sample_texts()).split()
TOKENIZERS = ("bert", "roberta", "xlm-roberta", "qwen3", "llama", "t5")


@cache
def long_texts():
    choose = random.Random(0)
    many_words = " ".join(choose.choices(WORDS, k=25_000))
    assert len(many_words) > 100_000
    return {
        "words": many_words,
        "lines": "\n".join(choose.choices(WORDS, k=25_000)),
        "no spaces": "".join(choose.choices(WORDS, k=25_000)),
        "one letter": "a" * 120_000,
        "long words": " ".join("".join(choose.choices(WORDS, k=400)) for _ in range(60)),
        "a gap": "a few words" + " " * 120_000 + "and some more",
        "many gaps": (" " * 40).join(choose.choices(WORDS, k=4_000)),
        "other spaces": "\u00a0".join(choose.choices(WORDS, k=25_000)),
        "no letters": "!?" * 60_000,
        "emoji": "👩🏽‍🔬 " * 20_000,
        "chinese": "中文字" * 40_000,
        "accents": "e\u0301 " * 40_000,
        "surrogates": "\ud83d " * 50_000,
        "a late start": " " * 50_000 + many_words,
    }


@pytest.mark.parametrize("family", TOKENIZERS)
def test_a_very_long_text_gives_the_tokens_of_truncating_it_whole(family):
    tokenizer = tiny_tokenizer(family)
    ours = TextTokenizer(tokenizer, max_length=MAX_TOKENS)
    for name, text in long_texts().items():
        readable = text.replace("\ud83d", "\ufffd")
        whole = tokenizer(readable, truncation=True, max_length=MAX_TOKENS)["input_ids"]
        assert ours.rows([text]).ids[0] == whole, name
        assert len(whole) <= MAX_TOKENS


cached_tokenizer = cache(tiny_tokenizer)


@pytest.mark.parametrize("family", TOKENIZERS)
@settings(deadline=None, max_examples=30)
@given(
    pieces=st.lists(
        st.sampled_from([*WORDS[:40], " ", "  ", "\n", "\t", "中", "é", "👩🏽‍🔬", "…", "-", "1"]),
        min_size=1,
        max_size=60,
    ),
    separator=st.sampled_from(["", " ", "  ", "\n", " \t"]),
    limit=st.integers(4, 24),
)
def test_a_prefix_of_a_long_text_is_cut_where_it_makes_no_difference(family, pieces, separator, limit):
    text = separator.join(pieces) * 40
    tokenizer = cached_tokenizer(family)
    whole = tokenizer(text, truncation=True, max_length=limit)["input_ids"]
    ours = TextTokenizer(tokenizer, max_length=limit)
    assert ours.rows([text, "short"]).ids[0] == whole


def test_only_a_prefix_of_a_very_long_text_is_tokenised_where_there_are_words():
    ours = TextTokenizer(tiny_tokenizer("bert"), max_length=MAX_TOKENS)
    reach = text_module.CHARACTERS_PER_TOKEN * (MAX_TOKENS + text_module.SPARE_TOKENS)
    prefix = ours._safe_prefix(long_texts()["words"], reach)
    assert len(prefix) <= reach
    assert long_texts()["words"][len(prefix)] == " "


def test_a_very_long_text_encodes_as_its_beginning(model):
    text = long_texts()["words"]
    start = " ".join(text.split()[:2000])
    np.testing.assert_array_equal(model.encode(text), model.encode(start))
    np.testing.assert_allclose(model.encode([text, "word", start])[0], model.encode(start), atol=5e-6)
