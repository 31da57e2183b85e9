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
from sentence_transformers.backend.attention import SHORT_ROW, adopt, packed, packed_attention, window_mask
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


def gradients(attend, inputs):
    """Of a sum in which no two places count alike."""
    for tensor in inputs:
        tensor.grad = None
    output = attend(*inputs)
    weights = torch.linspace(-1, 1, output.numel()).view(output.shape)
    (output * weights).sum().backward()
    return [output.detach(), *(tensor.grad.clone() for tensor in inputs)]


# Of like lengths and of very different ones, in any order, with rows on both sides of `SHORT_ROW`, and of none.
TRAINED = {
    "equal": [3, 3, 3],
    "alike": [5, 6, 6, 7],
    "sorted": [1, 2, 2, 5, 9, 9],
    "mixed": [9, 1, 4, 1, 9, 2],
    "empty": [0, 3, 0, 2],
    "long": [70, 66, 3, 80],
}


@pytest.mark.parametrize("lengths", TRAINED.values(), ids=TRAINED)
@pytest.mark.parametrize("heads", [(2, 2), (4, 2), (4, 1)])
@pytest.mark.parametrize(("window", "is_causal"), [(None, False), (None, True), (3, False), (3, True)])
def test_gradients_are_those_of_each_row_by_itself(lengths, heads, window, is_causal):
    if max(lengths) > SHORT_ROW and heads != (4, 2):
        pytest.skip("written out, a long row takes its time")
    inputs = [tensor.requires_grad_() for tensor in states(lengths, *heads)]
    options = {"window": window, "is_causal": is_causal, "scale": 0.4}
    found = gradients(lambda *inputs: packed_attention(*inputs, PackedLayout.of(lengths), **options), inputs)
    expected = gradients(lambda *inputs: by_rows(*inputs, lengths, **options), inputs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


def by_rows(query, key, value, lengths, *, scale, window=None, is_causal=False, bias=None):
    """The same as `by_definition`, a row at a time."""
    share = query.shape[1] // key.shape[1]
    outputs, start = [], 0
    for length in lengths:
        rows = slice(start, start + length)
        keys, values = (part[0, :, rows].repeat_interleave(share, dim=0) for part in (key, value))
        scores = query[0, :, rows] @ keys.transpose(1, 2) * scale
        if bias is not None:
            scores = scores + bias[0, :, :length, :length]
        here = torch.arange(length)
        distance = here[:, None] - here[None, :]
        unseen = torch.zeros(length, length, dtype=torch.bool)
        if is_causal:
            unseen |= distance < 0
        if window is not None:
            unseen |= distance.abs() >= window
        weights = scores.masked_fill(unseen, -torch.inf).softmax(dim=-1)
        outputs.append((weights @ values).transpose(0, 1))
        start += length
    return torch.cat(outputs)[None]


@pytest.mark.parametrize("lengths", TRAINED.values(), ids=TRAINED)
def test_a_bias_gets_its_gradient_too(lengths):
    inputs = [tensor.requires_grad_() for tensor in states(lengths, 2, 2)]
    longest = max(lengths) + 1
    bias = torch.randn(1, 2, longest, longest, generator=torch.Generator().manual_seed(1)).requires_grad_()
    found = gradients(
        lambda *inputs: packed_attention(*inputs[:3], PackedLayout.of(lengths), bias=inputs[3], scale=0.4),
        [*inputs, bias],
    )
    expected = gradients(
        lambda *inputs: by_rows(*inputs[:3], lengths, bias=inputs[3], scale=0.4), [*inputs, bias]
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


def test_a_gradient_in_a_bias_alone_is_computed():
    lengths = [3, 2]
    query, key, value = states(lengths, 2, 2)
    bias = torch.zeros(1, 2, 3, 3, requires_grad=True)
    packed_attention(query, key, value, PackedLayout.of(lengths), bias=bias).square().sum().backward()
    assert bias.grad.abs().sum() > 0


@pytest.mark.parametrize("changing", [0, 1, 2])
def test_a_gradient_may_be_asked_of_one_input_only(changing):
    """As when the queries' part of a model is frozen."""
    lengths = [4, 2, 3]
    inputs = list(states(lengths, 2, 2))
    inputs[changing].requires_grad_()
    packed_attention(*inputs, PackedLayout.of(lengths)).square().sum().backward()
    found = inputs[changing].grad.clone()
    inputs[changing].grad = None
    by_rows(*inputs, lengths, scale=0.5).square().sum().backward()
    torch.testing.assert_close(found, inputs[changing].grad, atol=1e-5, rtol=0)


@pytest.mark.parametrize("lengths", [[6, 6], [6, 5, 6], [80, 80], [80, 70]], ids=str)
def test_dropout_hides_its_share_of_tokens_and_keeps_the_mean(lengths):
    """With values that are the unit vectors of the tokens, the output is the weight each token has."""
    torch.manual_seed(0)
    share, total, longest = 0.25, sum(lengths), max(lengths)
    query, key, _ = states(lengths, 2, 2, size=longest)
    places = torch.cat([torch.arange(length) for length in lengths])
    value = torch.eye(longest)[places][None, None].expand(1, 2, total, longest).contiguous()
    layout = PackedLayout.of(lengths)
    weights = packed_attention(query, key, value, layout, scale=0.1)
    hidden = torch.zeros(())
    mean = torch.zeros_like(weights)
    times = 40 if longest > SHORT_ROW else 400
    for _ in range(times):
        dropped = packed_attention(query, key, value, layout, scale=0.1, dropout=share)
        seen = weights > 0
        hidden += (dropped[seen] == 0).float().mean()
        kept = seen & (dropped != 0)
        torch.testing.assert_close(dropped[kept], weights[kept] / (1 - share), atol=1e-5, rtol=1e-4)
        mean += dropped
    assert float(hidden / times) == pytest.approx(share, abs=0.01)
    # The mean of n draws of a weight w is off by w * sqrt(p / (1 - p) / n); five times that never comes.
    bound = 5 * weights * math.sqrt(share / (1 - share) / times) + 1e-6
    assert ((mean / times - weights).abs() <= bound).all()


def test_dropout_has_the_gradient_of_what_it_kept():
    lengths = [5, 3, 5]
    inputs = [tensor.double().requires_grad_() for tensor in states(lengths, 2, 2)]

    def attend(*inputs):
        torch.manual_seed(3)
        return packed_attention(*inputs, PackedLayout.of(lengths), dropout=0.3)

    assert torch.autograd.gradcheck(attend, inputs)


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


@pytest.mark.parametrize("family", ["bert", "llama", "modernbert"])
def test_a_model_in_training_drops_attention_in_packed_rows_as_in_padded_ones(family):
    name = "attention_probs_dropout_prob" if family == "bert" else "attention_dropout"
    model = tiny_model(family, **{name: 0.5}, **({"hidden_dropout_prob": 0.0} if family == "bert" else {}))
    adopt(model)
    layout = PackedLayout.of([len(row) for row in ROWS])
    flat = torch.tensor([[token for row in ROWS for token in row]])

    def run():
        with packed(layout):
            return model(input_ids=flat, position_ids=layout.positions()).last_hidden_state

    assert torch.equal(run(), run())
    model.train()
    assert not torch.equal(run(), run())


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
