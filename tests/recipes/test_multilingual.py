"""Multilingual distillation: what is read, and that the student learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recipes.small_files import write_table, write_translations
from recipes.small_models import tiny_start
from recipes.smallest import multilingual as smallest
from sentence_transformers import SentenceTransformer
from sentence_transformers.recipes.multilingual import Config, ContrastedMSELoss, read_translations, run
from sentence_transformers.tensors.embeddings import Embeddings


def test_the_student_comes_closer_to_the_teacher_in_every_language(tmp_path):
    report = run(Config(**{**smallest(tmp_path), "epochs": 25, "save_steps": 500}, out=tmp_path / "out"))
    before, after = report.row("start"), report.row("student")
    for language in ("de", "fr"):
        assert after[f"en-{language} MSE x 10,000"] < 0.7 * before[f"en-{language} MSE x 10,000"]


def test_the_teachers_vectors_are_those_of_the_sources(tmp_path):
    asked = smallest(tmp_path)
    config = Config(**{**asked, "limit": None}, out=tmp_path / "out")
    run(config)
    sources = [text for one in read_translations(config.parallel, config, limit=None) for text in one.sources]
    teacher = SentenceTransformer(asked["model"], device="cpu")
    teacher.max_seq_length = config.max_length
    np.testing.assert_allclose(
        np.load(tmp_path / "out/steps/teacher/teacher.npy"), teacher.encode(sources), atol=1e-5
    )


def test_a_student_of_another_width_gets_a_layer_to_the_teachers(tmp_path):
    from sentence_transformers.models import Dense, Pooling, Transformer

    asked = smallest(tmp_path)
    (tmp_path / "parts").mkdir()
    transformer = Transformer(tiny_start(tmp_path / "parts"))
    width = transformer.get_word_embedding_dimension()
    narrow = SentenceTransformer(modules=[transformer, Pooling(width), Dense(width, 5)], device="cpu")
    narrow.save_pretrained(str(tmp_path / "narrow"))
    run(Config(**asked, student=str(tmp_path / "narrow"), out=tmp_path / "out"))
    found = SentenceTransformer(str(tmp_path / "out/model"), device="cpu")
    assert found.get_sentence_embedding_dimension() == width
    assert found[-1].in_features == 5


def test_the_contrast_is_the_cross_entropy_of_finding_the_own_vector(tmp_path):
    vectors, student = torch.randn(2, 4, 8).unbind()
    loss = ContrastedMSELoss(SentenceTransformer(tiny_start(tmp_path), device="cpu"), 0.5)
    difference, contrast = loss.parts([Embeddings(student)], vectors)
    assert difference.value.item() == pytest.approx((student - vectors).square().sum(1).mean().item())
    likeness = 20 * torch.nn.functional.normalize(student) @ torch.nn.functional.normalize(vectors).T
    entropy = -likeness.log_softmax(1).diagonal().mean()
    assert contrast.value.item() == pytest.approx(0.5 * entropy.item(), rel=1e-5)


def test_columns_are_the_first_two_unless_they_are_named(tmp_path):
    table = write_table(tmp_path, "data", [{"id": "1", "de": "Regen", "en": "Rain"}])
    common = {"parallel": [table], "out": tmp_path / "out"}
    [found] = read_translations([table], Config(**common, source="en", target="de"), limit=None)
    assert (found.name, found.sources, found.targets) == ("en-de", ["Rain"], ["Regen"])
    [found] = read_translations([table], Config(**common, source="en"), limit=None)
    assert found.name == "en-id"


def test_files_name_the_languages_where_columns_do_not(tmp_path):
    tables = [write_table(tmp_path, name, [{"source": "a", "target": "b"}]) for name in ("en-de", "en-fr")]
    found = read_translations(tables, Config(parallel=tables, out=tmp_path / "out"), limit=None)
    assert [one.name for one in found] == ["en-de", "en-fr"]


def test_what_cannot_be_learned_from_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Pass at least one table of translations"):
        Config(out=tmp_path / "out")
    table = write_table(tmp_path, "data", [{"en": "alone"}])
    config = Config(parallel=[table], out=tmp_path / "out")
    with pytest.raises(ValueError, match="needs two columns"):
        read_translations([table], config, limit=None)
    with pytest.raises(ValueError, match="has no column 'xx'"):
        read_translations(
            [write_translations(tmp_path, "de")],
            Config(parallel=[table], target="xx", out=tmp_path / "out"),
            limit=None,
        )


def test_folders_name_the_languages_where_files_do_not(tmp_path):
    tables = [write_table(tmp_path / name, "test", [{"source": "a", "target": "b"}]) for name in ("de", "fr")]
    config = Config(parallel=tables, out=tmp_path / "out")
    assert [one.name for one in read_translations(tables, config, limit=None)] == ["de test", "fr test"]
    with pytest.raises(ValueError, match="cannot be told apart: de test, de test"):
        read_translations(tables[:1] * 2, config, limit=None)


def test_a_table_without_any_translation_is_refused(tmp_path):
    table = write_table(tmp_path, "data", [{"en": "Rain", "de": ""}])
    with pytest.raises(ValueError, match=r"No row of .* has both 'en' and 'de'"):
        read_translations([table], Config(parallel=[table], out=tmp_path / "out"), limit=None)
