"""The folder of a run: what it refuses, and what it removes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sentence_transformers.recipes.config import RecipeConfig
from sentence_transformers.recipes.running import Run, only_run

AT_WORK = """
import sys
from sentence_transformers.recipes.config import RecipeConfig
from sentence_transformers.recipes.running import only_run
with only_run("first", RecipeConfig(out=sys.argv[1])) as run:
    run.measure("start", lambda: {"figure": 1.0})
    print("at work", flush=True)
    sys.stdin.read()
"""


def test_a_run_that_came_to_nothing_stands_in_nobodys_way(tmp_path):
    Run("first", RecipeConfig(out=tmp_path / "out", seed=1))
    Run("second", RecipeConfig(out=tmp_path / "out", seed=2)).measure("start", lambda: {"figure": 1.0})
    with pytest.raises(ValueError, match="holds a run of 'second', not of 'first'"):
        Run("first", RecipeConfig(out=tmp_path / "out", seed=2))
    with pytest.raises(ValueError, match="seed was 2, now 1"):
        Run("second", RecipeConfig(out=tmp_path / "out", seed=1))


def test_a_record_that_was_never_finished_is_no_run_of_something_else(tmp_path):
    (tmp_path / "run.json.tmp").write_text("{", encoding="utf-8")
    assert Run("first", RecipeConfig(out=tmp_path)).rows == {}


def test_overwriting_removes_a_run_and_nothing_else(tmp_path):
    def ran(**options):
        return Run("first", RecipeConfig(out=tmp_path / "out", **options))

    ran().measure("start", lambda: {"figure": 1.0})
    ran().step("work", lambda folder: (folder / "made").write_text("by it"))
    begun = ran(overwrite=True, seed=1)
    assert begun.rows == {}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["run.json"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear", encoding="utf-8")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="holds files, but no run of a recipe"):
            Run("first", RecipeConfig(out=tmp_path / "mine", overwrite=overwrite))
    assert (tmp_path / "mine" / "letter.txt").read_text(encoding="utf-8") == "dear"


def test_a_step_is_done_once_and_figures_are_kept(tmp_path):
    done = []
    for _ in range(2):
        run = Run("first", RecipeConfig(out=tmp_path / "out"))
        run.step("work", lambda folder: done.append(folder))
        run.measure("start", lambda: {"figure": len(done)})
    assert [path.name for path in done] == ["work.part"]
    assert run.rows == {"start": {"model": "start", "figure": 1}}


def test_two_processes_do_not_run_in_one_folder_and_a_killed_one_blocks_nobody(tmp_path):
    config = RecipeConfig(out=tmp_path / "out")
    command = [sys.executable, "-c", AT_WORK, str(config.out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "at work\n"
            before = (config.out / "run.json").read_bytes()
            for overwrite in (False, True):
                asked = RecipeConfig(out=config.out, overwrite=overwrite)
                with (
                    pytest.raises(RuntimeError, match=r"Another process is writing here.*run\.lock"),
                    only_run("first", asked),
                ):
                    pass
            assert (config.out / "run.json").read_bytes() == before
        finally:
            other.kill()
    assert (config.out / "run.lock").exists()
    with only_run("first", config) as run:
        assert run.rows == {"start": {"model": "start", "figure": 1.0}}
    assert [path.name for path in config.out.iterdir()] == ["run.json"]


def test_a_folder_is_free_again_after_an_error_and_held_while_it_is_overwritten(tmp_path):
    config = RecipeConfig(out=tmp_path / "out")
    with pytest.raises(ZeroDivisionError), only_run("first", config):
        raise ZeroDivisionError
    with (
        only_run("first", RecipeConfig(out=config.out, overwrite=True)),
        pytest.raises(RuntimeError, match="Another process"),
        only_run("first", config),
    ):
        pass


def test_a_process_that_was_killed_before_it_wrote_anything_leaves_no_obstacle(tmp_path):
    for name in ("run.lock", "run.json.tmp"):
        (tmp_path / name).write_text("", encoding="utf-8")
    with only_run("first", RecipeConfig(out=tmp_path, overwrite=True)) as run:
        assert run.rows == {}


def test_nothing_is_left_in_a_folder_of_something_else(tmp_path):
    (tmp_path / "letter.txt").write_text("dear", encoding="utf-8")
    changed = tmp_path.stat().st_mtime_ns
    with (
        pytest.raises(ValueError, match="holds files, but no run of a recipe"),
        only_run("first", RecipeConfig(out=tmp_path)),
    ):
        pass
    assert tmp_path.stat().st_mtime_ns == changed
