"""Inputs that say themselves which way they go."""

from __future__ import annotations

import pytest

from sentence_transformers.inputs.routed import is_routed, split_routes


def test_a_dictionary_with_one_entry_is_routed_unless_that_is_token_ids():
    assert is_routed({"query": "a text"})
    assert is_routed({"document": ["a", "b"]})
    assert not is_routed({"input_ids": [1, 2]})
    assert not is_routed({"query": "a", "document": "b"})
    assert not is_routed({})
    assert not is_routed("query")
    assert not is_routed(["query"])


def test_the_common_key_is_taken_off():
    assert split_routes([{"query": "a"}, {"query": "b"}]) == (["a", "b"], "query")


@pytest.mark.parametrize("inputs", [["a", "b"], [], [{"input_ids": [1]}], [("a", "b")]], ids=str)
def test_plain_inputs_stay_as_they_are(inputs):
    assert split_routes(inputs) == (inputs, None)


@pytest.mark.parametrize(
    "inputs", [[{"query": "a"}, {"document": "b"}], [{"query": "a"}, "b"], ["b", {"query": "a"}]], ids=str
)
def test_inputs_of_several_kinds_in_one_call_are_an_error_that_names_them(inputs):
    with pytest.raises(ValueError, match=r"One call takes inputs of one kind.*'query'.*task="):
        split_routes(inputs)
