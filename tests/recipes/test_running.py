"""The folder of a run: what it refuses, and what it removes."""

from __future__ import annotations

import pytest

from sentence_transformers.recipes.config import RecipeConfig
from sentence_transformers.recipes.running import Run


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
