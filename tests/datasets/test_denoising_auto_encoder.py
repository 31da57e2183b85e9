from __future__ import annotations

import numpy as np
import pytest

from sentence_transformers.datasets import DenoisingAutoEncoderDataset

TEXT = "The quick brown fox, which isn't old, jumps over the well-known dog."


@pytest.fixture(autouse=True)
def _same_chance():
    np.random.seed(0)


def test_an_item_is_a_damaged_text_and_the_text():
    dataset = DenoisingAutoEncoderDataset([TEXT, "another"])
    assert len(dataset) == 2
    damaged, text = dataset[0].texts
    assert text == TEXT
    assert 0 < len(damaged) < len(TEXT)
    assert dataset[0].label == 0


def test_each_time_other_words_are_left_out():
    dataset = DenoisingAutoEncoderDataset([TEXT])
    assert dataset[0].texts[0] != dataset[0].texts[0]


def test_six_words_in_ten_are_left_out():
    text = " ".join(f"w{number}" for number in range(5000))
    assert len(DenoisingAutoEncoderDataset.delete(text).split()) == pytest.approx(2000, abs=100)
    assert len(DenoisingAutoEncoderDataset.delete(text, del_ratio=0.1).split()) == pytest.approx(
        4500, abs=100
    )


def test_what_is_left_is_in_order_and_written_as_before():
    assert DenoisingAutoEncoderDataset.delete(TEXT, del_ratio=0) == TEXT
    for _ in range(20):
        left = DenoisingAutoEncoderDataset.delete(TEXT)
        at = 0
        for word in left.replace(",", " ,").replace(".", " .").split():
            at = TEXT.index(word, at) + len(word)


@pytest.mark.parametrize("text", ["one", "one two", "!"])
def test_at_least_one_word_stays(text):
    assert DenoisingAutoEncoderDataset.delete(text, del_ratio=1) in text.split()


@pytest.mark.parametrize("text", ["", "  "])
def test_a_text_without_words_stays_as_it_is(text):
    assert DenoisingAutoEncoderDataset.delete(text) == text


def test_another_noise_can_be_given():
    dataset = DenoisingAutoEncoderDataset(["abc"], noise_fn=lambda text: text[::-1])
    assert dataset[0].texts == ["cba", "abc"]
