"""Short rows are attended by themselves, whatever their lengths and wherever they lie in memory."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sentence_transformers.backend import short_rows
from sentence_transformers.backend.short_rows import (
    KEYS_STEP,
    MOST_PADDING,
    SHORT_ROW,
    attend_equal_rows,
    attend_short_rows,
    keys_of,
    made_plan,
    register_width,
    stretches_of,
    takes,
)
from sentence_transformers.inputs.packing import PackedLayout

HEADS, SIZE = 3, 4
LENGTHS = st.lists(st.integers(0, SHORT_ROW + 6), min_size=1, max_size=12)


def by_definition(query, key, value, lengths, *, scale, bias=None, is_causal=False):
    """Row by row, in double precision, (T, H, D)."""
    outputs, start = [], 0
    for length in lengths:
        rows = slice(start, start + length)
        asking, asked, given = (part[0, :, rows].double() for part in (query, key, value))
        scores = asking @ asked.transpose(1, 2) * scale
        if bias is not None:
            scores = scores + bias[0, :, :length, :length]
        if is_causal:
            scores = scores.masked_fill(torch.ones(length, length).triu(1).bool(), -torch.inf)
        outputs.append((scores.softmax(-1) @ given).transpose(0, 1))
        start += length
    return torch.cat(outputs).float()


def in_one_product(tokens, seed=0):
    """Queries, keys and values, (1, H, T, D) each, side by side in memory as one product gives them."""
    torch.manual_seed(seed)
    together = torch.randn(tokens, 3, HEADS, SIZE).permute(1, 2, 0, 3)
    return [part[None] for part in together]


def in_products_of_their_own(tokens, seed=0):
    torch.manual_seed(seed)
    return [torch.randn(tokens, HEADS, SIZE).transpose(0, 1)[None] for _ in range(3)]


def head_by_head(tokens, seed=0):
    torch.manual_seed(seed)
    return [torch.randn(1, HEADS, tokens, SIZE) for _ in range(3)]


def partly_apart(tokens, seed=0):
    query, key, _ = in_one_product(tokens, seed)
    return query, key, head_by_head(tokens, seed + 1)[2]


def of_short_rows(lengths):
    """Which tokens belong to short rows."""
    return torch.tensor([length <= SHORT_ROW for length in lengths for _ in range(length)], dtype=torch.bool)


@given(lengths=LENGTHS, with_bias=st.booleans(), is_causal=st.booleans())
@pytest.mark.parametrize("made", [in_one_product, in_products_of_their_own, head_by_head, partly_apart])
def test_every_short_row_is_attended_by_itself(made, lengths, with_bias, is_causal):
    layout = PackedLayout.of(lengths)
    states = made(sum(lengths))
    if not takes(states[0], layout):
        assert not any(0 < length <= SHORT_ROW for length in lengths)
        return
    bias = torch.randn(1, HEADS, layout.longest, layout.longest) if with_bias else None
    options = {"bias": bias, "is_causal": is_causal, "scale": 0.3}
    out = torch.full((sum(lengths), HEADS, SIZE), 7.0)
    attend_short_rows(*states, layout, out, **options)
    is_short = of_short_rows(lengths)
    expected = by_definition(*states, lengths, **options)
    torch.testing.assert_close(out[is_short], expected[is_short], atol=2e-6, rtol=1e-5)
    assert (out[~is_short] == 7).all()


@pytest.mark.parametrize("lengths", [[5], [16], [3, 3, 3], [9, 2, 70, 8]])
def test_rows_behind_the_last_one_are_left_alone(lengths):
    states = in_one_product(sum(lengths) + 5)
    out = torch.full((sum(lengths) + 5, HEADS, SIZE), 7.0)
    attend_short_rows(*states, PackedLayout.of(lengths), out, scale=None)
    assert (out[sum(lengths) :] == 7).all()
    is_short = of_short_rows(lengths)
    expected = by_definition(*states, lengths, scale=SIZE**-0.5)
    torch.testing.assert_close(out[: sum(lengths)][is_short], expected[is_short], atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("length", [1, 7, 8, 15, 16, 17, 33, SHORT_ROW])
def test_rows_of_one_length(length):
    torch.manual_seed(0)
    states = [torch.randn(2, HEADS, length, SIZE) for _ in range(3)]
    for scale in (None, 0.7):
        found = attend_equal_rows(*states, scale=scale)
        expected = torch.nn.functional.scaled_dot_product_attention(*states, scale=scale)
        torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)


def test_a_row_that_is_not_finite_spoils_no_other():
    lengths = [4, 6, 9]
    states = in_one_product(sum(lengths))
    for part in states:
        part[0, :, 4:10] = torch.nan
    out = torch.zeros(sum(lengths), HEADS, SIZE)
    attend_short_rows(*states, PackedLayout.of(lengths), out, scale=None)
    assert out[:4].isfinite().all()
    assert out[10:].isfinite().all()
    assert out[4:10].isnan().all()


@given(lengths=LENGTHS)
def test_stretches_hold_every_short_row_once_and_little_padding(lengths):
    starts = [sum(lengths[:number]) for number in range(len(lengths))]
    seen = []
    for first, rows in stretches_of(tuple(lengths)):
        assert rows
        keys = [keys_of(length) for length in rows]
        assert len(rows) * max(keys) - sum(keys) <= MOST_PADDING * len(rows) * max(keys)
        for length in rows:
            seen.append((first, length))
            first += length
    short = [
        (start, length) for start, length in zip(starts, lengths, strict=True) if 0 < length <= SHORT_ROW
    ]
    assert seen == short


def test_keys_fill_registers():
    assert [keys_of(length) % KEYS_STEP for length in range(1, SHORT_ROW + 1)] == [0] * SHORT_ROW
    assert all(
        max(length, register_width()) <= keys_of(length) < max(length + KEYS_STEP, register_width() + 1)
        for length in range(1, SHORT_ROW + 1)
    )


def test_a_plan_is_kept_with_its_layout(monkeypatch):
    made = []

    def noted(*arguments):
        made.append(arguments)
        return made_plan(*arguments)

    monkeypatch.setattr(short_rows, "made_plan", noted)
    layout = PackedLayout.of([3, 5])
    for _ in range(3):
        attend_short_rows(*in_one_product(8), layout, torch.empty(8, HEADS, SIZE), scale=None)
    assert len(made) == 1


def test_another_bias_for_the_same_layout_is_noticed():
    lengths = [3, 5]
    layout, states = PackedLayout.of(lengths), in_one_product(8)
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        bias = torch.randn(1, HEADS, 5, 5)
        out = torch.empty(8, HEADS, SIZE)
        attend_short_rows(*states, layout, out, scale=0.3, bias=bias)
        expected = by_definition(*states, lengths, scale=0.3, bias=bias)
        torch.testing.assert_close(out, expected, atol=2e-6, rtol=1e-5)


def test_double_precision_goes_another_way():
    layout = PackedLayout.of([3])
    assert takes(torch.empty(1, HEADS, 3, SIZE), layout)
    assert not takes(torch.empty(1, HEADS, 3, SIZE, dtype=torch.float64), layout)
