"""Retrieval: what is ranked, measured and written. Numbers beside the reference's stand in `test_recorded.py`."""

import gzip
import json
import logging
from operator import itemgetter

import numpy as np
import pytest
import torch

from sentence_transformers import util
from sentence_transformers.evaluation import InformationRetrievalEvaluator

QUERIES = {"q1": "a", "q2": "b", "q3": "nothing is relevant to this"}
CORPUS = {f"d{number}": text for number, text in enumerate(["ab", "a", "b", "cc", "c", "ba"])}
RELEVANT = {"q1": {"d1", "d0"}, "q2": {"d2", "unknown"}, "q3": set()}


class Letters:
    """A model whose embeddings count the letters of a text; it notes how it was called."""

    similarity_fn_name = "cosine"

    def __init__(self):
        self.calls = []

    def encode(self, sentences, batch_size=32, show_progress_bar=False, convert_to_tensor=False, **options):
        self.calls.append((list(sentences), options))
        counts = [[text.count(letter) for letter in "abcdefgh"] for text in sentences]
        return torch.tensor(counts, dtype=torch.float32)


@pytest.fixture
def model():
    return Letters()


def test_the_metrics_are_those_of_the_rankings(model):
    """The rankings are d1, d0, d5, … for "a", and d2, d0, d5, … for "b"; d2 is one of two relevant ones."""
    metrics = InformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT, precision_recall_at_k=[1, 2])(model)
    assert metrics["cosine_accuracy@1"] == 1.0
    assert metrics["cosine_precision@2"] == 0.75
    assert metrics["cosine_recall@1"] == 0.5
    assert metrics["cosine_recall@2"] == 0.75
    assert metrics["cosine_mrr@10"] == 1.0
    assert metrics["cosine_map@100"] == 0.75


def test_queries_without_relevant_documents_are_left_out(model):
    evaluator = InformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT)
    assert evaluator.queries_ids == ["q1", "q2"]
    evaluator(model)
    assert model.calls[0][0] == ["a", "b"]


def test_documents_that_are_not_in_the_corpus_are_named_and_never_found(model, caplog):
    with caplog.at_level(logging.WARNING):
        evaluator = InformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT)
    assert "1 ids of relevant_docs are not in the corpus, such as 'unknown'" in caplog.text
    assert evaluator(model)["cosine_recall@10"] == 0.75


def test_relevant_documents_may_have_grades(model):
    graded = {"q1": {"d1": 2, "d0": 1, "d3": 0}, "q2": {"d2": 1}}
    plain = {"q1": {"d1", "d0"}, "q2": {"d2"}}
    found = [InformationRetrievalEvaluator(QUERIES, CORPUS, relevant)(model) for relevant in (graded, plain)]
    assert found[0] == found[1]


@pytest.mark.parametrize("size", [1, 2, 4, 6, 100])
def test_the_size_of_chunks_changes_nothing(model, size):
    whole = InformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT)(model)
    model.calls.clear()
    chunked = InformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT, corpus_chunk_size=size)(model)
    assert chunked == pytest.approx(whole)
    assert [text for texts, _ in model.calls[1:] for text in texts] == list(CORPUS.values())
    assert max(len(texts) for texts, _ in model.calls[1:]) <= size


def test_prompts_and_roles_reach_the_model(model):
    roles = []
    model.encode_query = lambda texts, **options: roles.append(("query", options)) or model.encode(texts)
    model.encode_document = lambda texts, **options: (
        roles.append(("document", options)) or model.encode(texts)
    )
    InformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT, query_prompt="q: ", corpus_prompt_name="text")(
        model
    )
    assert [role for role, _ in roles] == ["query", "document"]
    assert roles[0][1]["prompt"] == "q: "
    assert "prompt_name" not in roles[0][1]
    assert roles[1][1]["prompt_name"] == "text"
    assert "prompt" not in roles[1][1]


