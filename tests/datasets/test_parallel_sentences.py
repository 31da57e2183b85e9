from __future__ import annotations

import gzip
import random
from collections import Counter

import numpy as np
import pytest

from sentence_transformers.datasets import ParallelSentencesDataset

ROWS = [["one", "eins", "un"], ["two", "zwei"], ["one", "uno"], ["four", "four"]]
SENTENCES_BY_SOURCE = {"one": ["one", "eins", "un", "uno"], "two": ["two", "zwei"], "four": ["four"]}


class Teacher:
    """Embeds a text as the numbers of its characters, and counts what it was asked for."""

    def __init__(self):
        self.asked: list[str] = []

    def encode(self, sentences, *, batch_size, show_progress_bar, convert_to_numpy):
        self.asked += sentences
        return np.array([embedding_of(sentence) for sentence in sentences])


def embedding_of(sentence):
    return [len(sentence), ord(sentence[0]), ord(sentence[-1])]


@pytest.fixture(autouse=True)
def _same_chance():
    random.seed(0)


def dataset_of(*parts, **options):
    dataset = ParallelSentencesDataset(None, Teacher(), **options)
    for rows, weight in parts:
        dataset.add_dataset(rows, weight=weight)
    return dataset


def test_a_sentence_is_labelled_with_the_embedding_of_its_source():
    dataset = dataset_of((ROWS, 100))
    source_by_sentence = {s: source for source, all_of in SENTENCES_BY_SOURCE.items() for s in all_of}
    assert len(dataset) == 7
    for item in range(len(dataset)):
        example = dataset[item]
        source = source_by_sentence[example.texts[0]]
        assert example.label.tolist() == embedding_of(source)


def test_a_pass_over_one_data_set_gives_every_sentence():
    dataset = dataset_of((ROWS, 100))
    for _ in range(3):
        given = [example.texts[0] for example in dataset]
        assert sorted(given) == sorted(s for all_of in SENTENCES_BY_SOURCE.values() for s in all_of)


def test_weights_say_how_often_a_data_set_is_drawn_from():
    parts = [[f"{name}{row}", f"{name}{row} again"] for name in "ab" for row in range(40)]
    dataset = dataset_of((parts[:40], 3), (parts[40:], 1))
    counts = Counter(dataset[0].texts[0][0] for _ in range(4000))
    assert counts["a"] / counts["b"] == pytest.approx(3, rel=0.2)


@pytest.mark.parametrize(("use_cache", "times"), [(True, 1), (False, 3)])
def test_a_cached_embedding_is_computed_once(use_cache, times):
    dataset = dataset_of((ROWS, 100), use_embedding_cache=use_cache)
    for _ in range(3):
        list(dataset)
    assert Counter(dataset.teacher_model.asked) == dict.fromkeys(SENTENCES_BY_SOURCE, times)


@pytest.mark.parametrize("name", ["talks.tsv", "talks.tsv.gz"])
def test_a_file_is_read_packed_or_plain(name, tmp_path):
    text = "one\teins\tun\n\ntwo\tzwei\r\n"
    open_file = gzip.open if name.endswith(".gz") else open
    with open_file(tmp_path / name, "wt", encoding="utf-8") as file:
        file.write(text)
    dataset = dataset_of()
    dataset.load_data(str(tmp_path / name))
    assert dataset.datasets == [[["one", "eins", "un"], ["two", "zwei"]]]


def test_long_and_surplus_sentences_are_left_out(caplog):
    dataset = dataset_of()
    dataset.add_dataset([["a", "b" * 129], ["c", "d"], ["e", "f"], ["g", "h"]], max_sentences=2)
    assert dataset.datasets == [[["c", "d"], ["e", "f"]]]
    dataset.add_dataset([["a" * 9]], max_sentence_length=8)
    assert "max_sentence_length=8" in caplog.text
    assert len(dataset) == 4


def test_a_data_set_without_sentences_has_no_item():
    dataset = dataset_of()
    assert len(dataset) == 0
    with pytest.raises(IndexError, match="load_data"):
        dataset[0]
    with pytest.raises(ValueError, match="weight=0"):
        dataset.add_dataset(ROWS, weight=0)
