"""The loop over batches, with a source and a forward small enough to be checked by eye.

The "model" here gives for each text its length, its first letter's number and how many texts were computed
with it, so that a result tells which text it belongs to.
"""

from __future__ import annotations

import logging
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sentence_transformers.inference import engine
from sentence_transformers.inference.engine import Job, first_occurrences, run, to_device, wants_progress
from sentence_transformers.inference.memory import TokenBudget
from sentence_transformers.inference.sinks import ArraySink, ListSink, TensorSink
from sentence_transformers.inputs.rows import TokenRows

WORDS = st.text("abc ", max_size=12)


class Letters:
    """A source in which every character is a token."""

    usual_rows = None

    def __init__(self, packed=False):
        self.packed = packed
        self.read_texts = []

    def read(self, inputs):
        self.read_texts.extend(inputs)
        return TokenRows(ids=[[ord(letter) for letter in text] for text in inputs])

    def collate(self, rows):
        return {"rows": [list(row) for row in rows.ids]}


class SumOfLetters:
    """A forward: (number of letters, sum of their codes) of each row; out of memory beyond a limit."""

    def __init__(self, limit=10**9, packed=False, error=torch.OutOfMemoryError):
        self.limit = limit
        self.packed = packed
        self.error = error
        self.computed = []
        self.batches = []
        self.failures = 0

    def __call__(self, features):
        rows = features["rows"]
        size = sum(map(len, rows)) if self.packed else len(rows) * max(map(len, rows))
        if size > self.limit:
            self.failures += 1
            raise self.error("CUDA out of memory. Tried to allocate 20 GiB")
        self.batches.append(len(rows))
        self.computed.extend("".join(map(chr, row)) for row in rows)
        return {
            "sentence_embedding": torch.tensor([[len(row), sum(row)] for row in rows], dtype=torch.float32)
        }


def job_of(forward, *, packed=False, tokens=2048, max_rows=None, source=None):
    budget = TokenBudget("cpu")
    budget.tokens = tokens
    return Job(
        source=source or Letters(packed),
        forward=forward,
        finish=lambda outputs: outputs["sentence_embedding"],
        device=torch.device("cpu"),
        budget=budget,
        max_rows=max_rows,
    )


def expected(texts):
    return np.array([[len(text), sum(map(ord, text))] for text in texts], dtype=np.float32).reshape(-1, 2)


@pytest.fixture
def small_windows(monkeypatch):
    monkeypatch.setattr(engine, "WINDOW_ROWS", 5)
    monkeypatch.setattr(engine, "WINDOW_CHARACTERS", 30)


@pytest.fixture
def no_collecting(monkeypatch):
    """Leave out the garbage collection, which takes longer than all else here."""
    monkeypatch.setattr(engine, "release_memory", lambda device: None)


@given(
    st.lists(WORDS, min_size=1, max_size=40), st.integers(1, 60), st.none() | st.integers(1, 5), st.booleans()
)
def test_results_are_in_the_order_the_inputs_came(texts, tokens, max_rows, packed):
    sink = ArraySink(len(texts))
    run(job_of(SumOfLetters(), packed=packed, tokens=tokens, max_rows=max_rows), texts, sink)
    np.testing.assert_array_equal(sink.array, expected(texts))


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("packed", [False, True])
def test_windows_change_nothing_about_the_results(packed):
    texts = [f"{'long ' * (number % 7)}{number}" for number in range(57)]
    sink = TensorSink(len(texts))
    run(job_of(SumOfLetters(), packed=packed, tokens=40), texts, sink)
    np.testing.assert_array_equal(sink.tensor.numpy(), expected(texts))


@given(st.lists(WORDS, min_size=1, max_size=40))
def test_a_text_is_read_and_computed_once_however_often_it_comes(texts):
    forward, source, sink = SumOfLetters(), Letters(), ListSink(len(texts))
    run(job_of(forward, source=source), texts, sink)
    assert sorted(forward.computed) == sorted(set(texts))
    assert sorted(source.read_texts) == sorted(set(texts))
    np.testing.assert_array_equal(np.stack(sink.items), expected(texts))


def test_inputs_that_are_no_texts_are_all_computed():
    assert first_occurrences([[1, 2], [1, 2]]) is None
    assert first_occurrences([["a", "b"], ["a", "b"]]) is None
    assert first_occurrences([("a", ["b"]), ("a", ["b"])]) is None
    assert first_occurrences([("a", "b"), ("b", "a"), ("a", "b")]).tolist() == [0, 1, 0]
    assert first_occurrences(["a", ("a", "b"), "a"]).tolist() == [0, 1, 0]
    assert first_occurrences(["a", "b"]) is None
    assert first_occurrences(["b", "a", "b", "a"]).tolist() == [0, 1, 0, 1]


@pytest.mark.usefixtures("small_windows", "no_collecting")
@given(
    st.lists(WORDS.filter(len), min_size=1, max_size=30, unique=True),
    st.integers(12, 40),
    st.booleans(),
    st.sampled_from([torch.OutOfMemoryError, MemoryError, RuntimeError]),
)
def test_running_out_of_memory_loses_no_row_and_computes_none_twice(texts, limit, packed, error):
    forward = SumOfLetters(limit, packed, error)
    job = job_of(forward, packed=packed, tokens=1000)
    sink = ArraySink(len(texts))
    run(job, texts, sink)
    np.testing.assert_array_equal(sink.array, expected(texts))
    assert sorted(forward.computed) == sorted(texts)