def test_the_best_of_several_similarities_is_the_main_one(model):
    functions = {"good": util.cos_sim, "bad": lambda a, b: -util.cos_sim(a, b)}
    evaluator = InformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT, score_functions=functions)
    metrics = evaluator(model)
    assert evaluator.primary_metric == "good_ndcg@10"
    assert metrics["good_ndcg@10"] > metrics["bad_ndcg@10"]
    evaluator = InformationRetrievalEvaluator(
        QUERIES, CORPUS, RELEVANT, score_functions=functions, main_score_function="bad"
    )
    evaluator(model)
    assert evaluator.primary_metric == "bad_ndcg@10"


def test_a_main_similarity_alone_is_the_one_that_is_evaluated(model):
    evaluator = InformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT, main_score_function="dot")
    assert "dot_ndcg@10" in evaluator(model)
    assert evaluator.primary_metric == "dot_ndcg@10"


def test_without_ndcg_another_metric_is_the_main_one(model):
    evaluator = InformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT, ndcg_at_k=[], map_at_k=[5, 20])
    evaluator(model)
    assert evaluator.primary_metric == "cosine_map@20"


def test_rankings_are_written_one_line_for_each_query(model, tmp_path):
    evaluator = InformationRetrievalEvaluator(
        QUERIES, CORPUS, RELEVANT, name="dev", write_predictions=True, map_at_k=[3], write_csv=False,
        precision_recall_at_k=[1], ndcg_at_k=[1], mrr_at_k=[1], accuracy_at_k=[1],
    )  # fmt: skip
    for _call in range(2):
        evaluator(model, str(tmp_path / "new"))
    file = tmp_path / "new" / "Information-Retrieval_evaluation_dev_predictions_cosine.jsonl"
    assert list((tmp_path / "new").iterdir()) == [file]
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert [(line["query_id"], line["query"]) for line in lines] == [("q1", "a"), ("q2", "b")]
    assert [hit["corpus_id"] for hit in lines[0]["results"]] == ["d1", "d0", "d5"]
    assert lines[0]["results"][0]["score"] == pytest.approx(1.0)


def test_given_rankings_are_measured_like_found_ones(model):
    evaluator = InformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT)
    metrics = evaluator(model)
    queries, corpus = (model.encode(texts) for texts in (evaluator.queries, evaluator.corpus))
    hits = [
        [
            {"corpus_id": evaluator.corpus_ids[hit["corpus_id"]], "score": hit["score"]}
            for hit in sorted(found, key=itemgetter("corpus_id"))
        ]
        for found in util.semantic_search(queries, corpus, top_k=100)
    ]
    given = evaluator.compute_metrics(hits)
    assert given["ndcg@k"][10] == pytest.approx(metrics["cosine_ndcg@10"])
    assert given["precision@k"][3] == pytest.approx(metrics["cosine_precision@3"])


def test_given_rankings_have_the_values_of_the_reference():
    """The values were printed by `compute_metrics` of sentence-transformers 6.2.0."""
    evaluator = InformationRetrievalEvaluator(
        {"a": "x", "b": "y"},
        {"1": "p", "2": "q", "3": "r"},
        {"a": {"1"}, "b": {"2", "3"}},
        ndcg_at_k=[2],
        map_at_k=[2],
    )
    hits = [
        [{"corpus_id": "2", "score": 0.5}, {"corpus_id": "1", "score": 0.9}],
        [{"corpus_id": "3", "score": 0.5}],
    ]
    assert evaluator.compute_metrics(hits) == {
        "accuracy@k": {1: 1.0, 3: 1.0, 5: 1.0, 10: 1.0},
        "precision@k": pytest.approx({1: 1.0, 3: 1 / 3, 5: 0.2, 10: 0.1}),
        "recall@k": {1: 0.75, 3: 0.75, 5: 0.75, 10: 0.75},
        "ndcg@k": {2: pytest.approx(0.8065735963827292)},
        "mrr@k": {10: 1.0},
        "map@k": {2: 0.75},
    }


