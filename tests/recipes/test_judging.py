"""How a model is judged: which files give which figure."""

from __future__ import annotations

import pytest
from sklearn.metrics import average_precision_score

from recipes.smallest import sentences, tiny_start, write_scored_pairs, write_table
from sentence_transformers import SentenceTransformer
from sentence_transformers.recipes.judging import Judge


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
