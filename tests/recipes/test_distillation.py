"""Students of every kind: what they begin as, and vectors like their teacher's."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
import torch

from recipes.small_files import write_lines, write_pairs
from recipes.small_models import tiny_start
from recipes.smallest import taught
from sentence_transformers import SentenceTransformer
from sentence_transformers.modules.dense import Dense
from sentence_transformers.modules.normalize import Normalize
from sentence_transformers.recipes import distillation
from sentence_transformers.recipes.principal import principal_components
from sentence_transformers.recipes.students import made_anew, projected
from sentence_transformers.recipes.teaching import lesson, texts_of_files


@pytest.fixture
def teacher(tmp_path) -> SentenceTransformer:
    model = SentenceTransformer(tiny_start(tmp_path), device="cpu")
    model.append(Normalize())
    return model


def configured(folder, teacher, **options):
    teacher.save_pretrained(str(folder / "teacher"))
    return distillation.Config(
        **{**taught(folder), "model": str(folder / "teacher"), "out": folder / "out", **options}
    )


def test_a_narrow_student_reads_the_words_of_its_teacher(teacher):
    old = teacher[0].auto_model.get_input_embeddings().weight.detach().numpy()
    student = made_anew(teacher, layers=1, width=16, seed=1)
    new = student[0].auto_model.get_input_embeddings().weight.detach().numpy()
    np.testing.assert_allclose(new, old @ principal_components(old).directions[:16].T, atol=1e-5)
    assert (student[0].auto_model.config.num_hidden_layers, student.get_sentence_embedding_dimension()) == (
        1,
        16,
    )
    assert student.encode(["text"]).shape == (1, 16)


def test_new_layers_of_the_teachers_width_keep_its_words_and_its_end(teacher):
    words = teacher[0].auto_model.get_input_embeddings().weight.detach().clone()
    student = made_anew(teacher, layers=1, width=None, seed=1)
    assert torch.equal(student[0].auto_model.get_input_embeddings().weight, words)
    assert isinstance(student[-1], Normalize)


def test_a_width_that_cuts_attention_heads_is_refused(teacher):
    with pytest.raises(ValueError, match="multiple of 8 below 32"):
        made_anew(teacher, layers=None, width=12, seed=1)


def test_a_dense_student_is_as_wide_as_its_teacher(tmp_path, teacher):
    student = distillation.student(configured(tmp_path, teacher, new_width=16))
    assert student.get_sentence_embedding_dimension() == 32
    assert [type(part) for part in student][-2:] == [Dense, Normalize]


def test_a_checkpoint_as_student_ends_as_its_teacher_does(tmp_path, teacher):
    student = distillation.student(configured(tmp_path, teacher, student=tiny_start(tmp_path)))
    assert isinstance(student[-1], Normalize)


def test_projected_vectors_keep_what_they_can_of_the_angles():
    vectors = np.random.default_rng(2).normal(size=(30, 8)).astype(np.float32)
    same = projected(vectors, 8, length_one=False)
    np.testing.assert_allclose(same @ same.T, vectors @ vectors.T, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(projected(vectors, 3, length_one=True), axis=1), 1, rtol=1e-5)
    with pytest.raises(ValueError, match="match='dense'"):
        projected(vectors, 9, length_one=False)


def test_a_student_learns(tmp_path, teacher):
    report = distillation.run(configured(tmp_path, teacher, keep_layers=[1], epochs=8))
    losses = [point["loss"] for point in report.curves["training"] if "loss" in point]
    assert losses[-1] < 0.8 * losses[0]
    assert report.row("student")["MB"] < report.row("start")["MB"]


@pytest.mark.parametrize(
    "ways", [{}, {"student": "x", "keep_layers": [0]}, {"keep_layers": [0], "new_width": 8}]
)
def test_it_has_to_be_clear_what_the_student_is(tmp_path, ways):
    with pytest.raises(ValueError, match="clear what the student is"):
        distillation.Config(**{**taught(tmp_path), "out": tmp_path / "out", **ways})


def test_texts_come_from_several_files_each_once(tmp_path):
    lines = write_lines(tmp_path, ["one", "two", "one"])
    compressed = tmp_path / "more.txt.gz"
    with gzip.open(compressed, "wt") as file:
        file.write("two\nthree\n")
    assert texts_of_files([lines, compressed], ["no such"], None, 0) == ["one", "two", "three"]
    some = texts_of_files([lines, compressed], [], 2, 0)
    assert len(some) == 2
    assert some == texts_of_files([lines, compressed], [], 2, 0)
    pairs = write_pairs(tmp_path)
    both = texts_of_files([pairs], ["anchor", "positive", "other"], None, 0)
    assert set(both) > set(texts_of_files([pairs], ["positive"], None, 0))
    with pytest.raises(ValueError, match="none of the columns 'other'"):
        texts_of_files([pairs], ["other"], None, 0)


def test_a_lesson_holds_each_texts_vector():
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    data = lesson(["a", "b", "c"], vectors)
    assert data[1] == {"text": "b", "label": [2.0, 3.0]}


def test_vectors_are_projected_only_where_widths_differ(tmp_path, teacher):
    distillation.run(configured(tmp_path, teacher, keep_layers=[1], match="pca"))
    assert not (tmp_path / "out/steps/targets").exists()
