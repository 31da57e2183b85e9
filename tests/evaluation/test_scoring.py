"""The scorer embeds and compares with every kind of model, other people's included."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sentence_transformers.evaluation.scoring import EmbeddingScorer, embed_inputs
from tiny import WIDTH, sample_texts

TEXTS = [text[:50] for text in sample_texts()[:5]]
OTHERS = [text[:50] for text in sample_texts()[5:9]]


def test_the_models_own_similarity_is_the_default(dense, sparse, tokens):
    for model, name in ((dense, "cosine"), (sparse, "dot"), (tokens, "maxsim")):
        scorer = EmbeddingScorer(model)
        assert scorer.names == [name]
        queries, documents = scorer.encode(TEXTS), scorer.encode(OTHERS)
        expected = model.similarity(model.encode(TEXTS), model.encode(OTHERS))
        torch.testing.assert_close(scorer.matrix(queries, documents), expected)


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
def test_sparse_embeddings_score_as_dense_ones_do(name, sparse):
    scorer = EmbeddingScorer(sparse, [name])
    a, b = scorer.encode(TEXTS), scorer.encode(TEXTS[::-1])
    assert a.is_sparse
    dense_a, dense_b = a.to_dense(), b.to_dense()
    torch.testing.assert_close(scorer.matrix(a, b), scorer.matrix(dense_a, dense_b), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(scorer.pairs(a, b), scorer.pairs(dense_a, dense_b), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(scorer.matrix(a, b).diagonal(), scorer.pairs(a, b), atol=1e-4, rtol=1e-4)


def test_token_vectors_score_by_the_definition_of_maxsim(tokens):
    scorer = EmbeddingScorer(tokens)
    queries, documents = scorer.encode(TEXTS), scorer.encode(OTHERS)
    assert isinstance(queries, list)
    by_definition = [[float((q @ d.T).max(dim=1).values.sum()) for d in documents] for q in queries]
    np.testing.assert_allclose(scorer.matrix(queries, documents), by_definition, rtol=1e-5)
    np.testing.assert_allclose(scorer.pairs(queries[:4], documents), np.diagonal(by_definition), rtol=1e-5)


@pytest.mark.parametrize("kind", ["dense", "sparse", "tokens"])
def test_lists_encoded_together_are_as_encoded_apart(kind, request):
    model = request.getfixturevalue(kind)
    scorer = EmbeddingScorer(model)
    for together, apart in zip(scorer.encode_together(TEXTS, OTHERS), (TEXTS, OTHERS)):
        alone = scorer.encode(apart)
        assert len(together) == len(alone)
        np.testing.assert_allclose(scorer.pairs(together, alone), scorer.pairs(alone, alone), rtol=1e-5)


def test_roles_bring_the_prompts_of_their_kind(dense):
    scorer = EmbeddingScorer(dense)
    plain, query, document = (scorer.encode(TEXTS, role) for role in (None, "query", "document"))
    torch.testing.assert_close(query, scorer.encode([f"what is {text}" for text in TEXTS]))
    torch.testing.assert_close(document, scorer.encode([f"about {text}" for text in TEXTS]))
    assert not torch.allclose(plain, query)
    torch.testing.assert_close(scorer.encode(TEXTS, "query", prompt=""), plain)
    torch.testing.assert_close(scorer.encode(TEXTS, prompt_name="document"), document)


@pytest.mark.parametrize("kind", ["dense", "sparse", "tokens"])
def test_truncation_reaches_models_that_know_nothing_of_it(kind, request):
    model = request.getfixturevalue(kind)
    whole, cut = EmbeddingScorer(model).encode(TEXTS), EmbeddingScorer(model, truncate_dim=4).encode(TEXTS)
    for one, other in zip(whole, cut):
        one, other = (vectors.to_dense() if vectors.is_sparse else vectors for vectors in (one, other))
        assert other.shape[-1] == 4
        torch.testing.assert_close(other, one[..., :4])


def test_further_options_reach_the_model(sparse):
    embeddings = EmbeddingScorer(sparse, options={"max_active_dims": 3}).encode(TEXTS)
    assert (embeddings.to_dense() > 0).sum(dim=1).tolist() == [3] * len(TEXTS)


def test_functions_may_stand_for_similarities(dense, sparse):
    def negated_distance(a, b):
        return -torch.cdist(a.to_dense(), b.to_dense())

    for model in (dense, sparse):
        scorer = EmbeddingScorer(model, {"mine": negated_distance})
        a, b = scorer.encode(TEXTS), scorer.encode(TEXTS[::-1])
        assert scorer.names == ["mine"]
        torch.testing.assert_close(scorer.pairs(a, b), scorer.matrix(a, b).diagonal(), atol=1e-4, rtol=1e-4)


def test_a_similarity_that_does_not_exist_is_an_error(dense):
    with pytest.raises(ValueError, match=r"'cosinus'.*'cosine'"):
        EmbeddingScorer(dense, ["cosinus"])


class OnlyEncodes:
    """Someone else's model: `encode` with the texts and nothing more; gives lists."""

    def encode(self, sentences):
        return [[float(len(text)), float(text.count("e")), 1.0] for text in sentences]


class Wraps:
    """Hands everything on to another model, and notes what it was asked for."""

    def __init__(self, model):
        self.model = model
        self.asked = {}

    def encode(self, sentences, **kwargs):
        self.asked = kwargs
        return self.model.encode(sentences, **kwargs)


def test_a_model_that_only_encodes_is_compared_by_cosine():
    scorer = EmbeddingScorer(OnlyEncodes(), truncate_dim=2)
    embeddings = scorer.encode(TEXTS, "query")
    assert scorer.names == ["cosine"]
    assert embeddings.shape == (5, 2)
    torch.testing.assert_close(scorer.pairs(embeddings, embeddings), torch.ones(5))


def test_a_wrapper_hears_of_every_setting(dense):
    model = Wraps(dense)
    embeddings = embed_inputs(model, TEXTS, batch_size=2, truncate_dim=8)
    assert model.asked == {
        "batch_size": 2,
        "show_progress_bar": False,
        "convert_to_tensor": True,
        "truncate_dim": 8,
    }
    assert embeddings.shape == (5, 8)
    assert embed_inputs(model, TEXTS).shape == (5, WIDTH)
    assert "truncate_dim" not in model.asked


def test_arrays_and_lists_of_vectors_become_one_tensor(dense):
    expected = dense.encode(TEXTS, convert_to_tensor=True)
    for returned in (expected.numpy(), list(expected), list(expected.numpy()), expected.tolist()):
        scorer = EmbeddingScorer(dense, embed=lambda model, inputs, returned=returned: returned)
        torch.testing.assert_close(scorer.encode(TEXTS), expected)
