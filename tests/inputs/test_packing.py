"""Where rows lie that have been laid one after another."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from sentence_transformers.inputs.packing import ROW_LENGTHS, PackedLayout

LENGTHS = st.lists(st.integers(0, 6), max_size=12)


def starts_of(lengths):
    return [sum(lengths[:number]) for number in range(len(lengths) + 1)]


@given(LENGTHS)
def test_total_longest_and_starts_are_those_of_the_lengths(lengths):
    layout = PackedLayout.of(lengths)
    assert layout.total == sum(lengths)
    assert layout.longest == max(lengths, default=0)
    assert layout.cumulative().tolist() == starts_of(lengths)
    assert layout.cumulative().dtype == torch.int32


@given(LENGTHS)
def test_groups_are_neighbours_of_equal_length_and_as_large_as_can_be(lengths):
    layout = PackedLayout.of(lengths)
    rebuilt = [length for _, count, length in layout.groups for _ in range(count)]
    assert rebuilt == lengths
    assert all(one[2] != other[2] for one, other in zip(layout.groups, layout.groups[1:]))
    row = 0
    for start, count, _ in layout.groups:
        assert start == starts_of(lengths)[row]
        row += count


@given(LENGTHS, st.integers(0, 3))
def test_positions_count_within_each_row_from_the_offset(lengths, offset):
    positions = PackedLayout.of(lengths).positions(offset)
    assert positions.shape == (1, sum(lengths))
    assert positions.dtype == torch.long
    assert positions[0].tolist() == [offset + place for length in lengths for place in range(length)]


@given(LENGTHS)
def test_batches_are_the_rows_of_each_group(lengths):
    layout = PackedLayout.of(lengths)
    flat = torch.arange(layout.total * 2).reshape(layout.total, 2)
    rows = [row for batch in layout.batches(flat) for row in batch]
    assert len(rows) == len(lengths)
    for row, start, length in zip(rows, starts_of(lengths), lengths):
        assert torch.equal(row, flat[start : start + length])


@given(LENGTHS)
def test_a_layout_is_read_from_packed_features_and_none_from_padded_ones(lengths):
    layout = PackedLayout.of(lengths)
    assert PackedLayout.read({"cu_seq_lens_q": layout.cumulative()}) == layout
    assert PackedLayout.read({ROW_LENGTHS: lengths, "cu_seq_lens_q": layout.cumulative()}) == layout
    assert PackedLayout.read({"input_ids": torch.zeros(2, 3), "attention_mask": torch.ones(2, 3)}) is None
