"""How a model is judged: which files give which figure."""

from __future__ import annotations

import pytest
from sklearn.metrics import average_precision_score

from recipes.small_files import sentences, write_retrieval_set, write_scored_pairs, write_table
from recipes.small_models import tiny_start
from sentence_transformers import SentenceTransformer
from sentence_transformers.recipes.judging import Judge, judges


def test_pairs_with_a_label_are_judged_by_average_precision(tmp_path):
    model = SentenceTransformer(tiny_start(tmp_path), device="cpu")
    texts = sentences(12)
    labels = [number % 3 == 0 for number in range(10)]
    rows = [
        {"question1": texts[number], "question2": texts[number + 2], "label": str(int(label))}
        for number, label in enumerate(labels)
    ]
    judge = Judge(write_table(tmp_path / "rqe", "test", rows), "test")
    likeness = model.similarity_pairwise(model.encode(texts[:10]), model.encode(texts[2:12]))
    assert judge.label == "rqe test AP"
    assert judge(model) == pytest.approx(100 * average_precision_score(labels, likeness), abs=0.01)


def test_pairs_with_a_score_are_judged_by_spearman(tmp_path):
    assert Judge(write_scored_pairs(tmp_path), "dev").label == "sts dev Spearman"


def test_a_table_that_cannot_be_judged_by_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no column 'score'"):
        Judge(write_table(tmp_path, "data", [{"sentence1": "a", "sentence2": "b"}]), "dev")


def test_test_sets_of_one_folder_are_told_apart_by_their_files(tmp_path):
    rows = [
        {"sentence1": "a", "sentence2": "b", "score": 1},
        {"sentence1": "a", "sentence2": "c", "score": 0},
    ]
    tables = [write_table(tmp_path / "sts", name, rows) for name in ("de", "es")]
    found = judges(tables[0], tables)
    assert [judge.label for judge in found] == [
        "sts dev Spearman",
        "sts de test Spearman",
        "sts es test Spearman",
    ]
    other = write_table(tmp_path / "more" / "sts", "de", rows)
    with pytest.raises(ValueError, match="both called 'sts de test Spearman'"):
        judges(None, [tables[0], other])


def test_retrieval_is_judged_with_the_models_own_similarity(tmp_path):
    judge = Judge(write_retrieval_set(tmp_path), "test")
    model = SentenceTransformer(tiny_start(tmp_path), device="cpu", similarity_fn_name="dot")
    assert judge(model) == pytest.approx(100 * judge.evaluator(model)["test_dot_ndcg@10"], abs=0.01)
