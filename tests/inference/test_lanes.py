"""Batches side by side: the same results in the same places, whoever computes them."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextvars import ContextVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sentence_transformers import SentenceTransformer
from sentence_transformers.encoder.computing import is_shared_by_threads
from sentence_transformers.inference import lanes
from sentence_transformers.inference.lanes import (
    BATCHES_PER_LANE,
    FEWEST_TOKENS,
    MOST_LANES,
    Lanes,
    is_lane,
    lanes_for,
    tokens_of_batch,
)
from tiny import tiny_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return str(tiny_checkpoint("bert", tmp_path_factory.mktemp("bert")))


@pytest.fixture
def model(checkpoint):
    """A model to do anything to."""
    return SentenceTransformer(checkpoint, device="cpu")


@pytest.fixture
def threads():
    """Four threads for PyTorch, whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield 4
    torch.set_num_threads(before)


@pytest.fixture
def narrow_lanes(monkeypatch, threads):
    """Lanes for few tokens, so that tiny inputs fill several."""
    monkeypatch.setattr(lanes, "FEWEST_TOKENS", 8)


def test_few_tokens_have_one_lane_and_many_have_all(threads):
    assert [lanes_for(tokens) for tokens in (0, 1, FEWEST_TOKENS, 2 * FEWEST_TOKENS, 10**6)] == [
        1,
        1,
        1,
        2,
        4,
    ]
    torch.set_num_threads(64)
    assert lanes_for(10**6) == MOST_LANES
    assert lanes_for(10**6, most=32) == 32
    torch.set_num_threads(1)
    assert lanes_for(10**6) == 1


@given(
    tokens=st.integers(MOST_LANES * FEWEST_TOKENS, 10**6),
    count=st.integers(2, MOST_LANES),
    most=st.sampled_from([64, 2048, 16384]),
)
def test_batches_keep_all_lanes_busy_within_the_budget(tokens, count, most):
    each = tokens_of_batch(tokens, count, most)
    assert 1 <= each <= most
    batches = -(-tokens // each)
    assert batches >= count
    if each < most:
        assert batches <= count * BATCHES_PER_LANE
        assert each >= FEWEST_TOKENS
    assert tokens_of_batch(tokens, 1, most) == most


def test_results_come_in_the_order_of_the_tasks_whichever_is_done_first(threads):
    def compute(number):
        time.sleep(0.02 if number % 2 == 0 else 0)
        return number

    with Lanes(3) as side_by_side:
        assert list(side_by_side.map(compute, range(20))) == list(range(20))


def test_each_lane_has_its_share_of_the_threads_and_nobody_else_loses_any(threads):
    with Lanes(2) as side_by_side:
        assert set(side_by_side.map(lambda _: torch.get_num_threads(), range(8))) == {2}
        assert torch.get_num_threads() == threads
        found = []
        other = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        other.start()
        other.join()
    assert found == [threads]
    assert torch.get_num_threads() == threads


def test_a_lane_knows_that_it_is_one(threads):
    with Lanes(2) as side_by_side:
        assert all(side_by_side.map(lambda _: is_lane(), range(4)))
    assert not is_lane()


def test_lanes_see_the_callers_context_and_keep_no_gradients(threads):
    word = ContextVar("word", default="nothing")
    word.set("something")
    with Lanes(2) as side_by_side:
        assert (
            list(side_by_side.map(lambda _: (word.get(), torch.is_inference_mode_enabled()), range(2)))
            == [("something", True)] * 2
        )


def test_an_error_ends_the_work_and_leaves_no_thread_behind(threads):
    begun = []

    def compute(number):
        begun.append(number)
        if number == 1:
            raise ValueError("number one")
        return number

    with pytest.raises(ValueError, match="number one"), Lanes(2) as side_by_side:
        list(side_by_side.map(compute, range(1000)))
    assert len(begun) < 20
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("lane")]


def lanes_used(monkeypatch):
    """How many lanes each run had, from now on."""
    used = []

    class Noted(Lanes):
        def __init__(self, count):
            used.append(count)
            super().__init__(count)

    monkeypatch.setattr(lanes, "Lanes", Noted)
    return used


TEXTS = [f"text number {number} " + "and more " * (number % 7) for number in range(60)]


def test_a_model_gives_the_same_vectors_in_lanes(model, narrow_lanes, monkeypatch):
    expected = np.stack([model.encode(text) for text in TEXTS])
    used = lanes_used(monkeypatch)
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=1e-6)
    assert used == [4]
    tokens = model.encode(TEXTS, output_value="token_embeddings")
    assert used == [4, 4]
    for found, text in zip(tokens, TEXTS):
        np.testing.assert_allclose(found, model.encode(text, output_value="token_embeddings"), atol=1e-6)


def test_deterministic_results_never_depend_on_lanes(model, narrow_lanes, monkeypatch):
    used = lanes_used(monkeypatch)
    together = model.encode(TEXTS, deterministic=True)
    np.testing.assert_array_equal(together[7], model.encode(TEXTS[7], deterministic=True))
    assert used == []


def test_whoever_looks_on_sees_one_batch_after_the_other(model, narrow_lanes, monkeypatch):
    used = lanes_used(monkeypatch)
    seen = []
    handle = model[0].register_forward_hook(lambda *details: seen.append(threading.current_thread()))
    try:
        model.encode(TEXTS)
    finally:
        handle.remove()
    assert used == []
    assert set(seen) == {threading.current_thread()}
    assert is_shared_by_threads(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not is_shared_by_threads(model)
    with torch.device("cpu"):
        assert not is_shared_by_threads(model)
    model.append(torch.nn.Identity())
    assert not is_shared_by_threads(model)


def test_a_batch_that_does_not_fit_is_halved_in_its_lane(model, narrow_lanes, monkeypatch):
    expected = model.encode(TEXTS)
    real, failed = type(model).forward, []

    def short_of_memory(features, **kwargs):
        if features["input_ids"].numel() > 40:
            failed.append(features["input_ids"].numel())
            raise MemoryError("pretended")
        return real(model, features, **kwargs)

    monkeypatch.setattr("sentence_transformers.encoder.computing.is_shared_by_threads", lambda *model: True)
    monkeypatch.setattr(model, "forward", short_of_memory)
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=1e-6)
    assert failed


def test_without_further_threads_batches_come_one_after_the_other(model, narrow_lanes, monkeypatch):
    expected = model.encode(TEXTS)

    def no_thread(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=1e-6)


AT_THE_END = """
import atexit, sys, torch
from sentence_transformers import SentenceTransformer
torch.set_num_threads(2)
model = SentenceTransformer(sys.argv[1], device="cpu")
texts = [f"text number {number} and more of it" for number in range(400)]
before = model.encode(texts)
atexit.register(lambda: print("same", abs(model.encode(texts) - before).max() < 1e-6))
"""


def test_a_model_can_be_used_while_python_ends(checkpoint):
    done = subprocess.run(
        [sys.executable, "-c", AT_THE_END, checkpoint], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "same True", done.stderr


def test_many_callers_at_once_get_their_own_results(model, narrow_lanes):
    expected = model.encode(TEXTS)
    found = {}

    def call(number):
        found[number] = model.encode(TEXTS)

    callers = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for vectors in found.values():
        np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert len(found) == 4
