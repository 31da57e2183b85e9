"""Matryoshka training: which widths and depths there are, and what is measured at each."""

from __future__ import annotations

import pytest

from recipes.small_files import write_table
from recipes.smallest import matryoshka_both, matryoshka_widths
from sentence_transformers import SentenceTransformer
from sentence_transformers.recipes.judging import Judge
from sentence_transformers.recipes.layers import layers_of, with_layers
from sentence_transformers.recipes.matryoshka import Config, chosen_widths, run


def test_the_figures_are_those_of_the_cut_model(tmp_path):
    asked = matryoshka_both(tmp_path)
    report = run(Config(**asked, out=tmp_path / "out"))
    judge = Judge(asked["dev"], "dev")
    model = SentenceTransformer(str(tmp_path / "out/model"), device="cpu")
    whole = len(layers_of(model))
    assert whole > 1
    widths = chosen_widths(Config(**asked, out=tmp_path / "out"), model.get_sentence_embedding_dimension())
    for layers in range(whole, 0, -1):
        name = "2D Matryoshka" if layers == whole else f"2D Matryoshka, {layers} layer{'s' * (layers > 1)}"
        with_layers(model, range(layers))
        for width in widths:
            model.truncate_dim = width
            assert report.row(name)[f"{judge.label} {width}"] == judge(model)


def test_the_saved_model_is_whole(tmp_path):
    asked = matryoshka_both(tmp_path)
    run(Config(**asked, out=tmp_path / "out"))
    before = SentenceTransformer(asked["model"], device="cpu")
    after = SentenceTransformer(str(tmp_path / "out/model"), device="cpu")
    assert len(layers_of(after)) == len(layers_of(before))
    assert after.get_sentence_embedding_dimension() == before.get_sentence_embedding_dimension()


def test_widths_are_the_models_own_and_powers_of_two(tmp_path):
    asked = {**matryoshka_widths(tmp_path), "out": tmp_path / "out"}
    assert chosen_widths(Config(**asked), 384) == [384, 256, 128, 64, 32]
    assert chosen_widths(Config(**asked), 768) == [768, 512, 256, 128, 64]
    assert chosen_widths(Config(**asked, widths=[10, 100]), 384) == [384, 100, 10]
    with pytest.raises(ValueError, match="384 dimensions and cannot be cut to 385"):
        chosen_widths(Config(**asked, widths=[385]), 384)


def test_options_of_what_is_not_trained_are_refused(tmp_path):
    asked = {**matryoshka_widths(tmp_path), "out": tmp_path / "out"}
    with pytest.raises(ValueError, match="layers are trained only"):
        Config(**asked, layers=[1])
    with pytest.raises(ValueError, match="widths are trained only"):
        Config(**asked, over="layers", widths=[1])


def test_a_classifier_over_several_widths_is_refused(tmp_path):
    rows = [{"premise": "a", "hypothesis": "b", "label": label} for label in "xyz"]
    asked = {**matryoshka_widths(tmp_path), "data": write_table(tmp_path, "classed", rows)}
    with pytest.raises(ValueError, match="takes vectors of one width only"):
        run(Config(**asked, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
