"""Attention over packed rows against attention written out, one row at a time."""

from __future__ import annotations

import math
import threading
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sentence_transformers.backend import attention
from sentence_transformers.backend.attention import adopt, packed, packed_attention, window_mask
from sentence_transformers.inputs.packing import PackedLayout
from tiny import tiny_model


def by_definition(query, key, value, lengths, *, scale=None, window=None, is_causal=False, bias=None):
    """softmax(query · key · scale + bias) · value, for each row, each head and each token by itself."""
    heads, _, size = query.shape[1:]
    share = heads // key.shape[1]
    scale = 1 / math.sqrt(size) if scale is None else scale
    output = torch.zeros(1, sum(lengths), heads, size)
    start = 0
    for length in lengths:
        for head in range(heads):
            for here in range(length):
                seen = [
                    there
                    for there in range(length)
                    if (there <= here or not is_causal) and (window is None or abs(here - there) < window)
                ]
                keys = key[0, head // share, [start + there for there in seen]]
                scores = keys @ query[0, head, start + here] * scale
                if bias is not None:
                    scores = scores + bias[0, head, here, seen]
                weights = torch.softmax(scores, dim=0)
                values = value[0, head // share, [start + there for there in seen]]
                output[0, start + here, head] = weights @ values
        start += length
    return output


def states(lengths, heads, shared, size=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    total = sum(lengths)
    return (
        torch.randn(1, heads, total, size, generator=generator),
        torch.randn(1, shared, total, size, generator=generator),
        torch.randn(1, shared, total, size, generator=generator),
    )


LENGTHS = st.lists(st.integers(0, 9), min_size=1, max_size=6)


@given(
    LENGTHS,
    st.sampled_from([(1, 1), (4, 4), (4, 2), (4, 1)]),
    st.booleans(),
    st.none() | st.integers(1, 10),
    st.none() | st.just(0.3),
)
def test_packed_rows_are_computed_as_each_row_by_itself(lengths, heads, is_causal, window, scale):
    query, key, value = states(lengths, *heads)
    options = {"scale": scale, "window": window, "is_causal": is_causal}
    found = packed_attention(query, key, value, PackedLayout.of(lengths), **options)
    assert found.shape == (1, sum(lengths), heads[0], 4)
    torch.testing.assert_close(found, by_definition(query, key, value, lengths, **options), atol=1e-5, rtol=0)


@given(LENGTHS, st.integers(0, 3))
def test_a_bias_is_added_by_the_positions_within_a_row(lengths, spare):
    query, key, value = states(lengths, 4, 4)
    longest = max(lengths) + spare
    bias = torch.randn(1, 4, longest, longest, generator=torch.Generator().manual_seed(1))
    found = packed_attention(query, key, value, PackedLayout.of(lengths), bias=bias)
    torch.testing.assert_close(found, by_definition(query, key, value, lengths, bias=bias), atol=1e-5, rtol=0)


def test_gradients_flow_through_packed_attention():
    lengths = [3, 3, 2]
    inputs = [tensor.requires_grad_() for tensor in states(lengths, 2, 1)]
    packed_attention(*inputs, PackedLayout.of(lengths)).square().sum().backward()
    found = [tensor.grad.clone() for tensor in inputs]
    for tensor in inputs:
        tensor.grad = None
    by_definition(*inputs, lengths).square().sum().backward()
    for tensor, gradient in zip(inputs, found, strict=True):
        torch.testing.assert_close(gradient, tensor.grad, atol=1e-5, rtol=0)


@pytest.mark.parametrize("is_causal", [False, True])
def test_a_window_mask_is_what_it_says(is_causal):
    mask = window_mask(7, 3, is_causal, torch.device("cpu"))
    for here in range(7):
        for there in range(7):
            near = abs(here - there) < 3 and (there <= here or not is_causal)
            assert bool(mask[here, there]) is near


def inputs_of(rows):
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}


ROWS = [[7, 8, 9, 10, 11, 12], [13, 14], [15]]


@pytest.mark.parametrize("family", ["bert", "llama", "gemma", "modernbert"])
def test_a_model_that_has_adopted_packing_runs_as_before_outside_of_a_packed_block(family):
    model = tiny_model(family)
    with torch.no_grad():
        before = model(**inputs_of(ROWS)).last_hidden_state
        adopt(model)
        assert model.config._attn_implementation == attention.NAME
        after = model(**inputs_of(ROWS)).last_hidden_state
    assert torch.equal(before, after)


@pytest.mark.parametrize("family", ["bert", "llama", "gemma", "modernbert"])
def test_inside_a_packed_block_each_row_sees_itself_only(family):
    model = tiny_model(family)
    adopt(model)
    layout = PackedLayout.of([len(row) for row in ROWS])
    flat = torch.tensor([[token for row in ROWS for token in row]])
    with torch.no_grad():
        with packed(layout):
            found = model(input_ids=flat, position_ids=layout.positions()).last_hidden_state[0]
        single = [model(**inputs_of([row])).last_hidden_state[0] for row in ROWS]
    torch.testing.assert_close(found, torch.cat(single), atol=1e-5, rtol=0)


def test_a_model_with_another_attention_keeps_it():
    model = tiny_model("bert")
    model.set_attn_implementation("eager")
    adopt(model)
    assert model.config._attn_implementation == "eager"


def test_a_packed_block_is_the_thread_s_own_and_blocks_nest():
    inner, outer = PackedLayout.of([1]), PackedLayout.of([2])
    seen_elsewhere = []
    with packed(outer):
        with pytest.raises(KeyError), packed(inner):
            assert attention._current.layout is inner
            raise KeyError
        assert attention._current.layout is outer
        thread = threading.Thread(
            target=lambda: seen_elsewhere.append(getattr(attention._current, "layout", None))
        )
        thread.start()
        thread.join()
    assert attention._current.layout is None
    assert seen_elsewhere == [None]


def test_the_kernel_is_asked_only_for_what_it_computes():
    assert not attention.kernel_takes(torch.zeros(1, 2, 3, 8, dtype=torch.float16))
    assert attention.varlen_kernel() is attention.varlen_kernel()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_packed_rows_on_cuda_are_computed_as_each_row_by_itself():
    lengths = [9, 9, 5, 3, 1, 1]
    tolerances = {torch.float32: 1e-5, torch.float16: 3e-3, torch.bfloat16: 3e-2}
    for dtype, heads, window, is_causal in product(tolerances, [(4, 4), (4, 2)], [None, 3], [False, True]):
        inputs = [tensor.to("cuda", dtype) for tensor in states(lengths, *heads, size=32)]
        found = packed_attention(*inputs, PackedLayout.of(lengths), window=window, is_causal=is_causal)
        plain = [tensor.float().cpu() for tensor in inputs]
        expected = by_definition(*plain, lengths, window=window, is_causal=is_causal)
        torch.testing.assert_close(found.float().cpu(), expected, atol=tolerances[dtype], rtol=0)
