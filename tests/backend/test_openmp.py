"""Threads that compute no more let their helpers go; those that go on computing keep them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest
import torch

from sentence_transformers import SentenceTransformer
from sentence_transformers.backend import openmp
from sentence_transformers.backend.openmp import helpers_let_go, keep_helpers, release_helpers
from tiny import tiny_checkpoint

needs_gnu_openmp = pytest.mark.skipif(
    openmp._pause() is None, reason="PyTorch is not built with GNU's OpenMP here"
)


def compute():
    """What is shared by all of the thread's helpers."""
    return torch.ones(1_000_000).mul_(2).sum().item()


def call():
    """What a caller asks for."""
    with helpers_let_go():
        compute()


def threads_of_the_process():
    return set(os.listdir("/proc/self/task"))


def in_a_thread(work):
    """What it gives in a thread of its own, with two of PyTorch's threads."""
    found = []

    def run():
        torch.get_num_threads()
        torch.set_num_threads(2)
        found.append(work())

    before = torch.get_num_threads()
    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    torch.set_num_threads(before)
    return found[0]


def helpers_after(work):
    """How many helpers the thread has that did this work: those threads that it began, and that do not end."""
    before = threads_of_the_process()
    work()
    for _ in range(100):
        left = threads_of_the_process() - before
        if not left:
            break
        time.sleep(0.01)
    return len(left)


@pytest.fixture
def alone(monkeypatch):
    """Nobody computed yet."""
    monkeypatch.setattr(openmp, "_seen", openmp._Seen())


@needs_gnu_openmp
def test_helpers_are_let_go_and_come_again():
    def work():
        def released():
            compute()
            release_helpers()

        return helpers_after(compute), helpers_after(released), helpers_after(compute), compute()

    assert in_a_thread(work) == (1, 0, 1, 2_000_000)


@needs_gnu_openmp
def test_a_thread_keeps_its_helpers_once_it_computes_again_and_again_alone(alone):
    def work():
        return [helpers_after(call) for _ in range(openmp.FIRST_CALLS)], helpers_after(call)

    first, later = in_a_thread(work)
    assert set(first) == {0}
    assert later == 1


@needs_gnu_openmp
def test_threads_that_compute_by_turns_keep_none(alone):
    def work():
        for _ in range(openmp.FIRST_CALLS):
            call()
        in_a_thread(call)
        return helpers_after(call)

    assert in_a_thread(work) == 0


@needs_gnu_openmp
def test_who_computes_for_the_others_keeps_them(alone):
    def work():
        keep_helpers()
        in_a_thread(call)
        return helpers_after(call)

    assert in_a_thread(work) == 1


@needs_gnu_openmp
def test_a_failure_lets_them_go_too(alone):
    def call():
        with pytest.raises(ValueError, match="wrong"), helpers_let_go():
            compute()
            raise ValueError("wrong")

    assert in_a_thread(lambda: helpers_after(call)) == 0


@needs_gnu_openmp
def test_a_model_that_is_loaded_and_tried_leaves_none(tmp_path):
    folder = str(tiny_checkpoint("bert", tmp_path))
    texts = ["a text " * 30] * 64

    def work():
        def load_and_try():
            compute()
            SentenceTransformer(folder, device="cpu").encode(texts)

        load_and_try()  # other libraries begin threads of theirs
        return helpers_after(load_and_try)

    assert in_a_thread(work) == 0


def test_without_gnu_openmp_nothing_happens(monkeypatch):
    monkeypatch.setattr(openmp, "_pause", lambda: None)
    with helpers_let_go():
        assert compute() == 2_000_000


@needs_gnu_openmp
def test_the_search_for_it_loads_nothing():
    code = """
import torch
from pathlib import Path
from sentence_transformers.backend.openmp import release_helpers

def libraries():
    return {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "gomp" in line}

before = libraries()
release_helpers()
assert before
assert libraries() == before
"""
    subprocess.run([sys.executable, "-c", code], check=True)
