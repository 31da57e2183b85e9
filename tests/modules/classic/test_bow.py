from __future__ import annotations

import json

import pytest
import torch

from sentence_transformers.modules.classic.bow import BoW, weights_of


def test_each_dimension_counts_its_word_times_its_weight():
    bow = BoW(["hello", "world", "the", "Day"], {"hello": 0.5, "World": 3.0, "day": 2}, unknown_word_weight=7)
    features = bow.preprocess(["hello hello world", "the Day day! other", ""])
    # Recorded from the reference, release 6.2.0. "day" is not in the vocabulary, "Day" is weighted as "day".
    expected = [[1.0, 7.0, 0.0, 0.0], [0.0, 0.0, 7.0, 2.0], [0.0, 0.0, 0.0, 0.0]]
    torch.testing.assert_close(bow(features)["sentence_embedding"], torch.tensor(expected))


def test_without_cumulative_frequency_a_word_counts_once():
    bow = BoW(["hello", "world"], {"hello": 3}, cumulative_term_frequency=False)
    embedding = bow.preprocess(["hello hello", "world hello"])["sentence_embedding"]
    assert embedding.tolist() == [[3.0, 0.0], [3.0, 1.0]]


def test_repeated_words_of_the_vocabulary_share_a_dimension():
    bow = BoW(["a1", "b1", "a1"])
    assert bow.vocab == ["a1", "b1"]
    assert bow.get_embedding_dimension() == bow.get_sentence_embedding_dimension() == 2


def test_a_prompt_is_counted_too():
    bow = BoW(["query", "word"])
    assert bow.preprocess(["word"], prompt="query: ")["sentence_embedding"].tolist() == [[1.0, 1.0]]


def test_no_texts_give_no_rows():
    assert BoW(["a1", "b1"]).preprocess([])["sentence_embedding"].shape == (0, 2)


def test_numbers_of_words_are_counted_directly():
    features = BoW(["a1", "b1"]).get_sentence_features([[0, 0, 1], []], 5)
    assert features["sentence_embedding"].tolist() == [[2.0, 1.0], [0.0, 0.0]]


def test_saved_and_loaded_equal(tmp_path):
    bow = BoW(["b1", "a1"], {"a1": 0.25}, unknown_word_weight=2.5, cumulative_term_frequency=False)
    bow.save(str(tmp_path))
    assert list(json.loads((tmp_path / "config.json").read_text())) == [
        "vocab",
        "word_weights",
        "unknown_word_weight",
        "cumulative_term_frequency",
    ]
    loaded = BoW.load(input_path=str(tmp_path))
    assert loaded.get_config_dict() == bow.get_config_dict()
    texts = ["a1 b1 a1", "b1"]
    torch.testing.assert_close(loaded.tokenize(texts), bow.tokenize(texts))


def test_the_default_weights_are_not_shared_between_parts():
    BoW(["a1"]).word_weights["a1"] = 5.0
    assert BoW(["a1"]).word_weights == {}


def test_weights_are_looked_up_as_written_and_then_in_lower_case():
    assert weights_of(["Day", "day", "x"], {"Day": 1, "day": 0}, 9) == pytest.approx([1, 0, 9])
    assert weights_of(["Day"], {"day": 0}, 9) == [0]
