"""What every recipe promises: a report, a model that loads, and the same result however often it was killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.optim.optimizer import register_optimizer_step_post_hook

from recipes.smallest import SMALLEST
from sentence_transformers.recipes import RECIPES, recipe
from sentence_transformers.recipes.running import LOCK, Run
from sentence_transformers.storage.durable import only_one_writer

UNDISTURBED: dict[str, Path] = {}


class Killed(BaseException):
    """The end of a process, as far as the recipe can see."""


def run(name: str, folder: Path, out: Path, **changes: Any) -> Any:
    module = recipe(name.split(" ")[0])
    folder.mkdir(exist_ok=True)
    return module.run(module.Config(**{**SMALLEST[name](folder), "out": out, **changes}))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of an undisturbed run of a recipe, made once."""

    def make(name: str) -> tuple[Path, Path]:
        if name not in UNDISTURBED:
            UNDISTURBED[name] = tmp_path_factory.mktemp("whole")
            run(name, UNDISTURBED[name] / "data", UNDISTURBED[name] / "out")
        return UNDISTURBED[name] / "data", UNDISTURBED[name] / "out"

    yield make
    UNDISTURBED.clear()


def test_every_recipe_has_a_smallest_run():
    assert set(RECIPES) == {name.split(" ")[0] for name in SMALLEST}


@pytest.mark.parametrize("name", SMALLEST)
def test_a_recipe_leaves_a_report_and_a_model_that_loads(name, finished):
    _, out = finished(name)
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["recipe"] == name.split(" ")[0]
    assert metrics["rows"]
    assert all(len(row) > 1 for row in metrics["rows"])
    assert metrics["settings"]["seed"] == 3
    assert "| model |" in (out / "report.md").read_text(encoding="utf-8")
    assert not list(out.rglob("*.part"))
    assert not list(out.rglob("checkpoint-*"))
    if metrics["curves"]:
        assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    if (out / "model").is_dir():
        card = (out / "model" / "README.md").read_text(encoding="utf-8")
        assert "| model |" in card
        trained = [path.read_text(encoding="utf-8") for path in out.glob("steps/*/model/README.md")]
        assert not trained or any(card.startswith(text.rstrip()) for text in trained)


@pytest.mark.parametrize("name", SMALLEST)
@pytest.mark.parametrize("moment", [1, 3, 7])
def test_a_killed_recipe_goes_on_and_gives_the_same_result(name, moment, finished, tmp_path, monkeypatch):
    data, whole = finished(name)
    out = tmp_path / "out"
    left = moment

    def count(*ignored: Any) -> None:
        """Something happened, after which the process may die: a step of an optimizer, or one of the recipe."""
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed

    original = Run.step

    def step(self, *arguments, **options):
        count()
        return original(self, *arguments, **options)

    monkeypatch.setattr(Run, "step", step)
    hook = register_optimizer_step_post_hook(count)
    try:
        run(name, data, out)
    except Killed:
        pass
    else:
        pytest.skip(f"{moment} is after the end")
    finally:
        hook.remove()
        monkeypatch.undo()
    run(name, data, out)
    rows, expected = (json.loads((path / "metrics.json").read_text())["rows"] for path in (out, whole))
    for row, other in zip(rows, expected, strict=True):
        timeless = [
            name for name in other if "/s" not in name and "second" not in name and "speed" not in name
        ]
        assert {name: row[name] for name in timeless} == {name: other[name] for name in timeless}
    for path in sorted(whole.glob("model/**/*.safetensors")):
        weights, other = load_file(path), load_file(out / path.relative_to(whole))
        assert weights.keys() == other.keys()
        for key in weights:
            assert torch.equal(weights[key], other[key]), key


@pytest.mark.parametrize("name", SMALLEST)
def test_a_finished_recipe_is_only_read_again(name, finished, monkeypatch):
    data, out = finished(name)
    monkeypatch.setattr(torch.Tensor, "backward", lambda *ignored, **also: pytest.fail("trains again"))
    before = (out / "report.md").read_text(encoding="utf-8")
    report = run(name, data, out)
    assert (out / "report.md").read_text(encoding="utf-8") == before
    assert report.table() in before
    assert report.model_path == (None if name.startswith("quantization") else out / "model")


@pytest.mark.parametrize("name", SMALLEST)
def test_other_settings_in_the_same_folder_are_refused(name, finished):
    data, out = finished(name)
    with pytest.raises(ValueError, match=r"other settings: seed was 3, now 4.*overwrite=True"):
        run(name, data, out, seed=4)


@pytest.mark.parametrize("name", {name.split(" ")[0]: name for name in SMALLEST}.values())
def test_a_folder_that_another_run_holds_is_refused(name, tmp_path):
    (tmp_path / "out").mkdir()
    with (
        only_one_writer(tmp_path / "out" / LOCK),
        pytest.raises(RuntimeError, match="Another process is writing here"),
    ):
        run(name, tmp_path / "data", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
