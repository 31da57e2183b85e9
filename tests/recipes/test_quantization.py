"""What quantisation keeps of a retrieval set, against the evaluator and against codes made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from recipes.smallest import quantization as smallest_quantization
from sentence_transformers import SentenceTransformer
from sentence_transformers.recipes import quantization
from sentence_transformers.recipes.judging import Judge
from sentence_transformers.recipes.quantization import Way, mean_ndcg, searched, to_length_one
from sentence_transformers.recipes.tables import RetrievalSet


@pytest.fixture
def small() -> tuple[RetrievalSet, np.ndarray, np.ndarray, np.ndarray]:
    chance = np.random.default_rng(5)
    documents = to_length_one(chance.normal(size=(60, 16)).astype(np.float32))
    queries = to_length_one(documents[:8] + 0.3 * chance.normal(size=(8, 16)).astype(np.float32))
    data = RetrievalSet(
        {f"d{n}": str(n) for n in range(60)},
        {f"q{n}": str(n) for n in range(8)},
        {f"q{n}": {f"d{n}", f"d{n + 20}"} for n in range(8)},
    )
    return data, documents, queries, np.stack([documents.min(axis=0), documents.max(axis=0)])


def test_the_start_has_the_figure_of_the_evaluator(tmp_path):
    settings = smallest_quantization(tmp_path)
    report = quantization.run(quantization.Config(**{**settings, "out": tmp_path / "out"}))
    model = SentenceTransformer(settings["model"], device="cpu")
    assert report.row("start")["retrieval nDCG@10"] == pytest.approx(
        Judge(settings["data"], "test")(model), abs=0.02
    )


def test_only_the_precisions_that_are_asked_for_are_tried(tmp_path):
    settings = {**smallest_quantization(tmp_path), "precision": ["int8"], "out": tmp_path / "out"}
    report = quantization.run(quantization.Config(**settings))
    assert [(row["model"], row["bytes"]) for row in report.rows] == [("start", 128), ("int8", 32)]
    assert report.model_path is None


def test_ndcg_is_that_of_its_definition(small):
    data, *_ = small
    found = [[40, n, 41, n + 20] for n in range(8)]
    expected = (1 / np.log2(3) + 1 / np.log2(5)) / (1 + 1 / np.log2(3))
    assert mean_ndcg(data, found) == pytest.approx(expected)


def test_binary_search_is_by_signs_and_rescoring_by_int8_wins_back(small):
    data, documents, queries, ranges = small
    signs, query_signs = np.sign(documents), np.sign(queries)
    order = np.argsort(-(query_signs @ signs.T), axis=1, kind="stable")[:, :10]
    by_hand = round(100 * mean_ndcg(data, order.tolist()), 2)
    binary = searched(Way("binary"), data, documents, queries, ranges, 4)
    assert binary["nDCG@10"] == by_hand
    assert (binary["bytes"], binary["MB on disk"]) == (2, None)
    floats = searched(Way("float32"), data, documents, queries, ranges, 4)
    rescored = searched(Way("binary", "int8"), data, documents, queries, ranges, 6)
    assert binary["nDCG@10"] < rescored["nDCG@10"]
    assert rescored["nDCG@10"] == pytest.approx(floats["nDCG@10"], abs=1)
    assert rescored["MB on disk"] == round(documents.size / 1e6, 3)


def test_zeros_stay_zeros():
    assert not to_length_one(np.zeros((1, 3), np.float32)).any()


def test_an_unknown_precision_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no precision 'int4'"):
        quantization.Config(
            **{**smallest_quantization(tmp_path), "precision": ["int4"], "out": tmp_path / "out"}
        )
