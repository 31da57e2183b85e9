"""Arranged weights: made for small batches that come again, and never older than the layer's own."""

from __future__ import annotations

import gc
import sys
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from sentence_transformers.backend import arranged
from sentence_transformers.backend.arranged import (
    ALONE,
    BATCHES_BEFORE,
    LARGEST_BATCH,
    largest_batch,
    made_of,
    pays,
    processor_maker,
    rows_filled,
    without_memory,
)
from sentence_transformers.backend.linear import arranged_linear, linear_for

pytestmark = pytest.mark.skipif(not arranged.available(), reason="this PyTorch cannot arrange weights")


def layer_in_use(width=48, out=32, bias=True):
    """A layer that has met enough small batches to have an arranged weight."""
    torch.manual_seed(0)
    layer = nn.Linear(width, out, bias=bias)
    for _ in range(BATCHES_BEFORE + 1):
        made_of([[layer]], 8)
    assert made_of([[layer]], 8) is not None
    return layer


def applied(layer, rows=8):
    states = torch.randn(rows, layer.in_features, generator=torch.Generator().manual_seed(rows))
    with torch.inference_mode():
        return arranged_linear(states, layer, torch.empty(rows, layer.out_features)), F.linear(
            states, layer.weight, layer.bias
        )


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 2, 17, LARGEST_BATCH, 2 * LARGEST_BATCH])
def test_a_layer_gives_the_same_with_an_arranged_weight(bias, rows):
    for layer in (layer_in_use(bias=bias), nn.Linear(48, 32, bias=bias)):
        found, expected = applied(layer, rows)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_layer_gets_an_arranged_weight_once_small_batches_have_come_repeatedly():
    layer = nn.Linear(16, 16)
    assert [made_of([[layer]], 4) is None for _ in range(BATCHES_BEFORE)] == [True] * BATCHES_BEFORE
    first = made_of([[layer]], 4)
    assert first is not None
    assert made_of([[layer]], 9) is first


@torch.no_grad()
def add_in_place(layer):
    layer.weight.add_(1)


def add_to_the_data(layer):
    layer.weight.data.add_(1)


@torch.inference_mode()
def add_in_inference_mode(layer):
    layer.weight.add_(1)


def load_a_state(layer):
    layer.load_state_dict({name: tensor + 1 for name, tensor in layer.state_dict().items()})


def assign_a_state(layer):
    layer.load_state_dict({name: tensor + 1 for name, tensor in layer.state_dict().items()}, assign=True)


def set_a_new_parameter(layer):
    layer.weight = nn.Parameter(layer.weight.detach() + 1)


def set_new_data(layer):
    layer.weight.data = layer.weight.data + 1


def round_to_half_precision(layer):
    layer.to(torch.bfloat16).to(torch.float32)


def take_a_step(layer):
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
    layer(torch.ones(1, layer.in_features)).sum().backward()
    optimizer.step()


