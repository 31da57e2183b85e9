"""The order of given documents: what a model is asked to order, and what a first search has missed."""

from __future__ import annotations

import math

import pytest

from sentence_transformers.cross_encoder.evaluation import CrossEncoderRerankingEvaluator

NEGATIVES = [
    {"query": "q", "positive": [".5", ".2"], "negative": [".4", ".1"]},
    {"query": "r", "positive": [".2"], "negative": [".4"]},
]
DOCUMENTS = [
    {"query": "q", "positive": [".5", ".2"], "documents": [".4", ".2", ".1", ".45"]},
    {"query": "r", "positive": [".2"], "documents": [".4", ".2", ".1"]},
]


def ndcg(places: list[int], relevant: int, k: int = 10) -> float:
    found = sum(1 / math.log2(place + 1) for place in places if place <= k)
    return found / sum(1 / math.log2(place + 1) for place in range(1, min(relevant, k) + 1))


def test_the_metrics_are_those_of_the_orders(numbers, tmp_path):
    """The positives stand at 1 and 3, and at 2."""
    evaluator = CrossEncoderRerankingEvaluator(NEGATIVES, name="dev")
    metrics = evaluator(numbers(), str(tmp_path))
    assert metrics == pytest.approx(
        {
            "dev_map": ((1 + 2 / 3) / 2 + 1 / 2) / 2,
            "dev_mrr@10": 0.75,
            "dev_ndcg@10": (ndcg([1, 3], 2) + ndcg([2], 1)) / 2,
        }
    )
    assert evaluator.primary_metric == "dev_ndcg@10"
    lines = (tmp_path / "CrossEncoderRerankingEvaluator_dev_results_@10.csv").read_text().splitlines()
    assert lines[0] == "epoch,steps,MAP,MRR@10,NDCG@10"
    assert [float(value) for value in lines[1].split(",")[2:]] == pytest.approx(list(metrics.values()))


def test_all_pairs_are_scored_in_one_call(numbers):
    model = numbers()
    CrossEncoderRerankingEvaluator(NEGATIVES, batch_size=7)(model)
    ((pairs, options),) = model.calls
    assert pairs == [("q", ".5"), ("q", ".2"), ("q", ".4"), ("q", ".1"), ("r", ".2"), ("r", ".4")]
    assert options["batch_size"] == 7


def test_what_a_first_search_missed_is_ordered_too(numbers):
    """Both searches: positives at 1 and 4 (after .45 and .4), and at 2. The first: at 2, one missed, and at 2."""
    metrics = CrossEncoderRerankingEvaluator(DOCUMENTS)(numbers())
    assert metrics["map"] == pytest.approx(((1 + 2 / 4) / 2 + 1 / 2) / 2)
    assert metrics["ndcg@10"] == pytest.approx((ndcg([1, 4], 2) + ndcg([2], 1)) / 2)
    assert metrics["base_mrr@10"] == pytest.approx(0.5)
    assert metrics["base_map"] == pytest.approx(((1 / 2 + 2 / 5) / 2 + 1 / 2) / 2)
    assert metrics["base_ndcg@10"] == pytest.approx((ndcg([2, 5], 2) + ndcg([2], 1)) / 2)
    measured = ("map", "mrr@10", "ndcg@10")
    assert list(metrics) == [*measured, *(f"base_{key}" for key in measured)]


def test_or_it_does_not_count(numbers):
    """The model orders four documents: .45, .4, .2, .1; the positive that was not found is left out of account."""
    model = numbers()
    metrics = CrossEncoderRerankingEvaluator(DOCUMENTS[:1], always_rerank_positives=False)(model)
    assert [second for _, second in model.calls[0][0]] == [".4", ".2", ".1", ".45"]
    assert metrics["mrr@10"] == metrics["map"] == pytest.approx(1 / 3)
    assert metrics["ndcg@10"] == pytest.approx(0.5)
    assert metrics["base_map"] == pytest.approx((1 / 2 + 2 / 5) / 2)


@pytest.mark.parametrize("always", [True, False])
def test_a_first_search_that_found_nothing_relevant_counts_as_nothing(numbers, always):
    samples = [{"query": "q", "positive": [".7"], "documents": [".4", ".2"]}]
    metrics = CrossEncoderRerankingEvaluator(samples, always_rerank_positives=always)(numbers())
    assert metrics["map"] == (1.0 if always else 0.0)
    assert metrics["base_map"] == metrics["base_mrr@10"] == metrics["base_ndcg@10"] == 0


def test_first_searches_are_measured_where_there_are_any(numbers):
    metrics = CrossEncoderRerankingEvaluator([DOCUMENTS[0], NEGATIVES[1]])(numbers())
    assert metrics["map"] == pytest.approx((0.75 + 0.5) / 2)
    assert metrics["base_map"] == pytest.approx(0.45)


def test_only_the_first_places_count(numbers):
    metrics = CrossEncoderRerankingEvaluator(NEGATIVES, at_k=1)(numbers())
    assert metrics["mrr@1"] == metrics["ndcg@1"] == 0.5
    assert CrossEncoderRerankingEvaluator(NEGATIVES, mrr_at_k=3).at_k == 3


def test_equal_scores_are_no_order(numbers):
    samples = [{"query": "q", "positive": [".5 x"], "negative": [".5 y", ".5 z"]}]
    metrics = CrossEncoderRerankingEvaluator(samples, at_k=3)(numbers())
    assert metrics["map"] == pytest.approx(1 / 3)
    assert metrics["mrr@3"] == pytest.approx(1 / 3)


def test_a_sample_without_relevant_texts_counts_as_nothing(numbers):
    samples = [NEGATIVES[1], {"query": "s", "positive": [], "negative": ["1"]}]
    assert CrossEncoderRerankingEvaluator(samples)(numbers())["map"] == 0.25
    assert CrossEncoderRerankingEvaluator(dict(enumerate(samples)))(numbers())["mrr@10"] == 0.25
    with pytest.raises(ValueError, match="got 1 samples, and no one with a positive document"):
        CrossEncoderRerankingEvaluator(samples[1:])


def test_settings_tell_what_is_ordered():
    assert CrossEncoderRerankingEvaluator(NEGATIVES, at_k=3).get_config_dict() == {"at_k": 3}
    assert CrossEncoderRerankingEvaluator(DOCUMENTS, prompt_name="query").get_config_dict() == {
        "prompt_name": "query",
        "at_k": 10,
        "always_rerank_positives": True,
    }


@pytest.mark.parametrize(
    "sample",
    [
        {"query": "q", "positive": ["a"]},
        {"positive": ["a"], "negative": ["b"]},
        {"query": "q", "positive": ["a"], "negative": ["b"], "documents": ["c"]},
    ],
)
def test_a_sample_that_lacks_a_part_or_has_too_many_is_refused(sample):
    with pytest.raises(ValueError, match="Give it 'query', 'positive', and either 'negative' or 'documents'"):
        CrossEncoderRerankingEvaluator([sample])


def test_one_text_for_a_list_is_refused():
    with pytest.raises(ValueError, match="has one text as 'positive'"):
        CrossEncoderRerankingEvaluator([{"query": "q", "positive": "a", "negative": ["b"]}])


def test_one_ranking_can_be_measured_by_itself():
    evaluator = CrossEncoderRerankingEvaluator(NEGATIVES)
    assert evaluator.compute_metrics([0, 1, 0], [0.9, 0.5, 0.1]) == pytest.approx((0.5, 0.5, ndcg([2], 1)))
