"""Retrieval sets as dictionaries."""

from __future__ import annotations

import pytest

from recipes.small_files import write_retrieval_set, write_table
from sentence_transformers.recipes.tables import read_retrieval_set


def test_a_retrieval_set_is_read_with_the_answers_of_each_query(tmp_path):
    found = read_retrieval_set(write_retrieval_set(tmp_path))
    assert len(found.documents) == 12
    assert found.relevant == {f"q{number}": {f"d{number}"} for number in range(6)}
    assert list(found.queries) == list(found.relevant)


def test_judgements_that_belong_to_no_query_are_refused(tmp_path):
    folder = write_retrieval_set(tmp_path)
    write_table(folder, "qrels", [{"doc_id": "d0", "query_id": "q0", "score": 1}])
    with pytest.raises(ValueError, match="judges no document relevant for any of the queries"):
        read_retrieval_set(folder)
    write_table(folder, "qrels", [{"query_id": "q0", "doc_id": "d0"}])
    with pytest.raises(ValueError, match="has no column 'score'"):
        read_retrieval_set(folder)
