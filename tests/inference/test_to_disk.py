"""Embeddings written to disk: every row once, in its place, whatever stopped the run before."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from disk_cases import EMPTY, Stop, Stopper, compute, contents, vectors_of, write
from sentence_transformers.inference.disk_formats import HEADER_BYTES, npy_header
from sentence_transformers.inference.progress_record import Fingerprint, read_record
from sentence_transformers.inference.to_disk import (
    CountedRows,
    SettingsDifferError,
    load_embeddings,
    record_of,
)
from tiny import tiny_checkpoint

TEXTS = [f"text {number}" for number in range(18)]
IDS = [f"id {number}" for number in range(18)]
TESTS = Path(__file__).resolve().parents[1]


def target(folder, format):
    return folder / ("out.npy" if format == "npy" else "out")


@pytest.fixture(params=["npy", "parquet"])
def format(request):
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
    return request.param


# -- files -----------------------------------------------------------------------------------------------


def test_every_row_has_its_vector_and_its_id(tmp_path, format):
    path = target(tmp_path, format)
    report = write(path, iter(TEXTS), ids=iter(IDS), format=format)
    found = load_embeddings(path)
    np.testing.assert_array_equal(found.embeddings, vectors_of(TEXTS))
    assert found.ids == IDS
    assert (report.rows, report.width, report.dtype, report.resumed_from) == (18, 3, "float32", 0)
    assert report.path == path
    assert all(file.exists() for file in report.files)


def test_an_array_is_mapped_and_not_read(tmp_path):
    write(tmp_path / "out.npy", TEXTS)
    assert isinstance(load_embeddings(tmp_path / "out.npy").embeddings, np.memmap)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), vectors_of(TEXTS))
    assert load_embeddings(tmp_path / "out.npy").ids is None


def test_nothing_but_the_result_and_its_record_is_left(tmp_path):
    write(tmp_path / "a" / "out.npy", TEXTS, ids=range(18))
    assert set(contents(tmp_path / "a")) == {"out.npy", "out.ids.jsonl", "out.npy.json"}
    pytest.importorskip("pyarrow")
    write(tmp_path / "b", TEXTS, format="parquet")
    shards = {f"part-0000{number}.parquet" for number in range(5)}
    assert set(contents(tmp_path / "b")) == {*shards, "_record.json"}


def test_ids_keep_their_type_and_whatever_they_contain(tmp_path):
    ids = ['a "quoted" one', "two\nlines", "", "π", 7, -1]
    write(tmp_path / "out.npy", TEXTS[:6], ids=ids)
    assert load_embeddings(tmp_path / "out.npy").ids == ids


def test_shards_hold_the_columns_that_are_promised(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    write(tmp_path / "out", TEXTS, format="parquet", rows_per_window=10)
    table = parquet.read_table(tmp_path / "out" / "part-00001.parquet")
    assert table.column_names == ["id", "embedding"]
    assert table.column("id").to_pylist() == list(range(10, 18))
    assert str(table.schema.field("embedding").type).startswith("fixed_size_list")
    assert parquet.read_table(tmp_path / "out").num_rows == 18  # the record disturbs no reader of folders


def test_ids_of_two_kinds_do_not_fit_into_one_column(tmp_path):
    pytest.importorskip("pyarrow")
    with pytest.raises(TypeError, match="id of row 5 is 5, but the first row's is a text"):
        write(tmp_path / "out", TEXTS, ids=["a"] * 5 + list(range(5, 18)), format="parquet")


def test_no_rows_give_an_empty_array_of_the_right_width(tmp_path, format):
    path = target(tmp_path, format)
    assert write(path, iter(()), format=format).rows == 0
    assert load_embeddings(path).embeddings.shape == (0, 3)
    assert write(path, iter(()), format=format).resumed_from == 0


@pytest.mark.parametrize(("dtype", "rows", "width"), [("<f4", 0, 1), ("<f2", 10**15, 10**5), ("|i1", 7, 48)])
def test_a_header_of_fixed_length_says_what_numpy_reads(tmp_path, dtype, rows, width):
    header = npy_header(dtype, rows, width)
    assert len(header) == HEADER_BYTES
    (tmp_path / "header").write_bytes(header)
    with open(tmp_path / "header", "rb") as handle:
        assert np.lib.format.read_magic(handle) == (1, 0)
        assert np.lib.format.read_array_header_1_0(handle) == ((rows, width), False, np.dtype(dtype))


# -- stopped and picked up -------------------------------------------------------------------------------


def run_until_stopped(path, format, at, when):
    """Whether a run was stopped at its n-th step."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        stopper = Stopper(at, when)
        stopper.install(monkeypatch)
        try:
            write(path, iter(TEXTS), ids=iter(IDS), format=format)
        except Stop:
            assert stopper.has_stopped
    return stopper.has_stopped


