"""Pairs joined from the ids of their texts are what the tokenizer makes of them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from sentence_transformers.modules.transformer.pairs import cuts_as_expected, shares
from sentence_transformers.modules.transformer.text import TextTokenizer
from tiny import FAMILIES, sample_texts, tiny_tokenizer

# The tokenizers make every combination of what they cut off two texts: with longer ones they take seconds.
TEXTS = [*sample_texts()[:4], "", " ", "a", "\n b", " ".join(sample_texts()[:12]), "東京 naïve"]


def by_the_tokenizer(tokenizer, pairs, limit):
    """Ids and type ids as transformers gives them."""
    encoded = tokenizer(
        [first for first, _ in pairs],
        [second for _, second in pairs],
        truncation="longest_first",
        max_length=limit,
        return_token_type_ids=True,
    )
    return encoded["input_ids"], encoded["token_type_ids"]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", FAMILIES)
def test_joined_pairs_are_those_of_the_tokenizer(family, side):
    tokenizer = tiny_tokenizer(family)
    tokenizer.truncation_side = side
    pairs = list(itertools.product(TEXTS, TEXTS))
    for limit in (11, 12, 40):
        text = TextTokenizer(tokenizer, max_length=limit)
        rows = text.rows(pairs)
        assert text._joins_pairs
        ids, kinds = by_the_tokenizer(tokenizer, pairs, limit)
        assert [list(row) for row in rows.ids] == ids
        if rows.type_ids is not None:
            assert [list(row) for row in rows.type_ids] == kinds


@given(st.lists(st.tuples(st.text(max_size=60), st.text(max_size=60)), min_size=1, max_size=4))
def test_any_pairs_are_joined_as_the_tokenizer_does(pairs):
    pairs = [tuple(text.encode("utf-8", "replace").decode("utf-8") for text in pair) for pair in pairs]
    for family in ("bert", "modernbert", "xlm-roberta"):
        tokenizer = CACHED.setdefault(family, tiny_tokenizer(family))
        text = CACHED.setdefault((family, "text"), TextTokenizer(tokenizer, max_length=17))
        assert [list(row) for row in text.rows(pairs).ids] == by_the_tokenizer(tokenizer, pairs, 17)[0]


CACHED: dict = {}


def test_the_longer_text_is_cut_first():
    assert cuts_as_expected()
    assert shares(2, 9, 8) == (2, 6)
    assert shares(9, 2, 8) == (6, 2)
    assert shares(9, 9, 7) == (3, 4)
    assert shares(10, 9, 7) == (4, 3)


def test_each_distinct_text_is_read_once():
    text = TextTokenizer(tiny_tokenizer("bert"), max_length=64)
    text.rows([("a", "b")])
    read = []

    class Counting:
        def __init__(self, backend):
            self.backend = backend

        def __getattr__(self, name):
            return getattr(self.backend, name)

        def encode_batch_fast(self, texts, **options):
            read.extend(texts)
            return self.backend.encode_batch_fast(texts, **options)

    text._backend = Counting(text._backend)
    text.rows([("a query", document) for document in sample_texts()])
    assert sorted(read) == sorted(["a query", *sample_texts()])


def test_a_tokenizer_that_turns_pairs_around_is_left_alone():
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({"[S]": 0, "a": 1, "b": 2, "[U]": 3}, unk_token="[U]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = TemplateProcessing(
        single="[S] $A", pair="[S] $B [S] $A", special_tokens=[("[S]", 0)]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[S]", unk_token="[U]")
    text = TextTokenizer(tokenizer, max_length=10)
    assert text.rows([("a a", "b")]).ids[0] == [0, 2, 0, 1, 1]
    assert not text._joins_pairs
