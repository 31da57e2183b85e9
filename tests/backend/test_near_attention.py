"""Attention within a window, block by block, against a mask over whole rows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from sentence_transformers.backend import near_attention
from sentence_transformers.backend.attention import packed_attention, window_mask
from sentence_transformers.inputs.packing import PackedLayout


def states(rows, length, dtype=torch.float32):
    generator = torch.Generator().manual_seed(length)
    return [torch.randn(rows, 2, length, 4, generator=generator).to(dtype) for _ in range(3)]


def by_mask(query, key, value, window, is_causal, scale=None):
    mask = window_mask(query.shape[2], window, is_causal, query.device)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale).transpose(1, 2)


def in_blocks(query, key, value, **options):
    rows, heads, length, size = query.shape
    out = query.new_full((rows, length, heads, size), torch.nan)
    near_attention.attention_within_window(query, key, value, out, **{"scale": None, **options})
    return out


@given(st.integers(1, 40), st.integers(1, 12), st.booleans(), st.sampled_from([1, 3, 8]))
def test_blocks_give_what_a_mask_over_the_row_gives(length, window, is_causal, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_attention, "LEAST_BLOCK", block)
        inputs = states(2, length)
        found = in_blocks(*inputs, window=window, is_causal=is_causal)
    torch.testing.assert_close(found, by_mask(*inputs, window, is_causal), atol=1e-5, rtol=0)


@pytest.mark.parametrize("length", [66, 129, 700])
@pytest.mark.parametrize("is_causal", [False, True])
def test_blocks_of_the_usual_size_do_so_too(length, is_causal):
    inputs = states(1, length)
    found = in_blocks(*inputs, window=65, is_causal=is_causal, scale=0.3)
    torch.testing.assert_close(found, by_mask(*inputs, 65, is_causal, 0.3), atol=1e-5, rtol=0)


def test_packed_rows_longer_than_the_window_are_computed_so(monkeypatch):
    seen = []
    original = near_attention.F.scaled_dot_product_attention

    def noted(query, key, value, **options):
        seen.append(key.shape[2])
        return original(query, key, value, **options)

    monkeypatch.setattr(near_attention.F, "scaled_dot_product_attention", noted)
    inputs = [part[0][None] for part in states(1, 2000)]
    packed_attention(*inputs, PackedLayout.of([2000]), window=9)
    assert max(seen) <= near_attention.LEAST_BLOCK + 16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_computed_too(dtype):
    inputs = states(2, 150, dtype)
    found = in_blocks(*inputs, window=9, is_causal=False)
    assert found.dtype == dtype
    expected = by_mask(*[part.float() for part in inputs], 9, False)
    torch.testing.assert_close(found.float(), expected, atol=0.03, rtol=0)


def test_a_mask_that_was_made_without_gradients_serves_where_they_are_wanted():
    near_attention.band.cache_clear()
    inputs = states(1, 150)
    with torch.inference_mode():
        in_blocks(*inputs, window=9, is_causal=False)
    assert not near_attention.band(64, 8, False, torch.float32).is_inference()
