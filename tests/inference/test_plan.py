"""How rows are ordered, grouped into batches and cut into windows."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sentence_transformers.inference.plan import character_count, plan_batches, windows

LENGTHS = st.lists(st.integers(0, 300), max_size=60)
BUDGETS = st.integers(1, 1000)


@given(LENGTHS, BUDGETS, st.none() | st.integers(1, 10), st.booleans())
def test_every_row_is_in_exactly_one_batch(lengths, budget, max_rows, packed):
    batches = plan_batches(lengths, max_tokens=budget, max_rows=max_rows, packed=packed)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(batches)


@given(LENGTHS, BUDGETS, st.none() | st.integers(1, 10))
def test_a_padded_batch_holds_the_budget_unless_it_is_one_long_row(lengths, budget, max_rows):
    for batch in plan_batches(lengths, max_tokens=budget, max_rows=max_rows):
        padded = len(batch) * max(lengths[row] for row in batch)
        assert padded <= budget or len(batch) == 1
        assert max_rows is None or len(batch) <= max_rows


@given(LENGTHS, BUDGETS, st.none() | st.integers(1, 10))
def test_a_packed_batch_holds_the_budget_unless_it_is_one_long_row(lengths, budget, max_rows):
    for batch in plan_batches(lengths, max_tokens=budget, max_rows=max_rows, packed=True):
        assert sum(lengths[row] for row in batch) <= budget or len(batch) == 1
        assert max_rows is None or len(batch) <= max_rows


@given(LENGTHS, BUDGETS, st.booleans())
def test_rows_come_longest_first_and_equal_ones_keep_their_order(lengths, budget, packed):
    batches = plan_batches(lengths, max_tokens=budget, packed=packed)
    assert [row for batch in batches for row in batch] == sorted(
        range(len(lengths)), key=lambda row: (-lengths[row], row)
    )


@given(LENGTHS, BUDGETS, st.none() | st.integers(1, 10), st.booleans())
def test_a_new_batch_starts_only_when_the_next_row_would_not_fit(lengths, budget, max_rows, packed):
    batches = plan_batches(lengths, max_tokens=budget, max_rows=max_rows, packed=packed)
    for batch, following in pairwise(batches):
        joined = [lengths[row] for row in (*batch, following[0])]
        size = sum(joined) if packed else len(joined) * max(joined)
        assert size > budget or len(batch) == max_rows


def test_packing_needs_fewer_batches_than_padding_where_lengths_differ():
    lengths = [100, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    assert len(plan_batches(lengths, max_tokens=120, packed=True)) == 1
    assert len(plan_batches(lengths, max_tokens=120)) > 1


@given(st.lists(st.integers(0, 100), max_size=60), st.integers(1, 10), st.integers(1, 300))
def test_windows_cover_everything_once_in_order_and_hold_both_limits(sizes, max_rows, max_size):
    stretches = list(windows(sizes, max_rows=max_rows, max_size=max_size))
    assert [number for first, end in stretches for number in range(first, end)] == list(range(len(sizes)))
    for first, end in stretches:
        assert 1 <= end - first <= max_rows
        assert sum(sizes[first:end]) <= max_size or end - first == 1


@given(st.lists(st.integers(1, 100), min_size=1, max_size=60), st.integers(1, 10), st.integers(1, 300))
def test_a_window_ends_only_when_the_next_item_would_not_fit(sizes, max_rows, max_size):
    for first, end in windows(sizes, max_rows=max_rows, max_size=max_size):
        if end < len(sizes):
            assert end - first == max_rows or sum(sizes[first : end + 1]) > max_size


def test_characters_are_counted_through_pairs_and_dictionaries():
    assert character_count("three") == 5
    assert character_count(["ab", "cde"]) == 5
    assert character_count(("ab", "")) == 2
    assert character_count({"query": "four", "other": "x"}) == 5
    assert character_count([1, 2, 3]) == 3
    assert character_count(object()) == 1
