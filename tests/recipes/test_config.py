"""What every config refuses, and what of it decides about the result."""

from __future__ import annotations

import pytest

from recipes.small_files import write_lines
from sentence_transformers.recipes.config import RecipeConfig, TrainedConfig, UnlabelledConfig, described


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs=0 trains nothing"),
        ({"batch_size": 0}, "batch_size=0 makes no sense here. Pass 1 or more"),
        ({"warmup_ratio": 1.5}, "warmup_ratio=1.5 is no share of the steps"),
        ({"keep_best": True}, "keep_best chooses by dev"),
        ({"dev": "nowhere.tsv"}, "dev: there is no file or folder 'nowhere.tsv'"),
        ({"test": ["nowhere.tsv"]}, "test: there is no file or folder"),
        ({"test": "test.tsv"}, r"test='test.tsv' is no list. Pass \['test.tsv'\]"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        TrainedConfig(out=tmp_path / "out", **changes)


def test_where_and_how_loudly_it_runs_decides_nothing(tmp_path):
    first = RecipeConfig(out=tmp_path / "one", device="cpu", quiet=True)
    assert first.settings() == RecipeConfig(out=tmp_path / "other").settings()
    assert first.settings() != RecipeConfig(out=tmp_path / "one", seed=1).settings()


def test_a_file_is_known_by_its_size_too(tmp_path):
    path = write_lines(tmp_path, ["one"])
    before = UnlabelledConfig(out=tmp_path / "out", texts=path).settings()
    write_lines(tmp_path, ["one", "two"])
    assert UnlabelledConfig(out=tmp_path / "out", texts=path).settings() != before


def test_a_long_list_of_texts_is_known_by_its_hash():
    texts = ["a long text " * 10] * 3
    assert described(texts).startswith("3 texts ")
    assert described(texts) != described([*texts[:2], "another one " * 20])
    assert described(["a", "b"]) == ["a", "b"]
