"""Embeddings on disk: read again when nothing changed, and computed again when something did."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from torch import nn

from sentence_transformers.search.hard_negatives.embedding_cache import cache_key, cached_embeddings


class Counter:
    """Embeds texts as their lengths, and counts what it is asked for."""

    def __init__(self, limit=None):
        self.asked = []
        self.limit = limit

    def __call__(self, texts):
        if self.limit is not None and len(self.asked) >= self.limit:
            raise KeyboardInterrupt
        self.asked.append(list(texts))
        return np.array([[len(text), 2 * len(text)] for text in texts], dtype=np.float32)


TEXTS = ["a", "bb", "ccc", "dddd", "eeeee"]
EXPECTED = [[1, 2], [2, 4], [3, 6], [4, 8], [5, 10]]


def embedded(folder, embed, texts=TEXTS):
    return cached_embeddings(folder, "key", texts, embed, part_rows=2)


def test_what_was_embedded_is_read(tmp_path):
    first, second = Counter(), Counter()
    assert embedded(tmp_path, first).tolist() == EXPECTED
    assert [len(texts) for texts in first.asked] == [2, 2, 1]
    again = embedded(tmp_path, second)
    assert again.tolist() == EXPECTED
    assert not second.asked
    assert isinstance(again, np.memmap)
    assert [path.name for path in tmp_path.iterdir()] == ["key.npy"]


def test_the_file_is_one_that_numpy_reads(tmp_path):
    embedded(tmp_path, Counter())
    assert np.load(tmp_path / "key.npy").tolist() == EXPECTED


def test_an_interrupted_run_goes_on_behind_its_last_part(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        embedded(tmp_path, Counter(limit=2))
    embed = Counter()
    assert embedded(tmp_path, embed).tolist() == EXPECTED
    assert embed.asked == [["eeeee"]]
    assert [path.name for path in tmp_path.iterdir()] == ["key.npy"]


@pytest.mark.parametrize("damage", ["cut", "one byte", "header", "empty", "another shape"])
def test_a_damaged_file_is_computed_again(tmp_path, damage, caplog):
    embedded(tmp_path, Counter())
    path = tmp_path / "key.npy"
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[:-12]
    elif damage == "one byte":
        data[-10] ^= 1
    elif damage == "header":
        data[0] ^= 1
    elif damage == "empty":
        data = bytearray()
    else:
        other = tmp_path / "other"
        cached_embeddings(other, "key", TEXTS[:3], Counter())
        data = bytearray((other / "key.npy").read_bytes())
    path.write_bytes(data)
    embed = Counter()
    assert embedded(tmp_path, embed).tolist() == EXPECTED
    assert sum(map(len, embed.asked)) == len(TEXTS)
    assert "damaged" in caplog.text


def test_only_a_damaged_part_is_computed_again(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        embedded(tmp_path, Counter(limit=2))
    part = tmp_path / "key.parts" / "000000000.npy"
    data = bytearray(part.read_bytes())
    data[-6] ^= 4
    part.write_bytes(data)
    embed = Counter()
    assert embedded(tmp_path, embed).tolist() == EXPECTED
    assert embed.asked == [["a", "bb"], ["eeeee"]]


def test_reading_is_told(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    embedded(tmp_path, Counter())
    assert not caplog.text
    embedded(tmp_path, Counter())
    assert "Read the embeddings of 5 texts" in caplog.text


class Model(nn.Module):
    def __init__(self, truncate_dim=None):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        nn.init.ones_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)
        self.truncate_dim = truncate_dim


def test_equal_models_prompts_and_texts_have_the_same_key():
    assert cache_key(Model(), {"prompt": "p"}, TEXTS) == cache_key(Model(), {"prompt": "p"}, list(TEXTS))


def test_whatever_could_change_embeddings_changes_the_key():
    trained = Model()
    with torch.no_grad():
        trained.layer.weight[0, 0] += 1e-6
    keys = [
        cache_key(Model(), {}, TEXTS),
        cache_key(trained, {}, TEXTS),
        cache_key(Model().half(), {}, TEXTS),
        cache_key(Model(truncate_dim=1), {}, TEXTS),
        cache_key(Model(), {"prompt": "p"}, TEXTS),
        cache_key(Model(), {}, TEXTS[:-1]),
        cache_key(Model(), {}, TEXTS[::-1]),
        cache_key(Model(), {}, ["ab", "b", *TEXTS[2:]]),
        cache_key(Model(), {}, ["a", "bbb", *TEXTS[2:]]),
    ]
    assert len(set(keys)) == len(keys)


def test_texts_that_are_no_unicode_have_a_key():
    assert cache_key(Model(), {}, ["\ud800"])
