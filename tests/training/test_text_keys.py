from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from datasets import Dataset, disable_progress_bars, enable_progress_bars
from hypothesis import given
from hypothesis import strategies as st

from sentence_transformers.training.text_keys import text_keys

cells = st.text(max_size=4) | st.none() | st.lists(st.text(max_size=4) | st.none(), max_size=3)


def texts_of(cell):
    return [] if cell is None else [cell] if isinstance(cell, str) else [t for t in cell if t is not None]


@given(rows=st.lists(st.tuples(cells, cells), max_size=12))
def test_keys_are_equal_exactly_where_texts_are(rows):
    keys = text_keys([{"a": a, "b": b, "label": 0} for a, b in rows], ["label"])
    texts = [text for row in rows for cell in row for text in texts_of(cell)]
    flat = [key for row in range(len(rows)) for key in keys.of_row(row)]
    assert len(flat) == len(texts)
    assert len(set(zip(texts, flat))) == len(set(texts)) == len(set(flat))


def test_labels_and_what_a_trainer_adds_are_no_inputs():
    rows = [{"a": "x", "label": 1, "dataset_name": "nli", "a_prompt_length": 3}]
    assert len(text_keys(rows, ["label", "score"]).of_row(0)) == 1


def test_rows_without_an_input_have_no_keys():
    for dataset in ([{"label": 1}] * 3, Dataset.from_dict({"label": [1, 1, 1]})):
        keys = text_keys(dataset, ["label"])
        assert [keys.of_row(row) for row in range(3)] == [[], [], []]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2))),
        (np.zeros(4, np.float32), np.ones(4, np.float32)),
        (torch.zeros(3), torch.ones(3)),
        (torch.zeros(3, dtype=torch.bfloat16), torch.ones(3, dtype=torch.bfloat16)),
        ([0.5, 1.0], [0.5, 2.0]),
        (b"one", b"other"),
        ({"bytes": b"one", "path": "a.png"}, {"bytes": b"other", "path": "a.png"}),
        ({"bytes": None, "path": "a.png"}, {"bytes": None, "path": "b.png"}),
        ([{"role": "user", "content": "one"}], [{"role": "user", "content": "other"}]),
        (complex(1), complex(2)),
        (7, 8),
    ],
    ids=lambda value: type(value).__name__,
)
def test_inputs_that_are_no_texts_count_by_their_value(one, other):
    keys = text_keys([{"a": one}, {"a": other}, {"a": one}])
    first, second, third = (keys.of_row(row) for row in range(3))
    assert len(first) == 1
    assert first == third != second


def test_the_same_image_has_the_same_key_whatever_object_holds_it():
    from PIL import Image

    red, again, blue = (Image.new("RGB", (2, 2), colour) for colour in ("red", "red", "blue"))
    keys = text_keys([{"a": red}, {"a": again}, {"a": blue}])
    assert keys.of_row(0) == keys.of_row(1) != keys.of_row(2)


def test_a_copy_of_an_image_file_has_the_same_key():
    keys = text_keys([{"a": {"bytes": b"1", "path": "a.png"}}, {"a": {"bytes": b"1", "path": "b.png"}}])
    assert keys.of_row(0) == keys.of_row(1)


def test_several_processes_give_the_same_keys():
    dataset = Dataset.from_dict({"a": [f"text {number % 7}" for number in range(25)], "label": [1] * 25})
    disable_progress_bars()
    try:
        parallel = text_keys(dataset, ["label"], rows_per_block=4, processes=2)
    finally:
        enable_progress_bars()
    alone = text_keys(dataset, ["label"], rows_per_block=4)
    np.testing.assert_array_equal(parallel.keys, alone.keys)
    np.testing.assert_array_equal(parallel.starts, alone.starts)


def test_another_process_gives_the_same_keys():
    program = (
        "from sentence_transformers.training.text_keys import text_keys;"
        "print(text_keys([{'a': 'a text'}]).of_row(0)[0])"
    )
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(other.stdout) == text_keys([{"a": "a text"}]).of_row(0)[0]
