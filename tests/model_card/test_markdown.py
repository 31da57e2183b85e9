"""Pieces of Markdown."""

from __future__ import annotations

import math

import pytest

from sentence_transformers.model_card.markdown import cell, format_duration, format_log, table


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 seconds"),
        (59.9, "59.9 seconds"),
        (60, "1.0 minutes"),
        (125, "2.1 minutes"),
        (3600, "1.0 hours"),
        (90000, "1.0 days"),
    ],
)
def test_a_duration_is_told_in_the_largest_unit_that_it_fills(seconds, text):
    assert format_duration(seconds) == text


def test_floats_are_logged_to_four_decimals_and_the_rest_as_it_is():
    assert format_log(0.123456) == 0.1235
    assert math.isnan(format_log(float("nan")))
    assert [format_log(value) for value in (1, "a", None, True)] == [1, "a", None, True]


def test_a_table_has_one_line_for_each_row_whatever_its_texts_hold():
    made = table(["a", "b"], [["one\ntwo", None], ["x|y", "<b>"]])
    assert made.splitlines() == ["| a | b |", "| --- | --- |", "| one two | - |", r"| x\|y | &lt;b> |"]


def test_long_texts_are_cut():
    assert len(cell("word " * 1000)) <= 160
    assert cell("word " * 1000).endswith("…")
