"""The layer behind the model is the projection that the definition of PCA names."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recipes.small_files import sentences, write_pairs, write_scored_pairs
from recipes.smallest import pca as smallest_pca
from sentence_transformers import SentenceTransformer
from sentence_transformers.modules.dense import Dense
from sentence_transformers.modules.normalize import Normalize
from sentence_transformers.recipes import pca
from sentence_transformers.recipes.kept_cosines import keep_cosines
from sentence_transformers.recipes.principal import principal_components
from sentence_transformers.recipes.tables import read_rows


@pytest.fixture
def vectors() -> np.ndarray:
    chance = np.random.default_rng(3)
    return (chance.normal(size=(50, 6)) @ chance.normal(size=(6, 6)) + 2).astype(np.float32)


def test_components_are_those_of_the_singular_value_decomposition(vectors):
    found = principal_components(vectors, rows_at_once=7)
    _, values, directions = np.linalg.svd(
        vectors - vectors.mean(axis=0, dtype=np.float64), full_matrices=False
    )
    np.testing.assert_allclose(found.variances, values**2 / 49, rtol=1e-5)
    np.testing.assert_allclose(np.abs((found.directions * directions).sum(axis=1)), 1, atol=1e-5)
    np.testing.assert_allclose(found.mean, vectors.mean(axis=0), rtol=1e-5)
    assert found.kept(6) == pytest.approx(1)
    assert found.kept(2) == pytest.approx((values[:2] ** 2).sum() / (values**2).sum(), rel=1e-5)


def test_the_same_embeddings_give_the_same_signs(vectors):
    a, b = principal_components(vectors), principal_components(vectors[::-1])
    np.testing.assert_allclose(a.directions, b.directions, atol=1e-6)
    assert (a.directions.max(axis=1) == np.abs(a.directions).max(axis=1)).all()


@pytest.mark.parametrize("wrong", [np.ones((1, 3)), np.ones((4, 3))])
def test_embeddings_that_do_not_differ_have_no_components(wrong):
    with pytest.raises(ValueError, match="directions in which they differ"):
        principal_components(wrong)


@pytest.mark.parametrize("centre", [False, True])
def test_the_finished_model_gives_the_projection(tmp_path, centre):
    config = pca.Config(**{**smallest_pca(tmp_path), "centre": centre, "out": tmp_path / "out"})
    report = pca.run(config)
    assert [row["width"] for row in report.rows] == [32, 8, 4]
    assert report.rows[1]["% of variance"] > report.rows[2]["% of variance"]
    texts = list(sentences(40))
    before = SentenceTransformer(config.model, device="cpu").encode(texts).astype(np.float64)
    mean = before.mean(axis=0)
    directions = np.linalg.svd(before - mean, full_matrices=False)[2][:4]
    expected = np.abs((before - mean * centre) @ directions.T)
    model = SentenceTransformer(str(report.model_path), device="cpu")
    np.testing.assert_allclose(np.abs(model.encode(texts)), expected, atol=2e-4)
    assert isinstance(model[-1], Dense)
    assert isinstance(model[-1].activation_function, torch.nn.Identity)
    assert model[-1].bias == centre


def test_whitened_wholly_every_direction_counts_alike(tmp_path):
    config = pca.Config(**{**smallest_pca(tmp_path), "centre": True, "whiten": 1.0, "out": tmp_path / "out"})
    model = SentenceTransformer(str(pca.run(config).model_path), device="cpu")
    covariance = np.cov(model.encode(list(sentences(40))).T)
    np.testing.assert_allclose(covariance / covariance[0, 0], np.eye(4), atol=1e-3)


def test_vectors_of_length_one_stay_so(minilm_path, vectors):
    model = SentenceTransformer(str(minilm_path), device="cpu")
    components = principal_components(np.random.default_rng(1).normal(size=(400, 384)))
    shorter = pca.shortened(model, components.projection(16))
    assert isinstance(shorter[-1], Normalize)
    np.testing.assert_allclose(np.linalg.norm(shorter.encode(["one", "two"]), axis=1), 1, rtol=1e-5)


def test_more_numbers_than_the_model_gives_are_refused(tmp_path):
    with pytest.raises(ValueError, match="more than the 32 numbers"):
        pca.run(pca.Config(**{**smallest_pca(tmp_path), "width": [64], "out": tmp_path / "out"}))


def test_an_adjusted_projection_keeps_the_cosines_of_pairs_better_than_the_components(tmp_path):
    config = {**smallest_pca(tmp_path), "texts": [write_scored_pairs(tmp_path)]}
    config |= {"columns": ["sentence1", "sentence2"], "width": [4]}
    rows = read_rows(config["texts"][0])
    texts = [row[name] for row in rows for name in ("sentence1", "sentence2")]

    def cosines(model):
        vectors = model.encode(texts, normalize_embeddings=True)
        return (vectors[::2] * vectors[1::2]).sum(axis=1)

    expected = cosines(SentenceTransformer(config["model"], device="cpu"))
    errors = []
    for adjust in (0, 200):
        report = pca.run(pca.Config(**{**config, "adjust": adjust, "out": tmp_path / f"out {adjust}"}))
        found = cosines(SentenceTransformer(str(report.model_path), device="cpu"))
        errors.append(float(np.square(found - expected).mean()))
    assert errors[1] < errors[0] / 2


def test_an_adjustment_needs_pairs_and_keeps_the_mean(tmp_path):
    config = smallest_pca(tmp_path)
    with pytest.raises(ValueError, match="in one row of a table"):
        pca.run(pca.Config(**{**config, "adjust": 3, "out": tmp_path / "out"}))
    with pytest.raises(ValueError, match="one of them"):
        pca.Config(**{**config, "adjust": 3, "centre": True, "out": tmp_path / "other"})


def test_components_and_pairs_may_come_from_different_tables(tmp_path):
    config = {**smallest_pca(tmp_path), "width": [4], "limit": 30, "out": tmp_path / "out"}
    pairs = write_scored_pairs(tmp_path)
    columns = {"pair_columns": ["sentence1", "sentence2"]}
    adjusted = pca.run(pca.Config(**{**config, "adjust": 20, "pairs": [pairs], **columns}))
    plain = pca.run(pca.Config(**{**config, "out": tmp_path / "plain"}))
    # The components are those of the texts alone.
    assert adjusted.rows[1]["% of variance"] == plain.rows[1]["% of variance"]
    assert len(np.load(adjusted.folder / "steps/embeddings/teacher.npy")) == 30
    # The pairs are those of the other table, all of them.
    rows = read_rows(pairs)
    texts = list(dict.fromkeys(row[name] for row in rows for name in ("sentence1", "sentence2")))
    vectors = SentenceTransformer(config["model"], device="cpu").encode(texts)
    np.testing.assert_allclose(
        np.load(adjusted.folder / "steps/pairs/teacher.npy"), vectors, rtol=1e-4, atol=1e-5
    )
    numbered = [
        tuple(texts.index(row[name]) for name in ("sentence1", "sentence2"))
        for row in rows
        if row["sentence1"] != row["sentence2"]
    ]
    components = np.load(plain.folder / "steps/components/components.npz")["directions"][:4]
    expected = keep_cosines(components, vectors, numbered, epochs=20, seed=3)
    found = np.load(adjusted.folder / "steps/adjusted/projections.npz")["4"]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert not np.allclose(expected, components, atol=1e-2)


def test_the_columns_of_texts_are_those_of_pairs_unless_others_are_named(tmp_path):
    pairs = write_scored_pairs(tmp_path)
    asked = {"texts": [write_pairs(tmp_path)], "pairs": [pairs], "adjust": 1, "out": tmp_path / "out"}
    expected = {(row["sentence1"], row["sentence2"]) for row in read_rows(pairs)}
    expected = {pair for pair in expected if len(set(pair)) == 2}
    both = pca.Config(**asked, columns=["anchor", "positive", "sentence1", "sentence2"])
    assert set(pca.pairs_to_keep(both)) == expected
    own = pca.Config(**asked, columns=["anchor"], pair_columns=["sentence1", "sentence2"])
    assert set(pca.pairs_to_keep(own)) == expected
    # Without tables of pairs, columns of their own choose among the tables of texts.
    among = {**asked, "texts": [*asked["texts"], pairs], "pairs": []}
    chosen = pca.Config(**among, columns=both.columns, pair_columns=["sentence1", "sentence2"])
    assert set(pca.pairs_to_keep(chosen)) == expected


def test_pairs_that_could_not_be_kept_are_refused_before_anything_is_computed(tmp_path):
    config = {**smallest_pca(tmp_path), "out": tmp_path / "out"}
    table, lines = write_scored_pairs(tmp_path), config["texts"][0]
    for name, value in (("pairs", [table]), ("pair_columns", ["sentence1"])):
        with pytest.raises(ValueError, match=f"{name} says what adjust looks at.*adjust=10"):
            pca.Config(**{**config, name: value})
    refused = [
        {"pairs": [table], "pair_columns": ["sentence1"]},
        {"pairs": [table], "columns": ["question"]},
        {"pairs": [table]},
        {"pairs": [table, lines], "pair_columns": ["sentence1", "sentence2"]},
    ]
    for options in refused:
        with pytest.raises(ValueError, match=r"No row of .* two different texts.*--pair-columns sentence1"):
            pca.run(pca.Config(**{**config, "adjust": 3, **options}))
    assert not config["out"].exists()
