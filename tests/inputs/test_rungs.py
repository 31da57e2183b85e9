"""The ladder of lengths: never too short, seldom much too long, and with few rungs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sentence_transformers.inputs.rungs import RUNGS, rung


@given(st.integers(0, 100_000))
def test_a_rung_is_no_shorter_than_the_row_and_wastes_little(length):
    assert rung(length) >= length
    assert rung(length) <= max(RUNGS[0], 1.5 * length + 16, length + 1024)


@given(st.integers(0, 50_000), st.integers(0, 50_000))
def test_rungs_are_monotone_and_fixed_points_of_themselves(one, other):
    assert (one <= other) <= (rung(one) <= rung(other))
    assert rung(rung(one)) == rung(one)


def test_few_distinct_shapes_occur_below_the_longest_rung():
    assert {rung(length) for length in range(1, RUNGS[-1] + 1)} == set(RUNGS)
