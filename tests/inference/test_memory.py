"""How many tokens fit, and that nothing grows while a model encodes."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading

import psutil
import pytest
import torch

from sentence_transformers import SentenceTransformer
from sentence_transformers.inference.memory import (
    FITTING_BEFORE_MORE,
    SMALLEST_BUDGET,
    TokenBudget,
    is_out_of_memory,
    release_memory,
)
from tiny import SAMPLE, sample_texts, tiny_checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return SentenceTransformer(str(tiny_checkpoint("bert", tmp_path_factory.mktemp("bert"))), device="cpu")


def test_a_budget_is_halved_by_what_did_not_fit():
    budget = TokenBudget("cuda:0")
    assert budget.tokens > TokenBudget("cpu").tokens
    budget.lower(10_000)
    assert budget.tokens == 5000
    budget.lower(20_000)
    assert budget.tokens == 5000
    for _ in range(50):
        budget.lower(budget.tokens)
    assert budget.tokens == SMALLEST_BUDGET


def test_a_budget_comes_back_once_many_large_batches_have_fitted():
    budget = TokenBudget("cpu")
    budget.lower(2000)
    for _ in range(10 * FITTING_BEFORE_MORE):
        budget.fitted(499)  # small batches tell nothing
    assert budget.tokens == 1000
    for _ in range(FITTING_BEFORE_MORE):
        assert budget.tokens == 1000
        budget.fitted(1000)
    assert budget.tokens == 2000
    for _ in range(10 * FITTING_BEFORE_MORE):
        budget.fitted(budget.tokens)
    assert budget.tokens == TokenBudget("cpu").tokens


def test_a_budget_that_keeps_proving_too_large_is_tried_more_and_more_rarely():
    budget, tries = TokenBudget("cpu"), 0
    budget.tokens = 1024
    for _ in range(2000):
        if budget.tokens > 600:
            budget.lower(budget.tokens)
            tries += 1
        else:
            budget.fitted(budget.tokens)
    assert 5 <= tries <= 8


def test_a_budget_that_never_failed_stays_as_it_is():
    budget = TokenBudget("cpu")
    budget.tokens = 100
    for _ in range(100 * FITTING_BEFORE_MORE):
        budget.fitted(100)
    assert budget.tokens == 100


STARVED = """
import json, resource, sys
import numpy as np, torch

torch.set_num_threads(1)
from sentence_transformers import SentenceTransformer
from sentence_transformers.inference import memory

memory.FITTING_BEFORE_MORE = 2
folder, room, options = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
model = SentenceTransformer(folder, device="cpu")
texts = [f"{line} {number}" for number in range(2) for line in open(sys.argv[4]).read().splitlines()]
expected = model.encode(texts, **options)
budget = model._budget()
budget.tokens = whole = sum(map(len, model[0].read_rows(texts).ids))
in_use = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
_, most = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (in_use + room, most))
found = model.encode(texts, **options)
resource.setrlimit(resource.RLIMIT_AS, (most, most))
lowered, calls = budget.tokens, 0
while budget.tokens < whole and calls < 50:
    model.encode(texts, **options)
    calls += 1
print(json.dumps({
    "whole": whole, "lowered": lowered, "in_the_end": budget.tokens,
    "off": float(np.abs(found - expected).max()), "same_bits": found.tobytes() == expected.tobytes(),
}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a limit on a process's memory")
@pytest.mark.parametrize("deterministic", [False, True])
def test_a_process_that_may_take_no_more_memory_computes_all_the_same(tmp_path, deterministic):
    # Wide inside, so that nearly all memory is that of the batch: 32 KiB for each token.
    checkpoint = tiny_checkpoint("bert", tmp_path, intermediate_size=8192, num_hidden_layers=1)
    given = [str(checkpoint), str(70 * 2**20), json.dumps({"deterministic": deterministic}), str(SAMPLE)]
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [sys.executable, "-c", STARVED, *given], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "Out of memory on cpu with a batch of" in done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["lowered"] <= result["whole"] // 2
    assert result["in_the_end"] == result["whole"]
    assert result["off"] < 1e-5
    assert result["same_bits"] or not deterministic


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