CHANGES = [
    add_in_place,
    add_to_the_data,
    add_in_inference_mode,
    load_a_state,
    assign_a_state,
    set_a_new_parameter,
    set_new_data,
    round_to_half_precision,
    take_a_step,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_changed_weight_is_used_at_once_and_arranged_anew_later(change):
    layer = layer_in_use()
    before = layer.weight.detach().clone()
    change(layer)
    assert not torch.equal(layer.weight, before)
    for _ in range(BATCHES_BEFORE + 3):
        found, expected = applied(layer)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert made_of([[layer]], 8) is not None


def test_a_new_weight_in_the_memory_of_the_old_one_is_told_from_it():
    layer = layer_in_use(256, 256)
    # Replacing the weight over and over brings freed addresses back, with the same version number.
    for number in range(20):
        layer.weight = nn.Parameter(torch.full((256, 256), float(number)))
        for _ in range(BATCHES_BEFORE + 2):
            found, expected = applied(layer)
            torch.testing.assert_close(found, expected, atol=1e-2, rtol=1e-5)


def test_weights_made_in_inference_mode_and_ones_with_gaps_are_left_as_they_are():
    with torch.inference_mode():
        made_there = nn.Linear(16, 16)
    with_gaps = nn.Linear(16, 16)
    with_gaps.weight = nn.Parameter(torch.randn(16, 16).t())
    for layer in (made_there, with_gaps):
        for _ in range(BATCHES_BEFORE + 3):
            assert made_of([[layer]], 4) is None
            found, expected = applied(layer)
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_only_small_float32_batches_on_the_cpu_pay():
    most = largest_batch()
    assert most >= LARGEST_BATCH
    assert pays(torch.zeros(LARGEST_BATCH, 4))
    assert pays(torch.zeros(LARGEST_BATCH + 1, 4)) == (most > LARGEST_BATCH)
    assert not pays(torch.zeros(4, 4, dtype=torch.bfloat16))
    assert not pays(torch.zeros(4, 4, device="meta"))


def test_an_arranged_weight_goes_with_its_layer():
    gc.collect()
    before = len(arranged._arranged)
    layer = layer_in_use()
    assert len(arranged._arranged) == before + 1
    del layer
    gc.collect()
    assert len(arranged._arranged) == before


def test_many_threads_may_use_a_layer_whose_weight_is_being_arranged():
    layer = nn.Linear(48, 32)
    wrong = []

    def use():
        for rows in range(1, 60):
            found, expected = applied(layer, rows)
            if not torch.allclose(found, expected, atol=1e-5):
                wrong.append(rows)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert made_of([[layer]], 8) is not None


# -- how large, and how many shapes ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("capability", "maker", "is_any"),
    [
        ("AVX512", "vendor_id\t: AuthenticAMD", True),
        ("AVX512", "vendor_id\t: GenuineIntel", False),
        ("AVX2", "vendor_id\t: AuthenticAMD", False),
    ],
)
def test_batches_of_any_size_take_part_where_mkl_does_not_use_the_processor(
    capability, maker, is_any, monkeypatch
):
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(arranged, "processor_maker", lambda: maker)
    largest_batch.cache_clear()
    try:
        assert (largest_batch() > 2**40) == is_any
    finally:
        largest_batch.cache_clear()


def test_the_maker_is_one_line_of_what_the_system_says():
    assert "\n" not in processor_maker()


def test_a_large_batch_is_arranged_for_at_once():
    assert made_of([[nn.Linear(8, 8)]], LARGEST_BATCH + 1) is not None


@pytest.mark.parametrize("is_any", [True, False])
def test_without_memory_it_does_not_matter_what_was_computed_before(is_any, monkeypatch):
    monkeypatch.setattr(arranged, "largest_batch", lambda: sys.maxsize if is_any else LARGEST_BATCH)
    in_use = layer_in_use()
    fresh = nn.Linear(48, 32)
    fresh.load_state_dict(in_use.state_dict())
    with without_memory(), torch.inference_mode():
        assert pays(torch.zeros(8, 48)) == is_any
        assert not is_any or made_of([[fresh]], 8) is not None
        for rows in (1, 8, 17):
            found, again = (
                linear_for(torch.zeros(rows, 48))(torch.ones(rows, 48) / 3, layer, torch.empty(rows, 32))
                for layer in (in_use, fresh)
            )
            assert torch.equal(found, again)


@settings(deadline=None)
@given(st.integers(1, 10**6))
def test_few_numbers_of_rows_are_met_and_few_rows_are_added(rows):
    filled = rows_filled(rows)
    assert rows <= filled <= rows + max(3, rows // 8)
    assert rows_filled(filled) == filled
    if rows > ALONE:
        assert filled % 4 == 0


@pytest.mark.parametrize(("above", "count"), [(64, 8), (256, 8), (1024, 16), (4096, 16)])
def test_there_are_few_numbers_of_rows_between_one_power_of_two_and_the_next(above, count):
    assert len({rows_filled(rows) for rows in range(above + 1, 2 * above + 1)}) == count
