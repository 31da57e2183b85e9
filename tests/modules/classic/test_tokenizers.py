"""Word tokenizers. Where a test names numbers without deriving them, they were recorded by running the
reference library, releases 3.4.1 and 6.2.0 (which agree), on the same vocabulary and text."""

from __future__ import annotations

import json
import sys

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from sentence_transformers.modules.classic.tokenizers import (
    ENGLISH_STOP_WORDS,
    PhraseTokenizer,
    TransformersTokenizerWrapper,
    WhitespaceTokenizer,
    WordTokenizer,
    saved_name,
    tokenizer_class,
)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("hello world the", [0, 1]),
        ("Hello, world!", [0, 1]),
        ("hello. the Good good", [0, 3]),
        ("x-y U.S. it's", [4, 5, 6]),
        ("day\n day\thello", [7, 7, 0]),
        ("(b) ((b)) 'hello'", [8, 0]),
        ("world-hello", []),
        ("  ", []),
        ("", []),
    ],
)
def test_whitespace_tokenizer_finds_the_words_the_reference_finds(text, numbers):
    vocab = ["hello", "world", "the", "Good", "x-y", "U.S.", "it's", "day", "(b)"]
    assert WhitespaceTokenizer(vocab, stop_words=["the"]).tokenize(text) == numbers


@pytest.mark.parametrize(
    ("word", "numbers"),
    [
        ("the!", [0]),  # known as it stands, before its bare form is found to be a stop word
        ("The!", [1]),
        ("THE", []),
        ("(the)", []),
        ("Hello!", [5]),  # without punctuation first, then in lower case
        ("HELLO!", [6]),
        ("“hello”", []),  # only ASCII punctuation is taken off
    ],
)
def test_whitespace_tokenizer_tries_word_then_bare_word_then_lower_case(word, numbers):
    vocab = ["the!", "The", "the", "(The)", "hello!", "hello", "HELLO"]
    assert WhitespaceTokenizer(vocab, stop_words=["the"]).tokenize(word) == numbers


def test_lower_casing_leaves_capitals_of_the_vocabulary_unfound():
    tokenizer = WhitespaceTokenizer(["hello", "World", "the"], stop_words=["The"], do_lower_case=True)
    assert tokenizer.tokenize("Hello World The") == [0, 2]


def test_a_repeated_word_has_the_number_of_its_last_place():
    assert WhitespaceTokenizer(["a1", "b1", "a1"]).tokenize("a1 b1") == [2, 1]


def test_the_default_stop_words_are_left_out():
    tokenizer = WhitespaceTokenizer(["the", "cat", "sat"])
    assert tokenizer.tokenize("The cat sat on the mat") == [1, 2]
    assert len(ENGLISH_STOP_WORDS) == len(set(ENGLISH_STOP_WORDS)) == 386
    assert {"\\", "''", "yourselves"} <= set(ENGLISH_STOP_WORDS)


PLACES = [
    "new",
    "york",
    "new_york",
    "city",
    "new_york_city",
    "don't",
    "do",
    "n't",
    "i",
    "love",
    "great",
    "Cat",
]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("I love New York City", [9, 4]),
        ("York new york city", [1, 4]),
        ("don't", [6, 7]),
        ("new the york", [0, 1]),
        ("great! new, york", [10, 0, 1]),
        ("Cat cat", [11]),
        ("new york new york city", [2, 4]),
        ("i i new i york", [0, 1]),
        ("", []),
    ],
)
def test_phrase_tokenizer_finds_the_phrases_the_reference_finds(text, numbers):
    pytest.importorskip("nltk")
    assert PhraseTokenizer(PLACES, stop_words=["i", "the"]).tokenize(text) == numbers


def test_longer_phrases_win_over_earlier_ones():
    pytest.importorskip("nltk")
    tokenizer = PhraseTokenizer(["a_b", "b_c_d", "a", "c", "d"], stop_words=[])
    assert tokenizer.tokenize("a b c d") == [2, 1]


def test_stop_words_inside_a_phrase_stay():
    pytest.importorskip("nltk")
    assert PhraseTokenizer(["a_b", "b"], stop_words=["a"]).tokenize("a b a") == [0]


def test_a_phrase_longer_than_the_limit_is_not_looked_for():
    pytest.importorskip("nltk")
    tokenizer = PhraseTokenizer(["a_b_c", "c"], stop_words=[], max_ngram_length=2)
    assert tokenizer.ngram_lookup == set()
    assert tokenizer.tokenize("a b c") == [1]


