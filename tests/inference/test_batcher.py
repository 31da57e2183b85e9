"""Requests of many callers, computed together: each gets its own, in fair order, and nothing is lost."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.inference.batcher import Batcher, BatcherClosed, QueueFull
from sentence_transformers.inference.fair_queue import TURN
from tiny import sample_texts, tiny_checkpoint

TEXTS = sample_texts()


class Lengths:
    """Gives for each text its length; holds a batch until `open` is set, and writes down what it was given."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.open = threading.Event()
        self.begun = threading.Event()
        self.batches: list[list[str]] = []
        self.options: list[dict[str, object]] = []
        if is_open:
            self.open.set()

    def is_singular_input(self, inputs):
        return isinstance(inputs, (str, int))

    def encode(self, inputs, show_progress_bar=None, **options):
        self.batches.append(list(inputs))
        self.options.append(options)
        self.begun.set()
        assert self.open.wait(30)
        if any("bad" in text for text in inputs):
            raise ValueError(f"bad text among {len(inputs)}")
        return np.array([[len(text)] for text in inputs], dtype=np.float32).reshape(len(inputs), 1)


@pytest.fixture
def model():
    return Lengths()


@pytest.fixture
def held():
    """A model at work on a first text, so that all further requests wait."""
    return Lengths(is_open=False)


def occupy(batcher, model):
    first = batcher.submit("first")
    assert model.begun.wait(30)
    return first


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return SentenceTransformer(str(tiny_checkpoint("bert", tmp_path_factory.mktemp("bert"))), device="cpu")


class SlowAtFirst(Lengths):
    """Two batches have to be computed at once, and the one with the earliest text is done last."""

    def __init__(self) -> None:
        super().__init__()
        self.together = threading.Barrier(2)
        self.later_is_done = threading.Event()
        self.threads: set[int] = set()

    def encode(self, inputs, show_progress_bar=None, **options):
        self.together.wait(30)
        self.threads.add(torch.get_num_threads())
        if "0" in inputs:
            assert self.later_is_done.wait(30)
        else:
            threading.Timer(0.05, self.later_is_done.set).start()
        return np.array([[int(text)] for text in inputs], dtype=np.float32)


def test_workers_share_a_request_whose_results_stay_in_their_places():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    model = SlowAtFirst()
    try:
        with Batcher(model, workers=2) as batcher:
            numbers = batcher.encode([str(number) for number in range(10)])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(numbers, np.arange(10, dtype=np.float32)[:, None])
    assert model.threads == {1}


@pytest.mark.parametrize("workers", [2, 3])
def test_several_workers_give_everyone_their_own(encoder, workers):
    expected = encoder.encode(TEXTS)
    with Batcher(encoder, workers=workers) as batcher, ThreadPoolExecutor(8) as callers:
        for _ in range(5):
            np.testing.assert_allclose(list(callers.map(batcher.encode, TEXTS)), expected, atol=1e-6)
            np.testing.assert_allclose(batcher.encode(TEXTS), expected, atol=1e-6)


def test_a_single_caller_always_gets_the_same_worker(model):
    seen = set()
    encode = model.encode

    def noted(inputs, **options):
        seen.add((threading.current_thread().name, torch.get_num_threads()))
        return encode(inputs, **options)

    model.encode = noted
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with Batcher(model, workers=2) as batcher:
            for text in TEXTS[:20]:
                batcher.encode(text)
    finally:
        torch.set_num_threads(before)
    assert seen == {("batcher-0", 2)}


def test_a_worker_leaves_the_others_their_share_of_what_waits(held):
    before = torch.get_num_threads()
    try:
        with Batcher(held, workers=2) as batcher:
            at_work = [batcher.submit("first"), batcher.submit("second")]
            while batcher.waiting:
                time.sleep(0.001)
            waiting = [batcher.submit(f"text {number}") for number in range(20)]
            held.open.set()
            wait([*at_work, *waiting], 30)
    finally:
        torch.set_num_threads(before)
    # Of the 20, and of the one that the other computes.
    assert max(map(len, held.batches)) <= 11
    assert sum(map(len, held.batches)) == 22


