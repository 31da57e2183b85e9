"""Collections of inputs, of whatever type, as a sequence."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
import torch

from sentence_transformers.inputs.collections import as_list

TEXTS = ["one", "two", "three"]


@pytest.mark.parametrize("kind", [list, tuple])
def test_lists_and_tuples_are_taken_without_a_copy(kind):
    inputs = kind(TEXTS)
    assert as_list(inputs) is inputs


@pytest.mark.parametrize(
    "inputs",
    [
        np.array(TEXTS),
        np.array(TEXTS, dtype=object),
        deque(TEXTS),
        dict.fromkeys(TEXTS).keys(),
        iter(TEXTS),
        (text for text in TEXTS),
        map(str, TEXTS),
    ],
    ids=lambda inputs: type(inputs).__name__,
)
def test_other_collections_become_lists_in_their_order(inputs):
    found = as_list(inputs)
    assert isinstance(found, list)
    assert found == TEXTS
    assert {type(text) for text in found} == {str}


def test_columns_of_data_frames_and_data_sets_become_lists():
    pandas = pytest.importorskip("pandas")
    series = pandas.Series(TEXTS, index=[7, 3, 5])
    assert list(as_list(series)) == TEXTS
    assert list(as_list(pandas.DataFrame({"text": TEXTS})["text"])) == TEXTS
    datasets = pytest.importorskip("datasets")
    assert list(as_list(datasets.Dataset.from_dict({"text": TEXTS})["text"])) == TEXTS


def test_an_array_without_dimensions_is_one_input():
    assert as_list(np.array("one")) == ["one"]


def test_an_array_of_pairs_is_a_list_of_pairs():
    assert as_list(np.array([["a", "b"], ["c", "d"]])) == [["a", "b"], ["c", "d"]]


@pytest.mark.parametrize("make", [np.array, torch.tensor])
def test_rows_of_token_ids_stay_arrays(make):
    found = as_list(make([[1, 2], [3, 4]]))
    assert [row.tolist() for row in found] == [[1, 2], [3, 4]]
    assert all(row.ndim == 1 for row in found)


@pytest.mark.parametrize(
    "inputs", [b"bytes", {"a": "b"}, 7, None, 1.5, object()], ids=lambda value: type(value).__name__
)
def test_what_is_no_collection_is_an_error(inputs):
    with pytest.raises(ValueError, match=f"Cannot encode {type(inputs).__name__}: unsupported input type"):
        as_list(inputs)
