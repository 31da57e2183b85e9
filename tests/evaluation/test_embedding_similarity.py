"""EmbeddingSimilarityEvaluator, beyond what all evaluators promise."""

from __future__ import annotations

import csv
import gzip
import math

import numpy as np
import pytest
from scipy import stats

from sentence_transformers import InputExample, SimilarityFunction
from sentence_transformers.evaluation import EmbeddingSimilarityEvaluator
from sentence_transformers.tensors.precision import quantize_embeddings
from sentence_transformers.tensors.similarity import pairwise_cos_sim, pairwise_dot_score
from tiny import sample_texts

FIRST = [text[:60] for text in sample_texts()[:12]]
SECOND = [text[:60] for text in sample_texts()[12:24]]
SCORES = [row * 7 % 12 / 12 for row in range(12)]


def test_it_is_the_correlation_that_scipy_computes(minilm):
    similarity = pairwise_cos_sim(minilm.encode(FIRST), minilm.encode(SECOND))
    metrics = EmbeddingSimilarityEvaluator(FIRST, SECOND, SCORES)(minilm)
    assert metrics["pearson_cosine"] == pytest.approx(stats.pearsonr(similarity, SCORES)[0], abs=1e-5)
    assert metrics["spearman_cosine"] == pytest.approx(stats.spearmanr(similarity, SCORES)[0], abs=1e-9)


def test_real_ratings_are_followed(minilm, shared_data):
    with gzip.open(shared_data / "stsb" / "en" / "dev.tsv.gz", "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[:200]
    columns = ([row[name] for row in rows] for name in ("sentence1", "sentence2"))
    evaluator = EmbeddingSimilarityEvaluator(*columns, [float(row["score"]) for row in rows])
    assert evaluator(minilm)["spearman_cosine"] > 0.8


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_precisions_are_compared_as_stored(precision, dense):
    vectors = dense.encode(FIRST + SECOND, normalize_embeddings=True)
    codes = quantize_embeddings(vectors, precision)
    similarity = pairwise_dot_score(codes[:12], codes[12:])
    evaluator = EmbeddingSimilarityEvaluator(
        FIRST, SECOND, SCORES, precision=precision, main_similarity="dot", name="x"
    )
    metrics = evaluator(dense)
    assert metrics["x_spearman_dot"] == pytest.approx(stats.spearmanr(similarity, SCORES)[0], abs=1e-9)
    assert evaluator.csv_file == f"similarity_evaluation_x_{precision}_results.csv"
    assert evaluator.get_config_dict() == {"precision": precision}


@pytest.mark.parametrize("precision", ["binary", "ubinary"])
def test_binary_codes_are_compared_bit_by_bit(precision, dense):
    signs = (dense.encode(FIRST + SECOND) > 0).astype(np.float32)
    similarity = -np.abs(signs[:12] - signs[12:]).sum(axis=1)
    evaluator = EmbeddingSimilarityEvaluator(
        FIRST, SECOND, SCORES, precision=precision, similarity_fn_names=["manhattan"]
    )
    expected = stats.spearmanr(similarity, SCORES)[0]
    assert evaluator(dense)["spearman_manhattan"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("main", ["dot", SimilarityFunction.DOT_PRODUCT])
def test_the_main_similarity_is_measured_and_gives_the_main_score(main, dense):
    evaluator = EmbeddingSimilarityEvaluator(
        FIRST, SECOND, SCORES, main_similarity=main, similarity_fn_names=["cosine", "euclidean"]
    )
    metrics = evaluator(dense)
    assert evaluator.primary_metric == "spearman_dot"
    assert metrics["spearman_max"] == max(
        metrics[f"spearman_{name}"] for name in evaluator.similarity_fn_names
    )


def test_every_model_is_measured_with_its_own_similarity(dense, sparse):
    evaluator = EmbeddingSimilarityEvaluator(FIRST, SECOND, SCORES)
    assert "spearman_cosine" in evaluator(dense)
    assert "spearman_dot" in evaluator(sparse)
    assert evaluator.primary_metric == "spearman_dot"
    assert evaluator.csv_headers == ["epoch", "steps", "dot_pearson", "dot_spearman"]


def test_sparse_embeddings_are_measured_as_dense_ones(sparse):
    a, b = (sparse.encode(texts).to_dense() for texts in (FIRST, SECOND))
    names = ["cosine", "dot", "euclidean", "manhattan"]
    metrics = EmbeddingSimilarityEvaluator(FIRST, SECOND, SCORES, similarity_fn_names=names)(sparse)
    for name in names:
        similarity = SimilarityFunction.to_similarity_pairwise_fn(name)(a, b)
        assert metrics[f"pearson_{name}"] == pytest.approx(stats.pearsonr(similarity, SCORES)[0], abs=1e-4)


def test_token_vectors_are_measured_by_maxsim(tokens):
    similarity = tokens.similarity_pairwise(tokens.encode(FIRST), tokens.encode(SECOND))
    metrics = EmbeddingSimilarityEvaluator(FIRST, SECOND, SCORES)(tokens)
    expected = stats.spearmanr(similarity, SCORES)[0]
    assert metrics["spearman_maxsim"] == pytest.approx(expected, abs=1e-9)


def test_constant_scores_have_no_correlation(dense):
    metrics = EmbeddingSimilarityEvaluator(FIRST, SECOND, [1.0] * 12)(dense)
    assert all(math.isnan(value) for value in metrics.values())


def test_examples_give_the_same(dense):
    examples = [InputExample(texts=list(texts), label=label) for *texts, label in zip(FIRST, SECOND, SCORES)]
    by_examples = EmbeddingSimilarityEvaluator.from_input_examples(examples, name="x", batch_size=4)
    assert by_examples(dense) == EmbeddingSimilarityEvaluator(FIRST, SECOND, SCORES, name="x")(dense)


def test_a_subclass_may_embed_its_own_way(dense):
    class Shouting(EmbeddingSimilarityEvaluator):
        def embed_inputs(self, model, sentences, **kwargs):
            return super().embed_inputs(model, [text.upper() + "!" for text in sentences], **kwargs)

    shouted = [[text.upper() + "!" for text in texts] for texts in (FIRST, SECOND)]
    expected = EmbeddingSimilarityEvaluator(*shouted, SCORES)(dense)
    assert Shouting(FIRST, SECOND, SCORES)(dense) == pytest.approx(expected)


def test_lists_of_different_lengths_are_an_error():
    with pytest.raises(AssertionError, match="12 sentences1 and 11 sentences2 and 12 scores"):
        EmbeddingSimilarityEvaluator(FIRST, SECOND[1:], SCORES)


def test_an_unknown_similarity_is_an_error():
    with pytest.raises(ValueError, match="'cosinus'"):
        EmbeddingSimilarityEvaluator(FIRST, SECOND, SCORES, similarity_fn_names=["cosinus"])
