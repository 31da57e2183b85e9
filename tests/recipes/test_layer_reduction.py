"""Layer reduction makes a table of students, of which one is kept; each comes closer to its teacher."""

from __future__ import annotations

import pytest

from recipes.small_files import write_scored_pairs
from recipes.small_models import tiny_start
from recipes.smallest import TRAINED, taught
from sentence_transformers import SentenceTransformer
from sentence_transformers.recipes import layer_reduction
from sentence_transformers.recipes.layers import layers_of


def test_the_student_that_is_asked_for_becomes_the_model(tmp_path):
    config = layer_reduction.Config(
        **{**taught(tmp_path), "layers": [1, 2], "model_layers": 1, "out": tmp_path / "out"}
    )
    report = layer_reduction.run(config)
    assert [row["layers"] for row in report.rows] == [2, 1, 2]
    assert report.row("start")["% of start"] == 100
    assert report.row("start")["speed-up"] == 1
    assert report.rows[1]["MB"] < report.rows[2]["MB"] == report.rows[0]["MB"]
    assert len(layers_of(SentenceTransformer(str(report.model_path), device="cpu"))) == 1


def test_a_student_comes_closer_to_its_teacher(tmp_path):
    config = layer_reduction.Config(
        **{**taught(tmp_path), "keep_layers": [1], "epochs": 8, "out": tmp_path / "out"}
    )
    losses = [point["loss"] for point in layer_reduction.run(config).curves["1-layers"] if "loss" in point]
    assert losses[-1] < 0.7 * losses[0]


def test_all_layers_without_training_are_the_teacher_itself(tmp_path):
    dev = write_scored_pairs(tmp_path)
    config = layer_reduction.Config(
        **{
            **TRAINED,
            "model": tiny_start(tmp_path),
            "dev": dev,
            "layers": [2],
            "train": False,
            "out": tmp_path / "o",
        }
    )
    report = layer_reduction.run(config)
    assert [row["% of start"] for row in report.rows] == [100, 100]
    assert not (report.folder / "steps" / "teacher").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"texts": []}, "nothing to learn from"),
        ({"layers": [1], "keep_layers": [0]}, "Pass one of them"),
        ({"layers": [1], "model_layers": 2}, "none of layers"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        layer_reduction.Config(**{**taught(tmp_path), "out": tmp_path / "out", **wrong})


def test_more_layers_than_the_teacher_has_are_refused_before_anything_is_written(tmp_path):
    config = layer_reduction.Config(**{**taught(tmp_path), "layers": [3], "out": tmp_path / "out"})
    with pytest.raises(ValueError, match="Pass 1 to 2"):
        layer_reduction.run(config)
    assert not (tmp_path / "out").exists()
