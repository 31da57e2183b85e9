"""Reranking: which samples count, ties, and both ways of embedding. Recorded numbers: `test_recorded.py`."""

import logging

import pytest
import torch

from sentence_transformers.evaluation import RerankingEvaluator

SAMPLES = [
    {"query": "a", "positive": ["a", "ab"], "negative": ["b", "bc"]},
    {"query": "b", "positive": ["abc"], "negative": ["b", "c"]},
    {"query": "c", "positive": [], "negative": ["c"]},
    {"query": "c", "positive": ["c"], "negative": []},
]


class Letters:
    """A model whose embeddings count letters; it notes what it was asked to embed."""

    def __init__(self):
        self.calls = []

    def encode(self, sentences, **options):
        self.calls.append(list(sentences))
        return torch.tensor(
            [[text.count(letter) for letter in "abc"] for text in sentences], dtype=torch.float32
        )


def test_the_metrics_are_those_of_the_orders():
    """The only positive of the second sample comes second; the first sample is in perfect order."""
    metrics = RerankingEvaluator(SAMPLES, at_k=1)(Letters())
    assert metrics == pytest.approx({"map": 0.75, "mrr@1": 0.5, "ndcg@1": 0.5})
    assert RerankingEvaluator(SAMPLES)(Letters())["mrr@10"] == pytest.approx(0.75)


def test_samples_in_which_there_is_nothing_to_order_are_left_out():
    evaluator = RerankingEvaluator(SAMPLES)
    assert evaluator.samples == SAMPLES[:2]


def test_samples_may_come_in_a_mapping():
    assert RerankingEvaluator(dict(enumerate(SAMPLES))).samples == SAMPLES[:2]


def test_embedding_one_by_one_gives_the_same():
    batched, single = Letters(), Letters()
    expected = RerankingEvaluator(SAMPLES)(batched)
    assert RerankingEvaluator(SAMPLES, use_batched_encoding=False)(single) == pytest.approx(expected)
    assert len(batched.calls) == 2
    assert single.calls == [["a"], ["a", "ab", "b", "bc"], ["b"], ["abc", "b", "c"]]


def test_equal_scores_are_no_order():
    """The values of MAP and NDCG were printed by sentence-transformers 6.2.0, which has 1.0 for the MRR."""
    samples = [{"query": "a", "positive": ["x b", "x c"], "negative": ["y", "z", "w"]}]
    evaluator = RerankingEvaluator(samples, at_k=3, similarity_fct=lambda a, b: (a @ b.T) * 0)
    expected = {"map": 0.4, "ndcg@3": 0.5226294385530917, "mrr@3": 0.0}
    assert evaluator(Letters()) == pytest.approx(expected)


def test_the_older_name_of_the_place_is_understood(caplog):
    with caplog.at_level(logging.WARNING):
        evaluator = RerankingEvaluator(SAMPLES, mrr_at_k=3)
    assert "Pass at_k=3" in caplog.text
    assert evaluator.at_k == 3
    assert evaluator.csv_file == "RerankingEvaluator_results_@3.csv"
    assert evaluator.csv_headers == ["epoch", "steps", "MAP", "MRR@3", "NDCG@3"]
    assert evaluator.get_config_dict() == {"at_k": 3}


def test_no_usable_samples_are_refused():
    with pytest.raises(ValueError, match="got 2 samples, and no one with both positive and negative"):
        RerankingEvaluator(SAMPLES[2:])
    with pytest.raises(ValueError, match="at_k=0"):
        RerankingEvaluator(SAMPLES, at_k=0)