class Slow(Lengths):
    """Takes much longer than its callers."""

    def encode(self, inputs, **options):
        time.sleep(0.3)
        return super().encode(inputs, **options)


def test_callers_who_come_back_one_after_the_other_share_a_batch_again():
    model = Slow()

    async def caller(batcher, number):
        for _ in range(4):
            await batcher.aencode(f"text {number}")
            await asyncio.sleep(0.002 * number)

    async def run():
        with Batcher(model, max_delay=0.001) as batcher:
            await asyncio.gather(*(caller(batcher, number) for number in range(6)))

    asyncio.run(run())
    # While there are first ones only, nobody can know that there are more.
    assert [len(batch) for batch in model.batches].count(6) >= 3


def test_a_caller_alone_waits_for_nobody_though_there_were_many():
    model = Lengths()
    with Batcher(model, max_delay=0.5) as batcher:
        wait([batcher.submit(f"text {number}") for number in range(3)], 30)
        for _ in range(2):
            batcher.encode("alone")
        began = time.perf_counter()
        for _ in range(20):
            batcher.encode("alone")
        assert time.perf_counter() - began < 5.0


# -- results ----------------------------------------------------------------------------------------------


def test_threads_get_what_the_model_gives_for_their_texts(encoder):
    expected = encoder.encode(TEXTS)
    with Batcher(encoder) as batcher, ThreadPoolExecutor(16) as threads:
        found = list(threads.map(batcher.encode, TEXTS * 4))
    np.testing.assert_allclose(np.stack(found), np.tile(expected, (4, 1)), atol=5e-6)


def test_coroutines_get_what_the_model_gives_for_their_texts(encoder):
    async def together():
        return await asyncio.gather(*(batcher.aencode(text) for text in TEXTS))

    with Batcher(encoder) as batcher:
        found = asyncio.run(together())
    np.testing.assert_allclose(np.stack(found), encoder.encode(TEXTS), atol=5e-6)


def test_a_list_gives_an_array_and_an_empty_one_too(encoder):
    with Batcher(encoder) as batcher:
        np.testing.assert_allclose(batcher.encode(TEXTS), encoder.encode(TEXTS), atol=5e-6)
        assert len(batcher.encode([])) == 0


def test_options_reach_the_model(encoder):
    with Batcher(encoder) as batcher:
        found = batcher.encode(TEXTS[0], prompt="query: ", normalize_embeddings=True, truncate_dim=8)
    expected = encoder.encode(TEXTS[0], prompt="query: ", normalize_embeddings=True, truncate_dim=8)
    np.testing.assert_allclose(found, expected, atol=5e-6)


def test_token_ids_share_no_batch_with_texts(encoder):
    ids = encoder.tokenizer(TEXTS[0])["input_ids"]
    with Batcher(encoder) as batcher:
        futures = [batcher.submit(TEXTS[0]), batcher.submit(ids), batcher.submit(TEXTS[1])]
        found = [future.result() for future in futures]
    np.testing.assert_allclose(found[0], found[1], atol=5e-6)


def test_a_cross_encoder_scores_pairs(tmp_path):
    model = CrossEncoder(str(tiny_checkpoint("bert", tmp_path)), num_labels=1, device="cpu")
    pairs = list(zip(TEXTS[:20], TEXTS[20:40]))
    with Batcher(model, method="predict") as batcher:
        alone = [batcher.submit(pair) for pair in pairs]
        as_one = batcher.predict(pairs)
        np.testing.assert_allclose([future.result() for future in alone], model.predict(pairs), atol=5e-6)
    np.testing.assert_allclose(as_one, model.predict(pairs), atol=5e-6)


def test_a_kept_vector_keeps_no_batch(encoder):
    with Batcher(encoder) as batcher:
        assert batcher.encode(TEXTS[0]).base is None


REQUEST = st.tuples(
    st.lists(st.text("abc", max_size=12), min_size=1, max_size=70),
    st.sampled_from([{}, {"prompt": "q"}, {"prompt": "d"}]),
    st.booleans(),
)