@pytest.mark.parametrize("when", ["before", "after", "torn"])
def test_a_run_that_is_stopped_at_any_step_ends_as_an_undisturbed_one(tmp_path, format, when):
    write(target(tmp_path / "whole", format), iter(TEXTS), ids=iter(IDS), format=format)
    expected = contents(tmp_path / "whole")
    at = 0
    while True:
        folder = tmp_path / f"stopped {at}"
        was_stopped = run_until_stopped(target(folder, format), format, at, when)
        report = write(target(folder, format), iter(TEXTS), ids=iter(IDS), format=format)
        assert report.rows == 18
        assert contents(folder) == expected, f"stopped {when} step {at}"
        if not was_stopped:
            break
        at += 1
    assert at > 20  # the steps of five windows


def test_a_run_that_is_stopped_at_every_step_in_turn_ends_as_an_undisturbed_one(tmp_path, format):
    write(target(tmp_path / "whole", format), iter(TEXTS), ids=iter(IDS), format=format)
    # Each run gets some steps farther than it takes to get going again.
    path = target(tmp_path / "often", format)
    stops = 0
    while run_until_stopped(path, format, 9 + stops % 5, "after"):
        stops += 1
        assert stops < 100
    assert stops > 2
    assert contents(tmp_path / "often") == contents(tmp_path / "whole")


def test_a_window_that_could_not_be_computed_does_not_count(tmp_path, format):
    def fails_in_the_third(windows):
        for number, vectors in enumerate(compute(windows)):
            if number == 2:
                raise RuntimeError("no more")
            yield vectors

    path = target(tmp_path, format)
    with pytest.raises(RuntimeError, match="no more"):
        write(path, TEXTS, format=format, compute=fails_in_the_third)
    assert record_of(path).rows == 8
    with pytest.raises(ValueError, match="not finished: 8 rows are there so far"):
        load_embeddings(path)
    report = write(path, TEXTS, format=format)
    assert (report.rows, report.resumed_from) == (18, 8)
    np.testing.assert_array_equal(load_embeddings(path).embeddings, vectors_of(TEXTS))


def test_rows_that_count_are_not_computed_again(tmp_path, format):
    path = target(tmp_path, format)
    with pytest.raises(ValueError, match="Row 10 is None"):
        write(path, [*TEXTS[:10], None], format=format)
    seen = []

    def noting(windows):
        for window in windows:
            seen.extend(window)
            yield vectors_of(window)

    write(path, TEXTS, format=format, compute=noting)
    assert seen == TEXTS[8:]
    write(path, TEXTS, format=format, compute=noting)
    assert seen == TEXTS[8:]


def test_a_finished_output_stays_as_it_is(tmp_path, format):
    path = target(tmp_path, format)
    write(path, TEXTS, format=format)
    before = contents(tmp_path)
    report = write(path, TEXTS, format=format)
    assert (report.rows, report.resumed_from) == (18, 18)
    assert contents(tmp_path) == before


texts = st.lists(st.text(max_size=12), max_size=40)


