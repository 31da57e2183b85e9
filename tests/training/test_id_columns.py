"""Columns of ids into texts. What comes out was compared with release 6.2.0 of the reference, case by case."""

from __future__ import annotations

import pickle

import pytest
from datasets import Dataset

from sentence_transformers.util import resolve_ids

QUERIES = Dataset.from_dict({"query_id": ["q1", "q2"], "text": ["Q one", "Q two"]})
DOCUMENTS = Dataset.from_dict(
    {"id": [1, 2, 3], "title": ["T1", "T2", "T3"], "text": ["D one", "D two", "D three"]}
)
LOOKUPS = {"query_id": QUERIES, "document_ids": (DOCUMENTS, "id", "text")}
BATCH = {
    "query_id": ["q2", "q1"],
    "document_ids": [[1, 3], [2, 1]],
    "scores": [[0.5, 0.1], [1.0, 0.2]],
    "x": [1, 2],
}


def test_ids_become_texts_and_lists_of_ids_columns():
    assert resolve_ids(LOOKUPS)(BATCH) == {
        "query": ["Q two", "Q one"],
        "document_1": ["D one", "D two"],
        "document_2": ["D three", "D one"],
        "scores": [[0.5, 0.1], [1.0, 0.2]],
    }


def test_lists_may_stay_lists_of_different_lengths():
    batch = {"document_ids": [[1], [2, 3]], "labels": [[1], [0, 1]]}
    resolve = resolve_ids({"document_ids": (DOCUMENTS, "id", "title")}, output_format="lists")
    assert resolve(batch) == {"documents": [["T1"], ["T2", "T3"]], "labels": [[1], [0, 1]]}


def test_lists_and_the_labels_beside_them_can_be_cut():
    resolved = resolve_ids(LOOKUPS, max_list_length=1)(BATCH)
    assert resolved == {
        "query": ["Q two", "Q one"],
        "document_1": ["D one", "D two"],
        "scores": [[0.5], [1.0]],
    }


def test_other_columns_can_be_kept():
    assert resolve_ids({"query_id": QUERIES}, keep_columns=["x"])(BATCH) == {
        "query": ["Q two", "Q one"],
        "x": [1, 2],
    }


@pytest.mark.parametrize(
    ("name", "single", "column", "lists"),
    [
        ("a_id", "a", "a_1", "a"),
        ("a_ids", "a", "a_1", "as"),
        ("a_idx", "a", "a_1", "a"),
        ("id", "id", "id_1", "id"),
        ("negatives", "negatives", "negatives_1", "negatives"),
    ],
)
def test_columns_are_named_after_what_the_ids_stand_for(name, single, column, lists):
    assert list(resolve_ids({name: QUERIES})({name: ["q1"]})) == [single]
    assert list(resolve_ids({name: QUERIES})({name: [["q1"]]})) == [column]
    assert list(resolve_ids({name: QUERIES}, output_format="lists")({name: [["q1"]]})) == [lists]


def test_a_data_set_trains_with_it(model, arguments):
    from sentence_transformers import SentenceTransformerTrainer
    from sentence_transformers.losses import MultipleNegativesRankingLoss

    ids = Dataset.from_dict({"query_id": ["q1", "q2"], "document_ids": [[1], [2]]})
    ids.set_transform(resolve_ids(LOOKUPS))
    assert ids[0] == {"query": "Q one", "document_1": "D one"}
    trainer = SentenceTransformerTrainer(
        model, arguments(max_steps=1), ids, loss=MultipleNegativesRankingLoss(model)
    )
    trainer.train()
    assert trainer.state.global_step == 1


def test_it_can_be_sent_to_other_processes():
    resolve = pickle.loads(pickle.dumps(resolve_ids(LOOKUPS)))
    assert resolve(BATCH) == resolve_ids(LOOKUPS)(BATCH)


def test_an_id_that_is_not_there_is_named():
    with pytest.raises(KeyError, match="'q9'"):
        resolve_ids({"query_id": QUERIES})({"query_id": ["q1", "q9"]})
    with pytest.raises(KeyError, match="None"):
        resolve_ids({"query_id": QUERIES})({"query_id": [None]})


@pytest.mark.parametrize(
    ("lookups", "message"),
    [
        ({"a": DOCUMENTS}, r"\['title', 'text'\].*must be chosen"),
        ({"a": QUERIES.rename_column("query_id", "qid")}, "none may hold the ids"),
        ({"a": (QUERIES, "id")}, "no column 'id'"),
        ({"a": (QUERIES, "query_id", "title")}, "no column 'title'"),
        ({"a": (QUERIES, "query_id", "text", "text")}, "4 entries"),
    ],
)
def test_lookups_that_leave_a_choice_are_refused(lookups, message):
    with pytest.raises(ValueError, match=message):
        resolve_ids(lookups)


@pytest.mark.parametrize("settings", [{"max_list_length": 0}, {"output_format": "rows"}])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        resolve_ids(LOOKUPS, **settings)


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        ({"a_ids": [["q1"], ["q1", "q2"]]}, ValueError, r"\[1, 2\] entries"),
        ({"a_ids": [[], []]}, ValueError, "all empty"),
        ({"a_ids": "q1"}, TypeError, "with_format"),
        ({"a_ids": ["q1"], "a": ["q1"]}, ValueError, "'a' would come twice"),
    ],
)
def test_batches_that_cannot_be_resolved_are_refused(batch, error, message):
    lookups = dict.fromkeys(batch, QUERIES)
    with pytest.raises(error, match=message):
        resolve_ids(lookups)(batch)


def test_a_lookup_that_is_no_data_set_is_refused():
    with pytest.raises(TypeError, match="str"):
        resolve_ids({"a": "queries"})
