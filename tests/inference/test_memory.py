"""How many tokens fit, and that nothing grows while a model encodes."""

from __future__ import annotations

import gc
import os
import threading

import psutil
import pytest
import torch

from sentence_transformers import SentenceTransformer
from sentence_transformers.inference.memory import (
    SMALLEST_BUDGET,
    TokenBudget,
    is_out_of_memory,
    release_memory,
)
from tiny import sample_texts, tiny_checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return SentenceTransformer(str(tiny_checkpoint("bert", tmp_path_factory.mktemp("bert"))), device="cpu")


def test_a_budget_is_halved_by_what_did_not_fit_and_never_rises():
    budget = TokenBudget("cuda:0")
    assert budget.tokens > TokenBudget("cpu").tokens
    budget.lower(10_000)
    assert budget.tokens == 5000
    budget.lower(20_000)
    assert budget.tokens == 5000
    for _ in range(50):
        budget.lower(budget.tokens)
    assert budget.tokens == SMALLEST_BUDGET


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError(),
        RuntimeError("MPS backend out of memory (MPS allocated: 1.00 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    ids=str,
)
def test_what_devices_say_when_memory_runs_out_is_understood(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes cannot be multiplied"), ValueError("out of memory"), OSError()]
)
def test_other_errors_are_not_taken_for_it(error):
    assert not is_out_of_memory(error)


def test_memory_can_be_released_on_any_device():
    release_memory(torch.device("cpu"))


def test_a_real_allocation_that_fails_is_understood():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("output_value", ["sentence_embedding", "token_embeddings"])
def test_memory_and_threads_stay_as_they_are_over_many_calls(model, output_value):
    texts = sample_texts()
    process = psutil.Process(os.getpid())

    def encode_many_times(calls):
        for number in range(calls):
            model.encode([f"{text} {number}" for text in texts], output_value=output_value)
        gc.collect()
        return process.memory_info().rss

    # The allocator takes some calls to settle.
    before, threads = encode_many_times(20), threading.active_count()
    assert encode_many_times(60) - before < 8 * 2**20
    assert threading.active_count() == threads
