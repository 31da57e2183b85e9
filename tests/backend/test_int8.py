"""Linear layers in eight bits: whole numbers, exactly added up, each token by itself."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from sentence_transformers.backend import int8
from sentence_transformers.backend.int8 import Int8Linear, rounded_states, rounded_weight
from sentence_transformers.tensors import int8_products


def linear(width=48, out=32, bias=True, seed=0):
    torch.manual_seed(seed)
    return nn.Linear(width, out, bias=bias)


def written_out(states, layer, limit):
    """What an int8 layer should give, in whole numbers of Python's size and float64."""
    steps = np.abs(states).max(axis=1, keepdims=True) / limit
    codes = np.rint(states / np.where(steps > 0, steps, 1)).astype(np.int64)
    assert np.abs(codes).max() <= limit
    sums = codes @ layer.weight.numpy().astype(np.int64).T
    result = sums * steps * layer.weight_scale.numpy().astype(np.float64).T
    return result if layer.bias is None else result + layer.bias.detach().numpy()


@pytest.mark.parametrize("kernel", ["of this machine", "none"])
@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 70),
    width=st.sampled_from([1, 7, 64, 200]),
    out=st.sampled_from([1, 16, 33]),
    bias=st.booleans(),
    size=st.sampled_from([1e-30, 1e-3, 1.0, 1e4]),
    seed=st.integers(0, 99),
)
def test_a_layer_gives_the_sums_of_whole_numbers(kernel, rows, width, out, bias, size, seed):
    layer = Int8Linear.of(linear(width, out, bias, seed))
    states = size * torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    with pytest.MonkeyPatch.context() as patched:
        if kernel == "none":
            patched.setattr(int8, "kernel_limit", lambda: None)
        found = layer(states).detach().numpy()
        wanted = written_out(states.numpy().astype(np.float64), layer, int8.limit_for(states))
    # A number half-way between two codes may go either way in float32.
    step = np.abs(states.numpy()).max(axis=1, keepdims=True) * layer.weight_scale.numpy().T * 2
    assert (np.abs(found - wanted) <= 1e-5 * (1e-30 + np.abs(wanted).max()) + step).all()
    assert np.median(np.abs(found - wanted)) <= 1e-5 * np.abs(wanted).max()


def test_the_kernel_of_this_machine_gives_what_float32_gives_of_the_same_numbers(monkeypatch):
    limit = int8.kernel_limit()
    if limit is None:
        pytest.skip("this PyTorch has no exact kernel for eight bits here")
    layer = Int8Linear.of(linear(384, 1536))
    states = torch.randn(300, 384, generator=torch.Generator().manual_seed(1))
    by_kernel = layer(states)
    monkeypatch.setattr(int8, "LIMITS", (limit,))
    monkeypatch.setattr(int8, "kernel_limit", lambda: None)
    assert torch.equal(layer(states), by_kernel)


def test_wide_layers_are_exact_where_float32_alone_would_not_be(monkeypatch):
    monkeypatch.setattr(int8, "kernel_limit", lambda: None)
    width = 5000
    layer = Int8Linear(torch.full((2, width), 127, dtype=torch.int8), torch.ones(2, 1))
    states = torch.full((1, width), 127.0)
    states[0, 0] = 126.0
    assert 127 * 127 * width > 2**24
    assert layer(states)[0, 0].item() == pytest.approx(127 * (127 * (width - 1) + 126), rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(2, 1500), place=st.integers(0, 1499), seed=st.integers(0, 9))
def test_what_a_layer_makes_of_a_token_is_the_same_in_any_batch(rows, place, seed):
    layer = Int8Linear.of(linear(64, 24))
    states = torch.randn(rows, 64, generator=torch.Generator().manual_seed(seed))
    one = place % rows
    assert torch.equal(layer(states)[one], layer(states[one : one + 1])[0])
    assert torch.equal(layer(states.flip(0)).flip(0), layer(states))


def test_it_is_near_the_layer_that_it_stands_for():
    layer = linear(384, 384)
    states = torch.randn(100, 384, generator=torch.Generator().manual_seed(0))
    wanted = layer(states)
    found = Int8Linear.of(layer)(states)
    assert (found - wanted).norm() / wanted.norm() < 0.02


def test_a_weight_is_rounded_by_a_step_for_each_output():
    weight = torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0], [1e-3, 1e-3, -5e-4]])
    codes, steps = rounded_weight(weight)
    assert codes.tolist() == [[64, -127, 32], [0, 0, 0], [127, 127, -64]]
    assert steps.flatten().tolist() == pytest.approx([2 / 127, 1, 1e-3 / 127])


