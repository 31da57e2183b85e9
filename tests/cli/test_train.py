"""`sentence-transformers train`: a command for each recipe, made of the fields of its config."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

pytest.importorskip("typer")
pytest.importorskip("rich")

from recipes.small_files import write_scored_pairs
from recipes.smallest import pca
from sentence_transformers.cli import main
from sentence_transformers.cli.train import command_of
from sentence_transformers.recipes import RECIPES, recipe

PAGES = sorted(Path(__file__).parents[2].glob("examples/*/README.md"))


def commands_of(page: Path) -> list[list[str]]:
    """The arguments behind `sentence-transformers train` in the bash blocks of a page."""
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line)[2:] for line in lines if line.startswith("sentence-transformers train")]


@pytest.mark.parametrize("name", RECIPES)
def test_every_field_of_a_recipe_is_an_option_with_a_help_text(name):
    options = {one.name: one for one in command_of(name).params}
    for field in fields(recipe(name).Config):
        assert "--" + field.name.replace("_", "-") in options[field.name].opts
        assert options[field.name].help
    assert set(options) - {field.name for field in fields(recipe(name).Config)} == {"debug"}


def test_the_commands_on_the_pages_of_the_examples_can_be_given():
    commands = [command for page in PAGES for command in commands_of(page)]
    assert {command[0] for command in commands} >= set(RECIPES)
    for name, *arguments in commands:
        # Files are looked for by the config; here it is only read what is said.
        command_of(name).make_context(name, list(arguments))


def test_a_recipe_runs_from_the_command_line(tmp_path, capsys):
    asked = pca(tmp_path)
    out = tmp_path / "out"
    arguments = ["train", "pca", "--model", asked["model"], "--texts", str(asked["texts"][0]), "--width", "8"]
    arguments += ["--width", "4", "--centre", "--dev", str(write_scored_pairs(tmp_path)), "--seed", "3"]
    arguments += ["--device", "cpu", "--quiet", "--out", str(out)]
    assert main(arguments) == 0
    told = capsys.readouterr()
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert (metrics["settings"]["width"], metrics["settings"]["centre"]) == ([8, 4], True)
    assert "| PCA 4 | 4 |" in told.out
    assert "Everything is in" in told.err


def test_what_a_config_refuses_is_one_sentence(tmp_path, capsys):
    assert main(["train", "pca", "--out", str(tmp_path / "out")]) == 1
    told = capsys.readouterr().err
    assert "Error: There is nothing to find components in." in told
    assert "Traceback" not in told


def test_an_unknown_choice_is_refused(tmp_path, capsys):
    assert main(["train", "tsdae", "--texts", "x", "--noise", "burn", "--out", str(tmp_path / "out")]) == 2
    assert "burn" in capsys.readouterr().err
