"""Blocks in which a row's place does not matter, tried with functions for which it does."""

from __future__ import annotations

import threading

import pytest
import torch

from sentence_transformers.backend import fixed_shapes
from sentence_transformers.backend.fixed_shapes import by_blocks, filled_up, possible


@pytest.fixture(autouse=True)
def nothing_tried(monkeypatch):
    monkeypatch.setattr(fixed_shapes, "_tried", {})


class Doubling:
    """Doubles rows, and adds a little to the last of more than `fair_up_to` rows."""

    def __init__(self, fair_up_to):
        self.fair_up_to = fair_up_to
        self.sizes = []

    def __call__(self, rows, out):
        self.sizes.append(len(rows))
        torch.mul(rows, 2, out=out)
        if len(rows) > self.fair_up_to:
            out[-1] += 1e-3


def doubled(doubling, rows, **options):
    doubling.sizes.clear()
    return by_blocks(doubling, rows, out=torch.empty_like(rows), key="doubling", **options)


@pytest.mark.parametrize("fair_up_to", [16, 64, 256, 100_000])
@pytest.mark.parametrize("count", [16, 32, 64, 192, 1024, 1088, 5056])
def test_blocks_are_as_large_as_places_do_not_matter_in_them(fair_up_to, count):
    doubling, rows = Doubling(fair_up_to), torch.randn(count, 5)
    torch.testing.assert_close(doubled(doubling, rows), rows * 2, atol=0, rtol=0)
    doubled(doubling, rows)  # once everything has been tried
    assert sum(doubling.sizes) == count
    powers = {2**power for power in range(4, 13)}
    assert set(doubling.sizes) <= {size for size in powers if size <= max(16, fair_up_to)}
    assert max(doubling.sizes) == max(size for size in powers if size <= min(count, max(16, fair_up_to)))


def test_each_shape_is_tried_once():
    doubling, rows = Doubling(100_000), torch.randn(192, 5)
    doubled(doubling, rows)
    assert len(doubling.sizes) > 2
    doubled(doubling, rows)
    assert doubling.sizes == [128, 64]


def test_single_rows_are_blocks_where_there_is_no_smallest_size():
    doubling, rows = Doubling(2), torch.randn(7, 5)
    torch.testing.assert_close(doubled(doubling, rows, least=1), rows * 2, atol=0, rtol=0)
    doubled(doubling, rows, least=1)
    assert doubling.sizes == [2, 2, 2, 1]


def test_a_function_for_which_places_matter_in_the_smallest_block_is_told():
    row = torch.empty(0, 5)
    assert possible(Doubling(16), row, out=row, key="fair")
    assert not possible(Doubling(15), row, out=row, key="unfair")


def test_functions_that_overwrite_rows_are_computed_in_place():
    rows = torch.randn(192, 5)
    expected = torch.relu(rows)
    assert by_blocks(torch.relu_, out=rows, key="relu") is rows
    torch.testing.assert_close(rows, expected, atol=0, rtol=0)


def test_a_trial_that_shows_nothing_is_not_remembered():
    """As with a layer whose weights are zeros: another layer of that shape may have others."""
    row = torch.empty(0, 5)
    assert possible(lambda rows, out: out.zero_(), row, out=row, key="linear")
    assert not possible(Doubling(15), row, out=row, key="linear")


@pytest.mark.parametrize(
    ("count", "filled"), [(0, 0), (1, 16), (16, 16), (17, 32), (64, 64), (65, 128), (2000, 2048)]
)
def test_tokens_are_filled_up_to_whole_blocks(count, filled):
    tokens = torch.arange(1, count + 1)
    found = filled_up(tokens)
    assert found.tolist() == [*range(1, count + 1), *[0] * (filled - count)]


def test_it_is_wanted_by_the_thread_that_says_so_alone():
    seen = []
    with fixed_shapes.fixed_shapes():
        assert fixed_shapes.wanted()
        thread = threading.Thread(target=lambda: seen.append(fixed_shapes.wanted()))
        thread.start()
        thread.join()
    assert not fixed_shapes.wanted()
    assert seen == [False]


@pytest.mark.parametrize("shape", [(384, 384), (384, 1536), (1536, 384)], ids=str)
def test_matrix_products_of_a_real_model_are_computed_in_large_blocks_here(shape):
    """Not a promise of every machine; where it fails, the deterministic mode is right but slower."""
    generator = torch.Generator().manual_seed(0)
    weight, rows = torch.randn(*shape, generator=generator), torch.randn(512, shape[0], generator=generator)
    whole = by_blocks(
        lambda given, out: torch.mm(given, weight, out=out),
        rows,
        out=rows.new_empty(512, shape[1]),
        key=shape,
    )
    for start in range(0, 512, 16):
        part = rows[start : start + 16]
        assert torch.equal(torch.mm(part, weight), whole[start : start + 16])
