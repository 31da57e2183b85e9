"""Encoding in several processes: the same results, and an error instead of a wait without end."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pool_targets import Unpicklable, obey
from sentence_transformers import SentenceTransformer
from sentence_transformers.inference import workers
from sentence_transformers.inference.workers import default_devices, run_in_pool, start_pool, stop_pool
from tiny import sample_texts, tiny_checkpoint

pytestmark = pytest.mark.slow

TEXTS = [f"{text} {number}" for number in range(4) for text in sample_texts()]


def within_a_minute(function, *args, **kwargs):
    """What the function returns or raises; a test that would hang fails instead."""
    outcome = queue.SimpleQueue()

    def call():
        try:
            outcome.put((function(*args, **kwargs), None))
        except Exception as error:
            outcome.put((None, error))

    threading.Thread(target=call, daemon=True).start()
    result, error = outcome.get(timeout=60)
    if error is not None:
        raise error
    return result


def ask(pool, inputs, *, chunk_size=None, **options):
    """Results of an obeying pool, in the order of the inputs."""
    results = [None] * len(inputs)
    done = []

    def put(numbers, answers):
        for number, answer in zip(numbers, answers, strict=True):
            results[number] = answer

    within_a_minute(run_in_pool, pool, inputs, options, chunk_size=chunk_size, put=put, update=done.append)
    assert sum(done) == len(inputs)
    return results


@pytest.fixture
def obeying():
    """Starts pools that do as they are told, and ends them."""
    pools = []

    def start(workers=1, **options):
        model = SimpleNamespace(device=torch.device("cpu"))
        pools.append(start_pool(model, ["cpu"] * workers, obey, **options))
        return pools[-1]

    yield start
    for pool in pools:
        stop_pool(pool)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return SentenceTransformer(str(tiny_checkpoint("bert", tmp_path_factory.mktemp("bert"))), device="cpu")


@pytest.fixture(scope="module")
def pool(model):
    pool = model.start_multi_process_pool(["cpu", "cpu"])
    yield pool
    model.stop_multi_process_pool(pool)


@pytest.mark.parametrize("chunk_size", [None, 1, 33, 10_000])
def test_a_pool_gives_what_one_process_gives_however_large_the_chunks(model, pool, chunk_size):
    found = model.encode(TEXTS, pool=pool, chunk_size=chunk_size)
    np.testing.assert_allclose(found, model.encode(TEXTS), atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"convert_to_tensor": True, "normalize_embeddings": True},
        {"convert_to_numpy": False, "truncate_dim": 8},
        {"precision": "binary"},
        {"prompt": "What is meant by: ", "batch_size": 3},
    ],
    ids=str,
)
def test_a_pool_takes_the_options_one_process_takes(model, pool, options):
    found, expected = model.encode(TEXTS, pool=pool, **options), model.encode(TEXTS, **options)
    assert type(found) is type(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_pool_gives_the_embeddings_of_thousands_of_texts_tokens(model, pool):
    texts = [f"{text} {number}" for number in range(50) for text in sample_texts()]
    found = within_a_minute(model.encode, texts, pool=pool, output_value="token_embeddings", chunk_size=1250)
    some = range(0, 2500, 250)
    for number, expected in zip(
        some, model.encode([texts[n] for n in some], output_value="token_embeddings")
    ):
        torch.testing.assert_close(found[number], expected, atol=1e-5, rtol=0)


def test_a_pool_takes_token_ids_as_tensors(model, pool):
    ids = [torch.tensor(row) for row in model[0].read_rows(TEXTS).ids]
    found = within_a_minute(model.encode, ids, pool=pool)
    np.testing.assert_allclose(found, model.encode(TEXTS), atol=1e-5)


def test_a_single_text_and_no_text_go_through_a_pool_too(model, pool):
    assert model.encode("one text", pool=pool).shape == (32,)
    assert model.encode([], pool=pool).shape == (0,)


def test_calls_that_share_a_pool_do_not_mix(model, pool):
    shares = [TEXTS[number::4] for number in range(4)]
    found = [None] * 4

    def encode(number):
        found[number] = [model.encode(shares[number], pool=pool, chunk_size=5) for _ in range(3)]

    threads = [threading.Thread(target=encode, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    for share, results in zip(shares, found, strict=True):
        for result in results:
            np.testing.assert_allclose(result, model.encode(share), atol=1e-5)


def test_a_pool_without_the_entries_that_are_made_later_will_do(model, pool):
    plain = {name: pool[name] for name in ("input", "output", "processes")}
    plain.update({name: pool[name] for name in ("arrived", "reader") if name in pool})
    np.testing.assert_allclose(model.encode(TEXTS[:3], pool=plain), model.encode(TEXTS[:3]), atol=1e-5)


def test_a_list_of_devices_starts_processes_for_the_call(model):
    found = model.encode(TEXTS, device=["cpu", "cpu"])
    np.testing.assert_allclose(found, model.encode(TEXTS), atol=1e-5)


def test_an_error_in_a_worker_comes_with_its_traceback_and_leaves_the_pool_in_use(obeying):
    pool = obeying()
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"(?s)worker process failed.*Traceback.*int\(\"no number\"\)"):
            ask(pool, ["fine", "raise", "fine"] * 10, chunk_size=1)
        assert [answer[0] for answer in ask(pool, ["a", "bb", "ccc"], chunk_size=1)] == [1, 2, 3]


def test_a_call_that_fails_leaves_little_work_behind(obeying):
    pool = obeying()
    with pytest.raises(RuntimeError, match="worker process failed"):
        ask(pool, ["raise"] + ["slow"] * 1000, chunk_size=1, seconds=0.2)
    # The pool would work for more than three minutes if everything had been sent.
    assert [answer[0] for answer in ask(pool, ["a"])] == [1]


def test_what_cannot_be_sent_is_an_error_in_either_direction(obeying):
    pool = obeying()
    with pytest.raises(RuntimeError, match=r"(?s)worker process failed.*cannot be pickled"):
        ask(pool, ["unpicklable"])
    with pytest.raises(TypeError, match="cannot be pickled"):
        ask(pool, [Unpicklable()])
    with pytest.raises(TypeError, match="cannot be pickled"):
        ask(pool, ["a"], option=Unpicklable())
    assert [answer[0] for answer in ask(pool, ["a"])] == [1]


@pytest.mark.parametrize("order", ["exit", "half"])
def test_a_worker_that_dies_at_work_is_an_error_that_ends_the_pool(obeying, order):
    pool = obeying(workers=2)
    with pytest.raises(RuntimeError, match=r"died \(exit codes \[[39]\]\)"):
        ask(pool, ["fine", order, "fine", "fine"], chunk_size=1)
    assert pool["processes"] == []
    with pytest.raises(RuntimeError, match="has been stopped"):
        ask(pool, ["fine"])


def test_a_worker_that_was_killed_while_idle_is_an_error(obeying):
    pool = obeying()
    ask(pool, ["a"])
    pool["processes"][0].kill()
    with pytest.raises(RuntimeError, match=r"died \(exit codes \[-9\]\)"):
        ask(pool, ["a"])


def test_a_worker_that_hangs_is_an_error_once_the_pools_time_is_over(obeying):
    pool = obeying(workers=2, timeout=20)
    ask(pool, ["a"])
    pool["timeout"] = 2.0
    began = time.monotonic()
    with pytest.raises(
        RuntimeError, match=r"No worker process gave a result for 2 seconds.*pool was stopped"
    ):
        ask(pool, ["fine", "sleep", "fine"], chunk_size=1)
    assert time.monotonic() - began < 15
    with pytest.raises(RuntimeError, match="has been stopped"):
        ask(pool, ["fine"])


def test_work_that_goes_on_may_take_longer_than_the_timeout(obeying):
    pool = obeying(timeout=20)
    ask(pool, ["a"])
    pool["timeout"] = 2.0
    assert len(ask(pool, ["slow"] * 8, chunk_size=1, seconds=0.5)) == 8


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs signals")
def test_a_worker_that_does_not_even_end_when_asked_is_killed(obeying, monkeypatch):
    monkeypatch.setattr(workers, "SECONDS_TO_END", 0.5)
    pool = obeying(timeout=20)
    ask(pool, ["a"])
    pool["timeout"] = 1.0
    process = pool["processes"][0]
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(RuntimeError, match="No worker process gave a result"):
        ask(pool, ["fine"])
    assert not process.is_alive()


@pytest.mark.parametrize("timeout", [0, -1, "soon"])
def test_a_timeout_that_is_no_time_is_refused(timeout):
    with pytest.raises(ValueError, match="no time to wait"):
        start_pool(SimpleNamespace(device=torch.device("cpu")), ["cpu"], obey, timeout=timeout)


def test_stopping_a_pool_at_work_is_an_error_to_the_call_that_waits(obeying):
    pool = obeying()
    ask(pool, ["a"])
    threading.Timer(0.5, stop_pool, [pool]).start()
    with pytest.raises(RuntimeError, match=r"stopped|died"):
        ask(pool, ["sleep"])
    assert not [thread for thread in threading.enumerate() if thread is pool["reader"]]


def test_a_pool_may_be_stopped_twice_and_its_processes_end(obeying):
    pool = obeying(workers=2)
    processes = list(pool["processes"])
    stop_pool(pool)
    stop_pool(pool)
    assert [process.is_alive() for process in processes] == [False, False]


def test_a_pool_without_devices_is_refused():
    with pytest.raises(ValueError, match="at least one device"):
        start_pool(SimpleNamespace(device=torch.device("cpu")), [], obey)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine with GPUs uses those")
def test_a_machine_without_gpus_gets_four_workers():
    assert default_devices() == ["cpu"] * 4


def test_a_chunk_size_of_nothing_is_refused(pool):
    with pytest.raises(ValueError, match="chunk_size=0 sends nothing"):
        run_in_pool(pool, ["a"], {}, chunk_size=0, put=lambda numbers, result: None)