@given(st.lists(REQUEST, max_size=12), st.integers(1, 60), st.integers(1, 8), st.sampled_from([0.0, 0.002]))
def test_whatever_the_interleaving_everyone_gets_their_own(requests, max_tokens, callers, max_delay):
    model = Lengths()
    with (
        Batcher(model, max_tokens=max_tokens, max_delay=max_delay) as batcher,
        ThreadPoolExecutor(callers) as threads,
    ):
        futures = [
            threads.submit(batcher.submit, texts[0] if single else texts, **options)
            for texts, options, single in requests
        ]
        found = [future.result().result(30) for future in futures]
    for (texts, _, single), result in zip(requests, found):
        lengths = [[len(text)] for text in texts]
        assert result.tolist() == (lengths[0] if single else lengths)
    for batch, options in zip(model.batches, model.options):
        assert {"q", "d"} >= set(options.values())
        assert len(batch) == 1 or sum(1 + len(text) // 16 for text in batch) <= max_tokens
    assert batcher.waiting == 0


# -- batches ----------------------------------------------------------------------------------------------


def test_what_waits_while_the_model_works_becomes_one_batch(held):
    with Batcher(held) as batcher:
        occupy(batcher, held)
        futures = [batcher.submit(f"text {number}") for number in range(10)]
        held.open.set()
        wait(futures)
    assert [len(batch) for batch in held.batches] == [1, 10]


def test_batches_keep_to_the_budget(held):
    with Batcher(held, max_tokens=30) as batcher:
        occupy(batcher, held)
        futures = [batcher.submit("x" * 36) for _ in range(9)]  # 10 tokens each
        huge = batcher.submit("y" * 4000)
        held.open.set()
        wait([*futures, huge])
    assert [len(batch) for batch in held.batches] == [1, 3, 3, 3, 1]


def test_batches_keep_to_a_number_of_inputs(held):
    with Batcher(held, max_inputs=4) as batcher:
        occupy(batcher, held)
        futures = [batcher.submit("x") for _ in range(9)]
        held.open.set()
        wait(futures)
    assert [len(batch) for batch in held.batches] == [1, 4, 4, 1]


def test_requests_are_served_in_the_order_they_came(held):
    with Batcher(held, max_inputs=3) as batcher:
        occupy(batcher, held)
        texts = [str(number) for number in range(10)]
        wait_for = [batcher.submit(text) for text in texts]
        held.open.set()
        wait(wait_for)
    assert [text for batch in held.batches[1:] for text in batch] == texts


def test_different_options_share_no_batch_and_take_turns(held):
    with Batcher(held, max_inputs=2) as batcher:
        occupy(batcher, held)
        futures = [batcher.submit(f"a{number}", prompt="a") for number in range(6)]
        futures += [batcher.submit("b0", prompt="b"), batcher.submit("c0", prompt="c")]
        held.open.set()
        wait(futures)
    assert held.batches[1:] == [["a0", "a1"], ["b0"], ["c0"], ["a2", "a3"], ["a4", "a5"]]
    assert [options.get("prompt") for options in held.options[1:]] == ["a", "b", "c", "a", "a"]


def test_a_large_request_does_not_hold_up_small_ones(held):
    with Batcher(held, max_inputs=TURN + 2) as batcher:
        occupy(batcher, held)
        large = batcher.submit(["large"] * 10 * TURN)
        small = [batcher.submit("small") for _ in range(2)]
        held.open.set()
        wait([large, *small])
    assert held.batches[1].count("small") == 2
    assert large.result().shape == (10 * TURN, 1)


def test_a_single_caller_does_not_wait_for_others(model):
    with Batcher(model, max_delay=20) as batcher:
        began = time.monotonic()
        for text in TEXTS[:5]:
            batcher.encode(text)
        assert time.monotonic() - began < 10


def test_companions_are_waited_for_no_longer_than_the_delay(held):
    with Batcher(held, max_delay=0.2) as batcher:
        occupy(batcher, held)
        futures = [batcher.submit("text") for _ in range(3)]
        held.open.set()
        wait(futures)
        # Three came together last time, so one waits for two more: here in vain.
        began = time.monotonic()
        batcher.encode("alone")
        assert time.monotonic() - began > 0.19
        # And here not.
        came_together = [batcher.submit("one")]
        batcher.encode("two")
        wait(came_together)
    assert held.batches[2] == ["alone"]


def test_each_batch_is_told_of(encoder):
    reports = []
    with Batcher(encoder, on_batch=reports.append) as batcher:
        batcher.encode(TEXTS)
    lengths = [len(ids) for ids in encoder.tokenizer(TEXTS)["input_ids"]]
    assert sum(report.inputs for report in reports) == len(TEXTS)
    assert sum(report.tokens for report in reports) == sum(min(length, 128) for length in lengths)


def test_who_is_told_may_fail(model):
    with Batcher(model, on_batch=lambda report: 1 / 0) as batcher:
        assert batcher.encode("text").tolist() == [4]


# -- errors -----------------------------------------------------------------------------------------------


def test_a_failing_request_fails_alone(held):
    with Batcher(held) as batcher:
        occupy(batcher, held)
        futures = [batcher.submit("bad" if number == 3 else "good") for number in range(6)]
        held.open.set()
        wait(futures)
        assert [future.exception() is not None for future in futures] == [number == 3 for number in range(6)]
        with pytest.raises(ValueError, match="bad text among 1"):
            futures[3].result()
        assert batcher.encode("later").tolist() == [5]


def test_what_is_left_of_a_failed_request_is_not_computed(held):
    with Batcher(held, max_inputs=2) as batcher:
        occupy(batcher, held)
        failing = batcher.submit(["bad", *["text"] * 20])
        held.open.set()
        with pytest.raises(ValueError, match="bad text"):
            failing.result(30)
        assert batcher.encode("x").tolist() == [1]
    assert len(held.batches) <= 5
    assert batcher.waiting == 0


def test_an_input_that_is_no_text_fails_alone(encoder):
    with Batcher(encoder) as batcher:
        futures = [batcher.submit("text"), batcher.submit(None), batcher.submit(["text", None])]
        assert futures[0].result().shape == (32,)
        for future in futures[1:]:
            with pytest.raises(ValueError):
                future.result()


def test_options_the_model_does_not_know_fail_alone(encoder):
    with Batcher(encoder) as batcher:
        wrong, right = batcher.submit("text", prompt_name="no such"), batcher.submit("text")
        assert right.result().shape == (32,)
        with pytest.raises(ValueError, match="no such"):
            wrong.result()


@pytest.mark.parametrize("option", ["convert_to_tensor", "batch_size", "device", "pool", "show_progress_bar"])
def test_what_a_batch_shares_is_no_option_of_a_request(model, option):
    with Batcher(model) as batcher, pytest.raises(ValueError, match=option):
        batcher.submit("text", **{option: 1})


def test_options_that_cannot_be_compared_are_refused(model):
    with Batcher(model) as batcher, pytest.raises(ValueError, match="plain values"):
        batcher.submit("text", processing_kwargs={"text": {}})


def test_a_model_that_loses_results_is_found_out(model):
    model.encode = lambda inputs, **options: np.zeros((1, 1))
    with Batcher(model) as batcher, pytest.raises(RuntimeError, match="1 results for 2 inputs"):
        batcher.encode(["a", "b"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "rank"},
        {"max_tokens": 0},
        {"max_inputs": 0},
        {"queue_limit": 0},
        {"workers": 0},
        {"max_delay": -1},
    ],
)
def test_settings_that_make_no_sense_are_refused(model, wrong):
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        Batcher(model, **wrong)