@given(texts, st.integers(1, 9), st.integers(1, 60), st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_rows_in_any_windows_stopped_anywhere_give_each_row_once(
    tmp_path_factory, rows, size, most, data
):
    folder = tmp_path_factory.mktemp("property")
    stop_at = data.draw(st.integers(0, len(rows)), label="stop_at")

    def ending(rows):
        yield from rows[:stop_at]
        raise Stop

    how = {"rows_per_window": size, "characters": most}
    with pytest.raises(Stop):
        write(folder / "a" / "out.npy", ending(rows), **how)
    report = write(folder / "a" / "out.npy", iter(rows), **how)
    assert report.resumed_from <= stop_at
    expected = vectors_of(rows) if rows else EMPTY
    np.testing.assert_array_equal(load_embeddings(folder / "a" / "out.npy").embeddings, expected)
    write(folder / "b" / "out.npy", iter(rows), **how)
    assert contents(folder / "a") == contents(folder / "b")


@given(texts, st.integers(1, 9), st.integers(1, 60))
def test_windows_hold_all_rows_in_order_within_both_limits(rows, size, most):
    found = list(CountedRows((None, row) for row in rows).windows(0, max_rows=size, max_characters=most))
    assert [row for window in found for row in window.inputs] == rows
    assert [window.number for window in found] == list(range(len(found)))
    assert [window.start for window in found] == [0, *(window.end for window in found)][: len(found)]
    for window in found:
        assert 1 <= len(window.inputs) <= size
        assert len(window.inputs) == 1 or sum(map(len, window.inputs)) <= most


@given(texts, st.integers(1, 9), st.integers(1, 60), st.data())
def test_windows_are_cut_alike_from_the_start_and_from_any_of_them(rows, size, most, data):
    limits = {"max_rows": size, "max_characters": most}
    whole = list(CountedRows((None, row) for row in rows).windows(0, **limits))
    if not whole:
        return
    passed = data.draw(st.integers(0, len(whole) - 1), label="passed")
    later = CountedRows((None, row) for row in rows)
    for _ in range(whole[passed].start):
        later.count(next(later.rows))
    assert list(later.windows(passed, **limits)) == whole[passed:]


def test_no_more_rows_are_read_ahead_than_are_computed_together(tmp_path):
    read = computed = 0
    ahead = []

    def rows():
        nonlocal read
        for text in TEXTS:
            read += 1
            ahead.append(read - computed)
            yield text

    def counting(windows):
        nonlocal computed
        for window in windows:
            computed += len(window)
            yield vectors_of(window)

    write(tmp_path / "out.npy", rows(), compute=counting)
    assert max(ahead) == 4


# -- what does not fit together --------------------------------------------------------------------------


def half_written(path, **how):
    with pytest.raises(ValueError, match="Row 10"):
        write(path, [*TEXTS[:10], None], **how)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (["another text", *TEXTS[1:]], "first 8 rows of the input .* are not those"),
        (TEXTS[:5], "records 8 rows, but the input ends after 5"),
    ],
)
def test_other_inputs_are_not_mixed_with_what_is_there(tmp_path, format, rows, told):
    path = target(tmp_path, format)
    half_written(path, format=format)
    before = contents(tmp_path)
    with pytest.raises(SettingsDifferError, match=told) as caught:
        write(path, rows, format=format)
    assert "overwrite=True" in str(caught.value)
    assert contents(tmp_path) == before


def test_rows_that_changed_behind_those_that_count_do_no_harm(tmp_path):
    half_written(tmp_path / "out.npy")
    rows = [*TEXTS[:8], "other", "rows"]
    write(tmp_path / "out.npy", rows)
    np.testing.assert_array_equal(load_embeddings(tmp_path / "out.npy").embeddings, vectors_of(rows))


def test_more_rows_than_before_do_not_belong_to_a_finished_output(tmp_path):
    write(tmp_path / "out.npy", TEXTS)
    with pytest.raises(SettingsDifferError, match="all 18 rows are encoded, but the input goes on"):
        write(tmp_path / "out.npy", [*TEXTS, "one more"])


def test_other_ids_count_as_another_input(tmp_path):
    write(tmp_path / "out.npy", TEXTS, ids=IDS)
    with pytest.raises(SettingsDifferError, match=r"\(or their ids\)"):
        write(tmp_path / "out.npy", TEXTS, ids=["x", *IDS[1:]])


def test_other_settings_are_named_with_both_values(tmp_path):
    how = {"made_with": {}, "empty": EMPTY}
    write(tmp_path / "out.npy", TEXTS, settings={"ids": False, "prompt": None, "width": 3}, **how)
    with pytest.raises(SettingsDifferError) as caught:
        write(tmp_path / "out.npy", TEXTS, settings={"ids": False, "prompt": "q: ", "new": 1}, **how)
    for line in ("prompt: None before, 'q: ' now", "width: 3 before, None now", "new: None before, 1 now"):
        assert line in str(caught.value)


def test_other_circumstances_are_warned_about_and_no_error(tmp_path, caplog):
    with pytest.raises(ValueError, match="Row 10"):
        write(tmp_path / "out.npy", [*TEXTS[:10], None], made_with={"threads": 1})
    write(tmp_path / "out.npy", TEXTS, made_with={"threads": 2})
    assert "threads: 1 before, 2 now" in caplog.text


def test_what_is_there_goes_when_it_is_to_be_overwritten(tmp_path, format):
    path = target(tmp_path, format)
    write(path, TEXTS, ids=IDS, format=format)
    write(path, TEXTS[:3], format=format, overwrite=True)
    found = load_embeddings(path)
    np.testing.assert_array_equal(found.embeddings, vectors_of(TEXTS[:3]))
    assert found.ids is None
    assert len(contents(tmp_path)) == 2


