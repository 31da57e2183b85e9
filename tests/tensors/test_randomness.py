import random

import numpy as np
import pytest
import torch

from sentence_transformers.tensors.randomness import (
    RandomState,
    global_state,
    global_state_kept,
    set_global_state,
)


def test_random_numbers_are_repeated_any_number_of_times():
    state = RandomState(torch.ones(2))
    first = torch.rand(4)
    for _ in range(2):
        with state:
            assert torch.rand(4).tolist() == first.tolist()


def test_afterwards_random_numbers_go_on_as_if_nothing_had_been():
    torch.manual_seed(7)
    torch.rand(3)
    expected = torch.rand(3)

    torch.manual_seed(7)
    state = RandomState()
    torch.rand(3)
    with state, state:
        torch.rand(9)
    assert torch.rand(3).tolist() == expected.tolist()


def test_random_numbers_go_on_also_after_an_error():
    state = RandomState()
    torch.rand(3)
    before = torch.get_rng_state()
    with pytest.raises(KeyError), state:
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_hides_the_same_entries_again():
    dropout = torch.nn.Dropout(0.5)
    values = torch.ones(50)
    state = RandomState(values)
    first = dropout(values)
    second = dropout(values)
    with state:
        again = dropout(values)
    assert torch.equal(again, first)
    assert not torch.equal(second, first)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_random_numbers_of_a_gpu_are_repeated():
    values = torch.ones(2, device="cuda")
    state = RandomState(values)
    first = torch.rand(4, device="cuda")
    with state:
        assert torch.equal(torch.rand(4, device="cuda"), first)


def drawn() -> list[float]:
    return [random.random(), float(np.random.rand()), torch.rand(1).item()]


def test_all_generators_go_on_as_if_a_block_had_drawn_nothing():
    state = global_state()
    expected = drawn()
    set_global_state(state)
    with global_state_kept():
        assert drawn() == expected
    assert drawn() == expected


def test_the_state_of_all_generators_survives_a_file(tmp_path):
    np.random.standard_normal()  # leaves a second number for the next call
    torch.save(global_state(), tmp_path / "state.pt")
    expected = [*drawn(), np.random.standard_normal()]
    set_global_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [*drawn(), np.random.standard_normal()] == expected
