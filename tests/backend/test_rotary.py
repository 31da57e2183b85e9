"""Rotary positions against complex numbers, of which they are products."""

from __future__ import annotations

import pytest
import torch

from sentence_transformers.backend import fixed_shapes, rotary

FREQUENCIES = torch.tensor([1.0, 0.3, 0.05, 0.001])


def turned(states, positions, **options):
    turns = rotary.turns_of(
        positions, FREQUENCIES, options.pop("scaling", 1.0), options.pop("dtype", torch.float32)
    )
    states = states.clone()
    rotary.turn(states, turns, states.new_empty(2, *states.shape[:2], states.shape[2] // 2))
    return states


def by_definition(states, positions, scaling=1.0):
    pairs = torch.complex(*states.double().chunk(2, dim=-1))
    angles = positions[:, None, None] * FREQUENCIES.double()
    found = scaling * pairs * torch.exp(1j * angles)
    return torch.cat([found.real, found.imag], dim=-1).float()


@pytest.mark.parametrize("scaling", [1.0, 1.3])
def test_pairs_of_numbers_are_turned_as_points_in_the_plane(scaling):
    states, positions = torch.randn(40, 3, 8), torch.randint(0, 500, (40,))
    found = turned(states, positions, scaling=scaling)
    torch.testing.assert_close(found, by_definition(states, positions, scaling), atol=1e-4, rtol=1e-5)


def test_a_product_depends_on_distances_only():
    query, key = torch.randn(1, 2, 8), torch.randn(1, 2, 8)
    products = [
        (turned(query, torch.tensor([here])) * turned(key, torch.tensor([here + 7]))).sum(dim=-1)
        for here in (0, 5, 90)
    ]
    torch.testing.assert_close(products[0], products[1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(products[0], products[2], atol=1e-4, rtol=1e-4)


def test_what_is_turned_may_be_a_part_of_something_else():
    states, positions = torch.randn(10, 9, 8), torch.arange(10)
    expected = states.clone()
    expected[:, :6] = turned(states[:, :6], positions)
    part = states[:, :6]
    rotary.turn(
        part,
        rotary.turns_of(positions, FREQUENCIES, 1.0, torch.float32),
        states.new_empty(2, 10, 6, 4),
    )
    assert torch.equal(states, expected)


def test_in_fixed_shapes_a_position_has_the_same_bits_anywhere():
    assert rotary.can_be_fixed(FREQUENCIES)
    with fixed_shapes.fixed_shapes():
        whole = rotary.turns_of(torch.arange(192), FREQUENCIES, 1.0, torch.float32)
        for start in (0, 16, 47, 100):
            part = rotary.turns_of(torch.arange(start, start + 80), FREQUENCIES, 1.0, torch.float32)
            for one, other in zip(part, whole, strict=True):
                assert torch.equal(one, other[start : start + 80])
