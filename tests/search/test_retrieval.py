"""Semantic search and paraphrase mining against their definitions, and what the reference gives."""

import numpy as np
import pytest
import torch

from sentence_transformers import util
from sentence_transformers.search.retrieval import (
    information_retrieval,
    paraphrase_mining,
    paraphrase_mining_embeddings,
    semantic_search,
)


@pytest.fixture(scope="module")
def embeddings():
    return torch.randn(40, 6, generator=torch.Generator().manual_seed(0))


def test_hits_are_the_best_of_all_scores_best_first(embeddings):
    hits = semantic_search(embeddings[:7], embeddings, top_k=5, corpus_chunk_size=9, query_chunk_size=3)
    expected = util.cos_sim(embeddings[:7], embeddings).topk(5)
    assert [[hit["corpus_id"] for hit in line] for line in hits] == expected.indices.tolist()
    assert [[hit["score"] for hit in line] for line in hits] == pytest.approx(
        expected.values.numpy(), abs=1e-6
    )


def test_a_hit_holds_plain_numbers(embeddings):
    hit = semantic_search(embeddings[:1], embeddings)[0][0]
    assert {key: type(value) for key, value in hit.items()} == {"corpus_id": int, "score": float}


def test_one_query_need_not_be_a_list(embeddings):
    assert semantic_search(embeddings[3], embeddings) == semantic_search(embeddings[3:4], embeddings)


def test_a_small_corpus_gives_fewer_hits(embeddings):
    assert [len(hits) for hits in semantic_search(embeddings[:2], embeddings[:3], top_k=10)] == [3, 3]


def test_nothing_to_search_gives_no_hits(embeddings):
    assert semantic_search(embeddings[:2], embeddings[:0]) == [[], []]
    assert semantic_search(embeddings[:0], embeddings) == []
    assert semantic_search([], embeddings) == []


@pytest.mark.parametrize(
    "form",
    [
        torch.Tensor.numpy,
        torch.Tensor.tolist,
        list,
        lambda rows: [row.numpy() for row in rows],
        torch.Tensor.to_sparse,
    ],
    ids=["array", "lists", "list of tensors", "list of arrays", "sparse"],
)
def test_embeddings_come_in_any_form(embeddings, form):
    expected = semantic_search(embeddings[:3], embeddings, top_k=4)
    for queries, corpus in [(form(embeddings[:3]), embeddings), (embeddings[:3], form(embeddings))]:
        hits = semantic_search(queries, corpus, top_k=4)
        assert [[hit["corpus_id"] for hit in line] for line in hits] == [
            [hit["corpus_id"] for hit in line] for line in expected
        ]


def test_entries_without_a_number_for_a_score_are_left_out(embeddings):
    corpus = embeddings.clone()
    corpus[5] = torch.nan
    hits = semantic_search(embeddings[:1], corpus, top_k=40)[0]
    assert len(hits) == 39
    assert 5 not in {hit["corpus_id"] for hit in hits}


def test_the_score_function_is_used(embeddings):
    hits = semantic_search(embeddings[:1], embeddings, score_function=util.manhattan_sim)[0]
    assert hits[0] == {"corpus_id": 0, "score": 0.0}
    assert all(hit["score"] <= 0 for hit in hits)


def test_the_older_name_is_the_same(embeddings):
    found = information_retrieval(embeddings[:2], corpus_embeddings=embeddings, top_k=3)
    assert found == semantic_search(embeddings[:2], embeddings, top_k=3)


def test_different_widths_are_refused(embeddings):
    with pytest.raises(ValueError, match="queries are 4 numbers wide, and the corpus 6"):
        semantic_search(embeddings[:, :4], embeddings)


@pytest.mark.parametrize("name", ["top_k", "query_chunk_size", "corpus_chunk_size"])
def test_a_size_below_one_is_refused_by_its_own_name(embeddings, name):
    with pytest.raises(ValueError, match=f"{name}=0"):
        semantic_search(embeddings, embeddings, **{name: 0})
    with pytest.raises(ValueError, match=f"{name}=0"):
        paraphrase_mining_embeddings(embeddings, **{name: 0})


def test_all_pairs_are_found_once_and_in_order(embeddings):
    scores = util.cos_sim(embeddings, embeddings)
    expected = sorted(
        ((float(scores[i, j]), i, j) for i in range(40) for j in range(i + 1, 40)), key=lambda pair: -pair[0]
    )
    found = paraphrase_mining_embeddings(embeddings, query_chunk_size=7, corpus_chunk_size=11)
    assert [pair[1:] for pair in found] == [[i, j] for _, i, j in expected]
    assert [pair[0] for pair in found] == pytest.approx([score for score, _, _ in expected], abs=1e-6)
    assert [type(value) for value in found[0]] == [float, int, int]


@pytest.mark.parametrize("max_pairs", [1, 3, 50, 10_000])
def test_max_pairs_gives_exactly_the_best(embeddings, max_pairs):
    everything = paraphrase_mining_embeddings(embeddings)
    found = paraphrase_mining_embeddings(embeddings, max_pairs=max_pairs, query_chunk_size=7)
    assert [pair[1:] for pair in found] == [pair[1:] for pair in everything[:max_pairs]]


def test_pairs_are_those_of_the_reference():
    """Pairs for top_k of 1 and 2, printed by sentence-transformers 6.2.0 for these rows."""
    torch.manual_seed(0)
    embeddings = torch.randn(7, 4)
    one = [[0.92, 3, 6], [0.874, 1, 5], [0.481, 0, 4], [0.373, 0, 2]]
    two = [
        *one[:3],
        [0.471, 1, 3],
        one[3],
        [0.346, 4, 6],
        [0.229, 0, 5],
        [-0.081, 2, 5],
    ]
    for top_k, expected in [(1, one), (2, two)]:
        found = paraphrase_mining_embeddings(embeddings, top_k=top_k)
        assert [[round(score, 3), i, j] for score, i, j in found] == expected


def test_fewer_than_two_rows_make_no_pair(embeddings):
    assert paraphrase_mining_embeddings(embeddings[:1]) == []
    assert paraphrase_mining_embeddings(embeddings[:0]) == []


def test_paraphrases_of_real_sentences_are_found(minilm):
    sentences = ["A man is eating.", "It rains in London.", "Someone eats food.", "London is a rainy place."]
    found = paraphrase_mining(minilm, sentences, max_pairs=2)
    assert [set(pair[1:]) for pair in found] == [{1, 3}, {0, 2}]


def test_settings_of_encoding_reach_the_model():
    class Model:
        def encode(self, sentences, **options):
            self.options = options
            return np.eye(len(sentences), dtype=np.float32)

    model = Model()
    paraphrase_mining(model, ["a", "b"], True, 8)
    assert model.options == {"show_progress_bar": True, "batch_size": 8, "convert_to_tensor": True}
    paraphrase_mining(model, ["a", "b"], truncate_dim=2, prompt="p: ", prompt_name="q")
    assert model.options.items() >= {"truncate_dim": 2, "prompt": "p: ", "prompt_name": "q"}.items()