def test_rows_of_zeros_stay_zeros_and_others_show_what_is_not_a_number():
    layer = Int8Linear.of(linear(8, 4, bias=False))
    states = torch.zeros(4, 8)
    states[1, 2], states[2, 3], states[3] = float("nan"), float("inf"), 1.0
    found = layer(states)
    assert found[0].tolist() == [0.0] * 4
    assert not found[1].isfinite().any()
    assert not found[2].isfinite().any()
    assert found[3].isfinite().all()


def test_no_number_is_rounded_above_the_limit():
    states = torch.rand(2000, 3, generator=torch.Generator().manual_seed(0)) + 1e-6
    for limit in int8.LIMITS:
        numbers = rounded_states(states, limit).whole()
        assert numbers.abs().amax(dim=1).eq(limit).all()


@pytest.mark.parametrize("rows", [0, 1, 9, 100, 1500])
@pytest.mark.parametrize("biases", [(True, True, True), (False, False, False), (True, False, True)])
def test_several_layers_give_the_same_together(rows, biases):
    layers = [Int8Linear.of(linear(64, 32 + seed, bias, seed)) for seed, bias in enumerate(biases)]
    states = torch.randn(rows, 64)
    together = int8.compute_several(states, layers, [torch.empty(rows, 32 + place) for place in range(3)])
    assert all(torch.equal(found, layer(states)) for found, layer in zip(together, layers))


def test_the_kernel_for_few_rows_gives_what_the_other_gives(monkeypatch):
    layer = Int8Linear.of(linear(1536, 384))
    states = torch.randn(30, 1536, generator=torch.Generator().manual_seed(1))
    states[3], states[4, 5] = 0, float("nan")
    by_few = layer(states)
    monkeypatch.setattr(int8, "is_exact_for_few", lambda: False)
    assert torch.equal(by_few.nan_to_num(), layer(states).nan_to_num())
    assert torch.equal(by_few[3], layer.bias)


def test_a_token_is_the_same_where_adding_takes_a_step_of_its_own(monkeypatch):
    monkeypatch.setattr(int8_products, "adds_alike", lambda: False)
    layer = Int8Linear.of(linear(67, 33))
    states = torch.randn(700, 67)
    found = layer(states)
    assert all(torch.equal(found[row], layer(states[row : row + 1])[0]) for row in (0, 1, 500, 699))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_states_in_half_precision_stay_so(dtype):
    layer = Int8Linear.of(linear(64, 32))
    states = torch.randn(3, 5, 64).to(dtype)
    found = layer(states)
    assert found.dtype == dtype
    assert found.shape == (3, 5, 32)
    assert (found.float() - layer(states.float())).abs().max() < 0.02


def test_a_gradient_goes_through_a_layer_that_does_not_learn():
    layer = Int8Linear.of(linear(8, 4))
    states = torch.randn(2, 8, requires_grad=True)
    layer(states).sum().backward()
    assert torch.allclose(states.grad, layer.float_weight().sum(0).expand(2, 8))
    assert layer.weight.grad is None
    assert not any(part.requires_grad for part in layer.parameters())


def test_a_changed_weight_is_used():
    layer = Int8Linear.of(linear(16, 4, bias=False))
    states = torch.randn(2, 16)
    before = layer(states)
    with torch.no_grad():
        layer.weight.neg_()
    assert torch.allclose(layer(states), -before)
    layer.weight = nn.Parameter(torch.zeros(4, 16, dtype=torch.int8), requires_grad=False)
    assert layer(states).abs().max() == 0
    layer.bias = nn.Parameter(torch.ones(4))
    assert layer(states).eq(1).all()
    with torch.no_grad():
        layer.bias.add_(1)
    assert layer(states).eq(2).all()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_a_copy_gives_the_same(copied):
    layer = Int8Linear.of(linear(16, 4))
    states = torch.randn(2, 16)
    wanted = layer(states)
    again = copied(layer)
    assert torch.equal(again(states), wanted)
    with torch.no_grad():
        layer.weight.zero_()
    assert torch.equal(again(states), wanted)


def test_compiled_or_exported_it_is_an_ordinary_product():
    layer = Int8Linear.of(linear(16, 4))
    states = torch.randn(2, 16)
    program = torch.export.export(layer, (states,))
    wanted = F.linear(states, layer.float_weight(), layer.bias)
    assert torch.allclose(program.module()(states), wanted, atol=1e-6)