@pytest.mark.usefixtures("no_collecting")
def test_a_failure_lowers_the_budget_for_everything_that_follows():
    texts = [f"{number:010d}" for number in range(400)]  # 4,000 tokens
    forward = SumOfLetters(limit=300, packed=True)
    job = job_of(forward, packed=True, tokens=1000)
    sink = ArraySink(len(texts))
    run(job, texts, sink)
    np.testing.assert_array_equal(sink.array, expected(texts))
    # 1,000 and 500 were tried once each; the other batches planned for 1,000 were not tried whole.
    assert forward.failures == 2
    assert job.budget.tokens == 250
    forward.failures = 0
    run(job, texts, ArraySink(len(texts)))
    assert forward.failures == 0


@pytest.mark.usefixtures("no_collecting")
def test_nothing_of_a_failed_batch_is_kept_while_its_halves_run():
    alive = weakref.WeakSet()
    kept = []

    def forward(features):
        kept.append(len(alive))
        # Modules add their states to the features, so these must be gone too.
        features["token_embeddings"] = torch.ones(3)
        alive.add(features["token_embeddings"])
        if len(features["rows"]) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return {"sentence_embedding": torch.ones(1, 1)}

    run(job_of(forward), ["a", "bb", "ccc", "dddd"], ArraySink(4))
    assert kept == [0] * 7


def test_one_row_too_large_for_the_device_is_a_memory_error_that_names_its_size():
    sink = ArraySink(3)
    with pytest.raises(MemoryError, match=r"One input of 20 tokens does not fit.*max_seq_length") as caught:
        run(job_of(SumOfLetters(limit=10)), ["a", "b" * 20, "c"], sink)
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)


def test_other_errors_are_raised_as_they_are():
    def forward(features):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        run(job_of(forward), ["a", "b"], ArraySink(2))


def test_an_error_while_reading_reaches_the_caller():
    class Broken(Letters):
        def read(self, inputs):
            raise ValueError("no such input")

    with pytest.raises(ValueError, match="no such input"):
        run(job_of(SumOfLetters(), source=Broken()), ["a", "b"], ArraySink(2))


def test_rows_of_a_batch_hold_the_caller_s_limit_else_the_source_s():
    texts = [f"{number:03d}" for number in range(40)]

    class Careful(Letters):
        usual_rows = 7

    for source, max_rows, most in ((Letters(), None, 40), (Careful(), None, 7), (Careful(), 20, 20)):
        forward = SumOfLetters()
        run(job_of(forward, source=source, max_rows=max_rows), texts, ArraySink(40))
        assert max(forward.batches) == most


def test_the_forward_runs_without_gradients_and_results_can_be_trained_on():
    weight = torch.ones(2, requires_grad=True)

    def forward(features):
        assert torch.is_inference_mode_enabled()
        return {"sentence_embedding": torch.ones(len(features["rows"]), 2) * weight}

    for sink in (TensorSink(2), ListSink(2)):
        run(job_of(forward), ["a", "bb"], sink)
        result = sink.tensor if isinstance(sink, TensorSink) else torch.stack(sink.items)
        assert not result.is_inference()
        (result * weight).sum().backward()


@pytest.mark.parametrize("texts", [["a", "b", "a", "ccc"], ["same"] * 9, ["one"], []])
def test_progress_counts_every_input_once(texts, monkeypatch):
    counted = []

    class Bar(engine._NoBar):
        def update(self, number):
            counted.append(number)

    monkeypatch.setattr(engine, "progress_bar", lambda total, shown, unit: Bar())
    run(job_of(SumOfLetters(), tokens=2), texts, ArraySink(len(texts)))
    assert sum(counted) == len(texts)


def test_the_bar_counts_texts(capsys):
    with engine.progress_bar(7, shown=True) as bar:
        assert bar.total == 7
        bar.update(7)
    assert "7.00/7.00" in capsys.readouterr().err
    with engine.progress_bar(7, shown=False) as bar:
        bar.update(7)
    assert not capsys.readouterr().err


def test_progress_is_shown_as_asked_else_when_the_library_reports_it():
    logger = logging.getLogger("sentence_transformers")
    before = logger.level
    try:
        for level, shown in ((logging.DEBUG, True), (logging.INFO, True), (logging.WARNING, False)):
            logger.setLevel(level)
            assert wants_progress(None) is shown
            assert wants_progress(True) is True
            assert wants_progress(False) is False
    finally:
        logger.setLevel(before)


def test_only_tensors_move_to_a_device():
    features = {"input_ids": torch.ones(2, 3), "task": "query", "prompt_length": 4}
    moved = to_device(features, torch.device("meta"))
    assert moved["input_ids"].device.type == "meta"
    assert (moved["task"], moved["prompt_length"]) == ("query", 4)
    assert to_device(features, torch.device("cpu")) is features
