"""Metrics of rankings, against written-out definitions, pytrec_eval and scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score

from sentence_transformers.evaluation import ranking_metrics
from sentence_transformers.evaluation.ranking_metrics import ideal_of_counts, rank_by_score

RANKINGS = st.integers(1, 5).flatmap(
    lambda count: st.integers(0, 12).flatmap(
        lambda width: st.tuples(
            st.lists(st.lists(st.booleans(), min_size=width, max_size=width), min_size=count, max_size=count),
            st.lists(st.integers(0, 4), min_size=count, max_size=count),
            st.integers(1, 15),
        )
    )
)
"""Hits of some rankings, relevant documents that each has missed, and a k."""


def measured(hits, relevant, k):
    """Every metric for each query, by name."""
    return {
        "accuracy": ranking_metrics.accuracy_at_k(hits, k=k),
        "precision": ranking_metrics.precision_at_k(hits, k=k),
        "recall": ranking_metrics.recall_at_k(hits, k=k, relevant=relevant),
        "mrr": ranking_metrics.reciprocal_rank_at_k(hits, k=k),
        "map": ranking_metrics.average_precision_at_k(hits, k=k, relevant=relevant),
        "ndcg": ranking_metrics.ndcg_at_k(hits, k=k, ideal=ideal_of_counts(relevant, k=k)),
    }


def by_definition(hits, relevant, k):
    """The same for one query, place by place."""
    found, precisions, gain, first = 0, [], 0.0, None
    for place, is_hit in enumerate(hits[:k], start=1):
        if is_hit:
            found += 1
            precisions.append(found / place)
            gain += 1 / math.log2(place + 1)
            first = first or place
    best = sum(1 / math.log2(place + 1) for place in range(1, min(k, relevant) + 1))
    return {
        "accuracy": float(found > 0),
        "precision": found / k,
        "recall": found / relevant,
        "mrr": 1 / first if first else 0.0,
        "map": sum(precisions) / min(k, relevant),
        "ndcg": gain / best,
    }


@given(RANKINGS)
def test_every_metric_agrees_with_its_definition(ranking):
    hits, missed, k = ranking
    hits = np.array(hits, dtype=bool).reshape(len(missed), -1)
    relevant = np.maximum(hits.sum(axis=1) + missed, 1)
    values = measured(hits, relevant, k)
    for query in range(len(hits)):
        expected = by_definition(hits[query].tolist(), int(relevant[query]), k)
        assert {name: float(value[query]) for name, value in values.items()} == pytest.approx(expected)


def test_metrics_are_those_of_pytrec_eval():
    pytrec_eval = pytest.importorskip("pytrec_eval")
    random = np.random.default_rng(0)
    queries, documents, depth = 30, 60, 40
    relevant = random.random((queries, documents)) < 0.15
    relevant[:, 0] = True
    order = np.argsort(random.random((queries, documents)), axis=1)[:, :depth]
    run = {
        f"q{query}": {f"d{document}": float(depth - place) for place, document in enumerate(order[query])}
        for query in range(queries)
    }
    judged = {
        f"q{query}": {f"d{document}": int(relevant[query, document]) for document in range(documents)}
        for query in range(queries)
    }
    hits, counts = np.take_along_axis(relevant, order, axis=1), relevant.sum(axis=1)
    names = {"P_5", "recall_5", "ndcg_cut_10", "map_cut_40", "recip_rank", "success_5"}
    theirs = pytrec_eval.RelevanceEvaluator(judged, names).evaluate(run)
    ours = {
        "P_5": measured(hits, counts, 5)["precision"],
        "recall_5": measured(hits, counts, 5)["recall"],
        "success_5": measured(hits, counts, 5)["accuracy"],
        "ndcg_cut_10": measured(hits, counts, 10)["ndcg"],
        "map_cut_40": measured(hits, counts, 40)["map"],
        "recip_rank": measured(hits, counts, depth)["mrr"],
    }
    for name in names:
        assert ours[name] == pytest.approx([theirs[f"q{query}"][name] for query in range(queries)])


def test_a_grade_counts_as_it_is_in_ndcg():
    gains, ideal = np.array([[1.0, 0.0, 3.0]]), np.array([[3.0, 2.0, 1.0]])
    expected = (1 + 3 / 2) / (3 + 2 / math.log2(3) + 1 / 2)
    assert ranking_metrics.ndcg_at_k(gains, k=10, ideal=ideal) == pytest.approx([expected])


def test_rankings_without_documents_are_worth_nothing():
    values = measured(np.zeros((2, 0), dtype=bool), np.array([1, 3]), 10)
    assert all(value.tolist() == [0.0, 0.0] for value in values.values())


SCORED = st.lists(
    st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=9).filter(
        lambda documents: any(label for _, label in documents)
    ),
    min_size=1,
    max_size=5,
)
"""Scores and labels of the documents of some queries, of different numbers and often equal."""


@given(SCORED, st.integers(1, 10))
def test_rankings_by_score_are_measured_as_by_scikit_learn(queries, k):
    scores, labels = ([[pair[part] for pair in documents] for documents in queries] for part in (0, 1))
    ranking = rank_by_score(scores, labels)
    assert ranking.average_precision() == pytest.approx(
        [average_precision_score(label, score) for label, score in zip(labels, scores, strict=True)]
    )
    assert ranking.ndcg_at_k(k=k) == pytest.approx(
        [ndcg_score([label], [score], k=k) for label, score in zip(labels, scores, strict=True)]
    )


@given(SCORED, st.integers(1, 10))
def test_the_reciprocal_rank_puts_what_is_wrong_first_among_equals(queries, k):
    expected = []
    for documents in queries:
        labels = [label for _score, label in sorted(documents, key=lambda pair: (-pair[0], pair[1]))]
        place = labels.index(True) + 1
        expected.append(1 / place if place <= k else 0.0)
    scores, labels = ([[pair[part] for pair in documents] for documents in queries] for part in (0, 1))
    assert rank_by_score(scores, labels).reciprocal_rank_at_k(k=k) == pytest.approx(expected)


def test_a_score_that_is_not_a_number_is_below_all_others():
    ranking = rank_by_score([[math.nan, 0.1, -5.0]], [[1, 0, 0]])
    assert ranking.reciprocal_rank_at_k(k=10).tolist() == [pytest.approx(1 / 3)]


def test_a_short_ranking_beside_a_long_one_keeps_its_values():
    alone, beside = rank_by_score([[1, 0]], [[0, 1]]), rank_by_score([[1, 0], range(9)], [[0, 1], [1] * 9])
    assert beside.ndcg_at_k(k=5)[0] == pytest.approx(alone.ndcg_at_k(k=5)[0])
    assert beside.average_precision()[0] == pytest.approx(alone.average_precision()[0])


def test_nothing_relevant_is_worth_nothing():
    ranking = rank_by_score([[0.5, 0.1]], [[0, 0]])
    assert ranking.average_precision().tolist() == [0.0]
    assert ranking.ndcg_at_k(k=3).tolist() == [0.0]
    assert ranking.reciprocal_rank_at_k(k=3).tolist() == [0.0]
