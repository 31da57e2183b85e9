"""Inputs that come tokenised already, in all the forms they come in."""

from __future__ import annotations

import array

import numpy as np
import pytest
import torch

from sentence_transformers.inputs.tokens import is_token_ids, read_token_ids
from tiny import tiny_tokenizer

FORMS = {
    "list": [101, 7, 102],
    "tuple": (101, 7, 102),
    "array": np.array([101, 7, 102]),
    "32 bits": np.array([101, 7, 102], dtype=np.int32),
    "unsigned": np.array([101, 7, 102], dtype=np.uint16),
    "tensor": torch.tensor([101, 7, 102]),
    "range": range(101, 104),
    "array module": array.array("i", [101, 7, 102]),
    "numpy numbers": [np.int64(101), np.int64(7), np.int64(102)],
    "mapping": {"input_ids": [101, 7, 102]},
    "mapping with a mask": {"input_ids": [0, 101, 7, 102, 0], "attention_mask": [0, 1, 1, 1, 0]},
    "mapping of a batch of one": {"input_ids": torch.tensor([[101, 7, 102]])},
    "mapping of nested lists": {"input_ids": [[101, 7, 102]], "attention_mask": [[1, 1, 1]]},
}


@pytest.mark.parametrize("form", FORMS)
def test_token_ids_are_known_in_every_form_and_read_as_plain_numbers(form):
    assert is_token_ids(FORMS[form])
    rows = read_token_ids([FORMS[form], [5]])
    assert rows.ids == [[101, 102, 103] if form == "range" else [101, 7, 102], [5]]
    assert {type(token) for row in rows.ids for token in row} == {int}
    assert rows.type_ids is None


@pytest.mark.parametrize(
    "item",
    ["a text", "", ["a", "b"], [], (), [1.5, 2.0], np.array([0.5]), np.array([[1, 2]]), np.array(["a"]), None, 7,
     [True, False], {"text": "a"}, {1, 2}, object(), [None]],
    ids=lambda value: repr(value) if type(value) is not object else "object",
)  # fmt: skip
def test_other_inputs_are_not_taken_for_token_ids(item):
    assert not is_token_ids(item)


def test_texts_and_no_inputs_give_no_rows():
    assert read_token_ids(["a text", "another"]) is None
    assert read_token_ids([]) is None


def test_token_types_are_kept_where_any_row_has_a_second_part():
    pair = {"input_ids": [1, 2, 3], "token_type_ids": [0, 1, 1], "attention_mask": [1, 1, 0]}
    rows = read_token_ids([pair, [4, 5]])
    assert rows.ids == [[1, 2], [4, 5]]
    assert rows.type_ids == [[0, 1], [0, 0]]
    single = {"input_ids": [1, 2], "token_type_ids": [0, 0]}
    assert read_token_ids([single]).type_ids is None


@pytest.mark.parametrize("returned", [None, "pt", "np"])
def test_what_a_tokenizer_returns_for_one_text_is_read_whatever_it_holds(returned):
    tokenizer = tiny_tokenizer("bert")
    expected = tokenizer("one text")["input_ids"]
    item = tokenizer("one text", return_tensors=returned, padding="max_length", max_length=20)
    assert is_token_ids(item)
    assert read_token_ids([item]).ids == [expected]


@pytest.mark.parametrize("other", ["a text", [], None, {"text": "a"}])
def test_token_ids_and_other_inputs_in_one_call_are_an_error_that_names_the_place(other):
    with pytest.raises(ValueError, match=f"Input 2 is {type(other).__name__} while the first is token ids"):
        read_token_ids([[1, 2], [3], other])
