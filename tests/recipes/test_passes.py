"""Rows that differ from pass to pass, and batches that follow them."""

from __future__ import annotations

from sentence_transformers.recipes.passes import InOrder, Passes, shuffled


def made(number: int) -> dict[str, list[str]]:
    return {"text": [f"{number}-{row}" for row in range(5)]}


def test_a_row_is_counted_through_all_passes():
    rows = Passes(made)
    assert len(rows) == 5
    assert [rows[place]["text"] for place in (4, 5, 14, 0)] == ["0-4", "1-0", "2-4", "0-0"]
    assert rows[:2] == {"text": ["0-0", "0-1"]}


def test_batches_of_each_pass_are_its_rows_in_order():
    rows = Passes(made)
    batches = InOrder(rows, batch_size=2, drop_last=False)
    assert list(batches) == [[0, 1], [2, 3], [4]]
    batches.set_epoch(2)
    assert list(batches) == [[10, 11], [12, 13], [14]]
    assert len(batches) == 3


def test_incomplete_batches_can_be_left_out():
    batches = InOrder(Passes(made), batch_size=2, drop_last=True)
    assert list(batches) == [[0, 1], [2, 3]]
    assert len(batches) == 2


def test_columns_are_shuffled_together_and_anew_in_each_pass():
    columns = {"a": list(range(50)), "b": list(range(50))}
    first = shuffled(columns, seed=1, number=0)
    assert first["a"] == first["b"]
    assert sorted(first["a"]) == columns["a"]
    assert first == shuffled(columns, seed=1, number=0)
    assert first != shuffled(columns, seed=1, number=1)
    assert first != shuffled(columns, seed=2, number=0)