def test_rankings_for_other_queries_are_refused():
    evaluator = InformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT)
    with pytest.raises(ValueError, match="1 rankings for 2 queries"):
        evaluator.compute_metrics([[]])


def test_the_corpus_may_come_as_embeddings_or_from_another_model(model):
    evaluator = InformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT)
    expected = evaluator(model)
    other = Letters()
    assert evaluator(model, corpus_model=other) == expected
    assert len(other.calls) == 1
    embeddings = other.encode(evaluator.corpus)
    assert evaluator(model, None, -1, -1, None, embeddings) == expected
    with pytest.raises(ValueError, match="corpus_embeddings has 2 rows, and the corpus 6 documents"):
        evaluator(model, corpus_embeddings=embeddings[:2])


def test_collapsed_embeddings_rank_in_the_order_of_the_corpus(model):
    model.encode = lambda texts, **options: torch.ones(len(texts), 4)
    metrics = InformationRetrievalEvaluator({"q": "a"}, CORPUS, {"q": {"d3"}})(model)
    assert metrics["cosine_mrr@10"] == pytest.approx(1 / 4)


def test_embeddings_that_are_not_numbers_find_nothing(model):
    model.encode = lambda texts, **options: torch.full((len(texts), 4), torch.nan)
    metrics = InformationRetrievalEvaluator(QUERIES, CORPUS, RELEVANT)(model)
    assert set(metrics.values()) == {0.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"corpus": {}}, "no documents"),
        ({"relevant_docs": {}}, "no relevant documents"),
        ({"relevant_docs": {"q1": set(), "other": {"d1"}}}, "got 3 queries, and no relevant documents"),
        ({"corpus_chunk_size": 0}, "corpus_chunk_size=0"),
        ({"ndcg_at_k": [0, 3]}, "ndcg_at_k=0"),
        (
            {"score_functions": {"x": util.cos_sim}, "main_score_function": "dot"},
            "'dot' is none of the score_functions x",
        ),
        ({"main_score_function": "nonsense"}, "no similarity function 'nonsense'"),
        (
            {
                "mrr_at_k": [],
                "ndcg_at_k": [],
                "accuracy_at_k": [],
                "precision_recall_at_k": [],
                "map_at_k": [],
            },
            "no k to measure at",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_refused_when_the_evaluator_is_built(change, message):
    with pytest.raises(ValueError, match=message):
        InformationRetrievalEvaluator(
            **{"queries": QUERIES, "corpus": CORPUS, "relevant_docs": RELEVANT, **change}
        )


@pytest.mark.slow
def test_cranfield_gives_the_reference_s_scores(minilm, shared_data, monkeypatch):
    """The scores that its README names for release 6.2.0."""
    monkeypatch.setattr(minilm, "_model_card_data", None)
    folder = shared_data / "cranfield"

    def lines(name):
        with gzip.open(folder / name, "rt", encoding="utf-8", newline="") as file:
            yield from file

    queries = {row["_id"]: row["text"] for row in map(json.loads, lines("queries.jsonl.gz"))}
    corpus = {
        row["_id"]: f"{row['title']} {row['text']}" for row in map(json.loads, lines("corpus.jsonl.gz"))
    }
    relevant = {}
    for query, document, _grade in [line.rstrip("\n").split("\t") for line in lines("qrels.tsv.gz")][1:]:
        relevant.setdefault(query, set()).add(document)
    metrics = InformationRetrievalEvaluator(queries, corpus, relevant, precision_recall_at_k=[100])(minilm)
    expected = {"ndcg@10": 39.60, "map@100": 31.73, "mrr@10": 53.68, "recall@100": 77.58}
    found = {name: 100 * metrics[f"cosine_{name}"] for name in expected}
    assert found == pytest.approx(expected, abs=0.05)
    assert np.isfinite(list(metrics.values())).all()
