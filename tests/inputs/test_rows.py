"""Rows of token ids before they become tensors."""

from __future__ import annotations

from sentence_transformers.inputs.rows import TokenRows

ROWS = TokenRows(
    ids=[[1, 2, 3], [4], [], [5, 6]],
    type_ids=[[0, 0, 1], [0], [], [0, 1]],
    prompt_length=2,
    extras={"task": "query"},
)


def test_lengths_are_those_of_the_rows():
    assert ROWS.lengths == [3, 1, 0, 2]
    assert len(ROWS) == 4
    assert TokenRows(ids=[]).lengths == []


def test_taken_rows_come_in_the_order_asked_for_with_what_belongs_to_them():
    taken = ROWS.take([3, 0, 3])
    assert taken.ids == [[5, 6], [1, 2, 3], [5, 6]]
    assert taken.type_ids == [[0, 1], [0, 0, 1], [0, 1]]
    assert (taken.prompt_length, taken.extras) == (2, {"task": "query"})


def test_rows_without_token_types_stay_without():
    taken = TokenRows(ids=[[1], [2]]).take([1])
    assert (taken.ids, taken.type_ids, taken.prompt_length, taken.extras) == ([[2]], None, None, {})


def test_every_row_collection_has_extras_of_its_own():
    TokenRows(ids=[]).extras["task"] = "query"
    assert TokenRows(ids=[]).extras == {}
