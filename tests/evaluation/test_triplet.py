"""TripletEvaluator, beyond what all evaluators promise."""

from __future__ import annotations

import logging

import pytest

from sentence_transformers import InputExample, SimilarityFunction
from sentence_transformers.evaluation import TripletEvaluator
from tiny import sample_texts

ANCHORS, POSITIVES, NEGATIVES = (
    [text[:60] for text in sample_texts()[first : first + 12]] for first in (0, 12, 24)
)
EVERY_SIMILARITY = ["cosine", "dot", "euclidean", "manhattan"]


def by_hand(model, name, margin=0.0):
    """The share of triplets that are right, one by one."""
    score = SimilarityFunction.to_similarity_pairwise_fn(name)
    anchors = model.encode_query(ANCHORS)
    positives, negatives = model.encode_document(POSITIVES), model.encode_document(NEGATIVES)
    right = [
        float(score(anchor, positive)) > float(score(anchor, negative)) + margin
        for anchor, positive, negative in zip(anchors, positives, negatives)
    ]
    return sum(right) / len(right)


@pytest.mark.parametrize("name", EVERY_SIMILARITY)
def test_it_is_the_share_counted_one_by_one(name, dense):
    evaluator = TripletEvaluator(ANCHORS, POSITIVES, NEGATIVES, similarity_fn_names=[name])
    assert evaluator(dense) == {f"{name}_accuracy": pytest.approx(by_hand(dense, name))}
    assert evaluator.primary_metric == f"{name}_accuracy"


def test_real_questions_find_their_answers(minilm):
    questions = ["What is the capital of France?", "Who wrote Hamlet?"]
    answers = ["Paris is the capital of France.", "Hamlet is a play by Shakespeare."]
    assert TripletEvaluator(questions, answers, answers[::-1])(minilm) == {"cosine_accuracy": 1.0}
    assert TripletEvaluator(questions, answers[::-1], answers)(minilm) == {"cosine_accuracy": 0.0}


def test_equal_counts_as_wrong(dense):
    assert TripletEvaluator(ANCHORS, POSITIVES, POSITIVES)(dense) == {"cosine_accuracy": 0.0}


def test_anchors_are_queries_and_the_others_documents(dense):
    evaluator = TripletEvaluator(ANCHORS, POSITIVES, NEGATIVES)
    roles = []

    def embed(model, inputs, encode_fn_name=None):
        roles.append(encode_fn_name)
        return dense.encode(inputs)

    evaluator.embed_inputs = embed
    evaluator(dense)
    assert roles == ["query", "document", "document"]


@pytest.mark.parametrize("margin", [0.2, {"cosine": 0.2, "dot": 3}])
def test_the_margin_is_added_to_the_negative(margin, dense):
    evaluator = TripletEvaluator(
        ANCHORS, POSITIVES, NEGATIVES, margin=margin, similarity_fn_names=["cosine", "dot", "manhattan"]
    )
    metrics = evaluator(dense)
    for name in ("cosine", "dot", "manhattan"):
        wanted = margin if isinstance(margin, float) else margin.get(name, 0)
        assert metrics[f"{name}_accuracy"] == pytest.approx(by_hand(dense, name, wanted))
    assert evaluator.get_config_dict()["margin"]["cosine"] == 0.2


def test_without_margin_it_is_not_worth_telling():
    assert TripletEvaluator(ANCHORS, POSITIVES, NEGATIVES).get_config_dict() == {}
    assert TripletEvaluator(ANCHORS, POSITIVES, NEGATIVES, truncate_dim=3).get_config_dict() == {
        "truncate_dim": 3
    }


@pytest.mark.parametrize("margin", ["0.1", [0.1], {"cosinus": 0.1}])
def test_a_margin_that_makes_no_sense_is_an_error(margin):
    with pytest.raises(ValueError, match="neither a number nor numbers by similarity"):
        TripletEvaluator(ANCHORS, POSITIVES, NEGATIVES, margin=margin)


def test_of_several_similarities_the_best_is_the_main_score(dense):
    evaluator = TripletEvaluator(ANCHORS, POSITIVES, NEGATIVES, similarity_fn_names=EVERY_SIMILARITY)
    metrics = evaluator(dense)
    assert metrics["max_accuracy"] == max(metrics[f"{name}_accuracy"] for name in EVERY_SIMILARITY)
    assert evaluator.primary_metric == "max_accuracy"


def test_the_main_similarity_also_goes_by_its_older_name(dense, caplog):
    with caplog.at_level(logging.WARNING):
        old = TripletEvaluator(ANCHORS, POSITIVES, NEGATIVES, main_distance_function="dot")
    assert "main_similarity_function" in caplog.text
    new = TripletEvaluator(ANCHORS, POSITIVES, NEGATIVES, main_similarity_function="dot")
    assert old(dense) == new(dense)
    assert old.primary_metric == new.primary_metric == "dot_accuracy"


def test_token_vectors_are_compared_by_maxsim(tokens):
    anchors, positives, negatives = (tokens.encode(texts) for texts in (ANCHORS, POSITIVES, NEGATIVES))
    better = tokens.similarity_pairwise(anchors, positives) > tokens.similarity_pairwise(anchors, negatives)
    metrics = TripletEvaluator(ANCHORS, POSITIVES, NEGATIVES)(tokens)
    assert metrics == {"maxsim_accuracy": pytest.approx(float(better.float().mean()))}


def test_sparse_vectors_are_compared_by_dot(sparse):
    anchors, positives, negatives = (
        sparse.encode(texts).to_dense() for texts in (ANCHORS, POSITIVES, NEGATIVES)
    )
    better = (anchors * positives).sum(dim=1) > (anchors * negatives).sum(dim=1)
    metrics = TripletEvaluator(ANCHORS, POSITIVES, NEGATIVES)(sparse)
    assert metrics == {"dot_accuracy": pytest.approx(float(better.float().mean()))}


def test_examples_give_the_same(dense):
    examples = [InputExample(texts=list(texts)) for texts in zip(ANCHORS, POSITIVES, NEGATIVES)]
    by_examples = TripletEvaluator.from_input_examples(examples)
    assert by_examples(dense) == TripletEvaluator(ANCHORS, POSITIVES, NEGATIVES)(dense)