def test_phrases_are_looked_up_in_lower_case_before_punctuation_is_taken_off():
    pytest.importorskip("nltk")
    assert PhraseTokenizer(["hello-", "hello", "HELLO"], stop_words=[]).tokenize("HELLO-") == [0]


def test_an_empty_separator_is_refused():
    with pytest.raises(ValueError, match="ngram_separator=''"):
        PhraseTokenizer(["a"], ngram_separator="")


def test_missing_nltk_is_reported_with_the_install_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "nltk", None)
    monkeypatch.setitem(sys.modules, "nltk.tokenize", None)
    tokenizer = PhraseTokenizer(["a"])
    with pytest.raises(ImportError, match="pip install nltk"):
        tokenizer.tokenize("a")


@pytest.mark.parametrize(
    ("tokenizer", "file", "keys"),
    [
        (
            WhitespaceTokenizer(["b", "a", "é"], stop_words=["x", "c"], do_lower_case=True),
            "whitespacetokenizer_config.json",
            ["vocab", "stop_words", "do_lower_case"],
        ),
        (
            PhraseTokenizer(["b", "a+b"], stop_words=["x"], ngram_separator="+", max_ngram_length=3),
            "phrasetokenizer_config.json",
            ["vocab", "stop_words", "do_lower_case", "ngram_separator", "max_ngram_length"],
        ),
    ],
    ids=["whitespace", "phrase"],
)
def test_a_saved_tokenizer_loads_with_all_its_settings(tokenizer, file, keys, tmp_path):
    tokenizer.save(str(tmp_path))
    assert list(json.loads((tmp_path / file).read_text(encoding="utf-8"))) == keys
    loaded = type(tokenizer).load(str(tmp_path))
    assert vars(loaded) == vars(tokenizer)
    assert list(loaded.get_vocab()) == list(tokenizer.get_vocab())


@pytest.fixture
def fast_tokenizer():
    vocab = {"[UNK]": 0, "[PAD]": 1, "hello": 2, "world": 3, "[CLS]": 4}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 4)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]")


def test_wrapped_tokenizer_gives_its_ids_with_special_tokens(fast_tokenizer):
    wrapped = TransformersTokenizerWrapper(fast_tokenizer)
    assert wrapped.tokenize("hello world foo") == [4, 2, 3, 0]
    assert wrapped.get_vocab()["world"] == 3


def test_wrapped_tokenizer_refuses_another_vocabulary(fast_tokenizer):
    with pytest.raises(ValueError, match="cannot be replaced"):
        TransformersTokenizerWrapper(fast_tokenizer).set_vocab(["hello"])


def test_wrapped_tokenizer_survives_saving(fast_tokenizer, tmp_path):
    TransformersTokenizerWrapper(fast_tokenizer).save(str(tmp_path))
    assert TransformersTokenizerWrapper.load(str(tmp_path)).tokenize("hello foo") == [4, 2, 0]


class OwnTokenizer(WhitespaceTokenizer):
    """What a user may derive."""


def test_the_name_to_save_leads_back_to_the_class():
    for kind in (WhitespaceTokenizer, PhraseTokenizer):
        assert tokenizer_class(saved_name(kind())) is kind


@pytest.mark.parametrize(
    "name",
    [
        "sentence_transformers.models.tokenizer.WhitespaceTokenizer.WhitespaceTokenizer",
        "sentence_transformers.models.tokenizer.WhitespaceTokenizer",
        "sentence_transformers.sentence_transformer.modules.tokenizer.whitespace.WhitespaceTokenizer",
    ],
)
def test_names_of_every_release_are_understood(name):
    assert tokenizer_class(name) is WhitespaceTokenizer


def test_an_imported_class_of_the_users_own_is_accepted(monkeypatch):
    monkeypatch.setitem(sys.modules, OwnTokenizer.__module__, sys.modules[__name__])
    assert tokenizer_class(saved_name(OwnTokenizer())) is OwnTokenizer


@pytest.mark.parametrize("name", ["os.system", "nowhere.Tokenizer", "sentence_transformers.models.Dense"])
def test_anything_else_is_refused(name):
    with pytest.raises(ValueError, match="import its module"):
        tokenizer_class(name)


def test_the_base_class_cannot_be_used_by_itself():
    with pytest.raises(TypeError, match="abstract"):
        WordTokenizer()