def test_an_unfinished_run_begins_anew_when_it_is_not_to_be_resumed(tmp_path, format):
    path = target(tmp_path, format)
    half_written(path, format=format)
    assert write(path, TEXTS[::-1], format=format, resume=False).resumed_from == 0
    with pytest.raises(FileExistsError, match="finished, with 18 rows"):
        write(path, TEXTS[::-1], format=format, resume=False)


def test_a_file_of_somebody_else_is_left_alone(tmp_path):
    np.save(tmp_path / "out.npy", np.ones(3))
    with pytest.raises(FileExistsError, match="nothing says how it was made"):
        write(tmp_path / "out.npy", TEXTS)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), np.ones(3))


def test_a_record_that_is_none_is_said_to_be_none(tmp_path):
    (tmp_path / "out.npy.json").write_text('{"my": "settings"}')
    with pytest.raises(ValueError, match="no record of encode_to"):
        write(tmp_path / "out.npy", TEXTS)
    (tmp_path / "out.npy.json").write_text('{"version": 99}')
    with pytest.raises(ValueError, match="version 99"):
        write(tmp_path / "out.npy", TEXTS)


def test_a_file_that_was_cut_meanwhile_is_noticed(tmp_path):
    half_written(tmp_path / "out.npy")
    os.truncate(tmp_path / "out.npy.partial", 150)
    with pytest.raises(ValueError, match="was changed or damaged"):
        write(tmp_path / "out.npy", TEXTS)


def test_a_shard_that_is_gone_is_noticed(tmp_path):
    pytest.importorskip("pyarrow")
    half_written(tmp_path / "out", format="parquet")
    (tmp_path / "out" / "part-00001.parquet").unlink()
    with pytest.raises(ValueError, match=r"part-00001.parquet was recorded and is gone"):
        write(tmp_path / "out", TEXTS, format="parquet")


def test_two_do_not_write_at_once(tmp_path, format):
    path = target(tmp_path, format)

    def meddling(windows):
        with pytest.raises(RuntimeError, match="Another process is writing here"):
            write(path, TEXTS, format=format)
        yield from compute(windows)

    assert write(path, TEXTS, format=format, compute=meddling).rows == 18


def test_a_full_disk_leaves_what_counts_and_says_so(tmp_path):
    program = f"""
import resource, sys
sys.path.insert(0, {str(TESTS)!r})
from disk_cases import write
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write({str(tmp_path / "out.npy")!r}, (f"text {{number}}" for number in range(20_000)), rows_per_window=1000)
except OSError as error:
    print(error.errno, error)
"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.startswith(f"{errno.EFBIG} ")
    assert "The 8000 rows before are safe" in finished.stdout
    assert read_record(tmp_path / "out.npy.json").rows == 8000
    rows = [f"text {number}" for number in range(20_000)]
    assert write(tmp_path / "out.npy", rows, rows_per_window=1000).resumed_from == 8000
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), vectors_of(rows))


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match="Could not prepare"):
        write(tmp_path / "file" / "out.npy", TEXTS)


def test_fingerprints_tell_rows_apart_that_look_alike():
    rows = [
        "ab",
        ("a", "b"),
        ["a", "b"],
        {"a": "b"},
        "a",
        1,
        "1",
        None,
        np.zeros(2),
        np.zeros(3),
        ("a", ("b",)),
    ]

    def digest(*rows):
        fingerprint = Fingerprint()
        for one, item in rows:
            fingerprint.add(one, item)
        return fingerprint.digest()

    found = [digest((None, row)) for row in rows]
    assert found[1] == found[2]  # a pair is a pair
    assert len(set(found)) == len(rows) - 1
    assert digest((None, "a"), (None, "b")) != digest((None, "ab"))
    assert digest(("x", "a")) != digest((None, "a")) != digest(("x", "b"))


# -- killed ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes that were forked")
def test_a_process_that_is_killed_again_and_again_writes_the_same_bytes(tmp_path, format):
    model = tiny_checkpoint("bert", tmp_path / "model")
    program = TESTS / "killed_runs.py"
    arguments = [str(model), str(tmp_path), format, "6", "3"]
    finished = subprocess.run(
        [sys.executable, str(program), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
    )
    assert finished.returncode == 0, finished.stderr
    rows = json.loads(finished.stdout.splitlines()[-1])
    assert rows == sorted(rows)
    assert len(set(rows)) > 3, f"no kill fell into the writing: {rows}"
    assert contents(tmp_path / "resumed") == contents(tmp_path / "whole")