# -- pressure, cancelling, closing ------------------------------------------------------------------------


def test_a_full_queue_refuses_at_once(held):
    with Batcher(held, queue_limit=3) as batcher:
        occupy(batcher, held)
        accepted = [batcher.submit("text") for _ in range(3)]
        with pytest.raises(QueueFull, match="3 inputs wait already"):
            batcher.submit("one too many")
        with pytest.raises(QueueFull):
            asyncio.run(batcher.aencode("one too many"))
        assert batcher.waiting == 3
        held.open.set()
        wait(accepted)
        assert batcher.encode(["text"] * 10).shape == (10, 1)


def test_a_cancelled_request_leaves_the_queue(held):
    with Batcher(held, queue_limit=2) as batcher:
        occupy(batcher, held)
        given_up, kept = batcher.submit("given up"), batcher.submit("kept")
        assert given_up.cancel()
        assert batcher.waiting == 1
        another = batcher.submit("another")
        held.open.set()
        assert wait([given_up, kept, another], timeout=30).not_done == set()
        with pytest.raises(CancelledError):
            given_up.result()
    assert held.batches[1:] == [["kept", "another"]]


def test_a_request_may_be_cancelled_while_it_is_computed(held):
    with Batcher(held) as batcher:
        first = occupy(batcher, held)
        assert first.cancel()
        held.open.set()
        assert batcher.encode("next").tolist() == [4]


def test_a_cancelled_coroutine_takes_its_request_back(held):
    async def give_up():
        task = asyncio.create_task(batcher.aencode("given up"))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(task, 0.05)

    with Batcher(held) as batcher:
        first = occupy(batcher, held)
        asyncio.run(give_up())
        assert batcher.waiting == 0
        held.open.set()
        assert first.result().tolist() == [5]
    assert held.batches == [["first"]]


def test_cancelling_at_any_moment_harms_nobody(model):
    with Batcher(model, max_delay=0) as batcher:
        futures = []
        for number in range(400):
            futures.append(batcher.submit("x" * (number % 7)))
            if number % 3 == 0:
                futures[-1].cancel()
        assert wait(futures, timeout=30).not_done == set()
        for number, future in enumerate(futures):
            assert future.cancelled() or future.result().tolist() == [number % 7]
    assert batcher.waiting == 0


def test_closing_finishes_what_was_accepted_and_takes_no_more(held):
    batcher = Batcher(held)
    occupy(batcher, held)
    futures = [batcher.submit("text") for _ in range(5)]
    closing = threading.Thread(target=batcher.close)
    closing.start()
    while not batcher._closed:
        time.sleep(0.001)
    with pytest.raises(BatcherClosed):
        batcher.submit("too late")
    held.open.set()
    closing.join(30)
    assert [future.result(0).tolist() for future in futures] == [[4]] * 5
    batcher.close()  # again


def test_closing_may_cancel_what_waits(held):
    batcher = Batcher(held)
    first = occupy(batcher, held)
    futures = [batcher.submit("text") for _ in range(5)]
    threading.Timer(0.05, held.open.set).start()
    batcher.close(cancel=True)
    assert all(future.cancelled() for future in futures)
    assert first.result(0).tolist() == [5]


def test_closing_may_cancel_what_is_awaited(held):
    async def run():
        batcher = Batcher(held)
        first = batcher.submit_here("first")
        await asyncio.to_thread(held.begun.wait, 30)
        futures = [batcher.submit_here("text") for _ in range(5)]
        threading.Timer(0.05, held.open.set).start()
        await asyncio.to_thread(batcher.close, cancel=True)
        await asyncio.wait(futures, timeout=30)
        return await first, [future.cancelled() for future in futures]

    first, cancelled = asyncio.run(run())
    assert first.tolist() == [5]
    assert cancelled == [True] * 5
    assert held.batches == [["first"]]


def test_a_program_that_forgets_to_close_ends_and_loses_nothing():
    program = (
        "import time, numpy as np\n"
        "from sentence_transformers.inference.batcher import Batcher\n"
        "class Slow:\n"
        "    def is_singular_input(self, inputs): return isinstance(inputs, str)\n"
        "    def encode(self, inputs, **options):\n"
        "        time.sleep(0.2)\n"
        "        return np.zeros((len(inputs), 1))\n"
        "batcher = Batcher(Slow())\n"
        "batcher.submit('text').add_done_callback(lambda future: print(future.result().shape, flush=True))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "(1,)\n", "")
