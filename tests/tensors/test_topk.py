"""The best rows of a corpus, against sorting everything."""

import logging

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sentence_transformers.tensors.blocks import GROUP
from sentence_transformers.tensors.similarity import cos_sim, dot_score, euclidean_sim, maxsim
from sentence_transformers.tensors.topk import TopK, stable_topk, top_k, top_k_both_ways


def brute_force(scores, k):
    """For each query (score, row) of its k best rows: by score, and at the same score the first row."""
    return [
        sorted(
            ((score, row) for row, score in enumerate(line) if score > -np.inf),
            key=lambda found: (-found[0], found[1]),
        )[:k]
        for line in np.asarray(scores, dtype=np.float64).tolist()
    ]


def listed(best):
    """A result in the form of `brute_force`."""
    return [
        [(score, row) for score, row in zip(scores, rows, strict=True) if row >= 0]
        for scores, rows in zip(best.scores.tolist(), best.rows.tolist(), strict=True)
    ]


def whole_numbers(rows, width, seed):
    """Vectors of small whole numbers: their products are exact, and many are equal."""
    return torch.from_numpy(
        np.random.default_rng(seed).integers(-2, 3, size=(rows, width)).astype(np.float32)
    )


SIZES = st.fixed_dictionaries(
    {
        "max_queries": st.integers(2, 9),
        "max_rows": st.none() | st.integers(11, 150),
        "max_bytes": st.none() | st.integers(900, 20_000),
    }
)


@given(
    queries=st.integers(0, 9),
    rows=st.integers(0, 200),
    k=st.integers(1, 60),
    seed=st.integers(0, 1000),
    sizes=SIZES,
)
def test_the_best_rows_are_those_of_a_full_sort_whatever_the_sizes_of_blocks(queries, rows, k, seed, sizes):
    a, b = whole_numbers(queries, 3, seed), whole_numbers(rows, 3, seed + 1)
    best = top_k(a, b, k, similarity=dot_score, **sizes)
    assert best.scores.shape == best.rows.shape == (queries, min(k, rows))
    assert listed(best) == brute_force(a @ b.T, k)


@given(chunks=st.lists(st.integers(0, 90), max_size=6), k=st.integers(1, 40), seed=st.integers(0, 1000))
def test_a_corpus_in_chunks_gives_what_the_whole_corpus_gives(chunks, k, seed):
    a, b = whole_numbers(5, 3, seed), whole_numbers(sum(chunks), 3, seed + 1)
    search = TopK(a, k, similarity=dot_score, max_rows=37)
    for chunk in b.split(chunks):
        search.add(chunk)
    assert listed(search.best) == brute_force(a @ b.T, k)


@given(rows=st.integers(1, 120), first=st.integers(0, 60), k=st.integers(1, 10), sizes=SIZES)
def test_a_query_that_is_part_of_the_corpus_does_not_find_itself(rows, first, k, sizes):
    b = whole_numbers(rows, 3, seed=first)
    first = min(first, rows - 1)
    a = b[first : first + 20]
    scores = a @ b.T
    scores[torch.arange(len(a)), torch.arange(first, first + len(a))] = -torch.inf
    assert listed(top_k(a, b, k, similarity=dot_score, own_rows=first, **sizes)) == brute_force(scores, k)


@given(at_least=st.integers(-6, 6), k=st.integers(1, 50), sizes=SIZES)
def test_rows_below_a_given_score_are_left_out(at_least, k, sizes):
    a, b = whole_numbers(4, 3, seed=1), whole_numbers(140, 3, seed=2)
    scores = a @ b.T
    scores[scores < at_least] = -torch.inf
    assert listed(top_k(a, b, k, similarity=dot_score, at_least=at_least, **sizes)) == brute_force(scores, k)


@given(
    scores=st.lists(st.lists(st.integers(0, 3), min_size=70, max_size=70), min_size=1, max_size=5),
    k=st.integers(1, 80),
)
def test_of_equal_values_the_first_are_taken(scores, k):
    values, places = stable_topk(torch.tensor(scores, dtype=torch.float32), k)
    found = [list(zip(*line, strict=True)) for line in zip(values.tolist(), places.tolist(), strict=True)]
    assert found == brute_force(scores, k)


@pytest.mark.parametrize("order", ["rising", "falling", "equal"])
def test_the_order_of_the_corpus_does_not_matter(order):
    count = 40 * GROUP
    values = {
        "rising": torch.arange(count),
        "falling": torch.arange(count).flip(0),
        "equal": torch.ones(count),
    }
    b = values[order].float().unsqueeze(1)
    best = top_k(torch.ones(2, 1), b, 7, similarity=dot_score, max_rows=10 * GROUP)
    assert listed(best) == brute_force(torch.ones(2, 1) @ b.T, 7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("similarity", [cos_sim, dot_score, euclidean_sim])
def test_scores_are_those_of_the_similarity_in_full_precision(similarity, dtype):
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(6, 16, generator=generator).to(dtype)
    b = torch.randn(300, 16, generator=generator).to(dtype)
    best = top_k(a, b, 5, similarity=similarity, max_rows=77)
    expected = similarity(a, b).topk(5)
    assert best.scores.dtype == expected.values.dtype
    torch.testing.assert_close(best.scores, expected.values)
    assert best.rows.tolist() == expected.indices.tolist()


def test_any_function_of_two_blocks_can_be_the_similarity():
    a, b = whole_numbers(4, 3, seed=1), whole_numbers(50, 3, seed=2)

    def shared_signs(x, y):
        return (x.sign().unsqueeze(1) == y.sign().unsqueeze(0)).sum(dim=-1)

    best = top_k(a, b, 5, similarity=shared_signs, max_rows=7)
    assert listed(best) == brute_force(shared_signs(a, b), 5)


def test_a_memory_mapped_corpus_of_half_precision_is_searched(tmp_path):
    b = np.random.default_rng(0).standard_normal((500, 8)).astype(np.float16)
    np.save(tmp_path / "corpus.npy", b)
    mapped = np.load(tmp_path / "corpus.npy", mmap_mode="r")
    best = top_k(b[:3], mapped, 4, max_bytes=4096)
    assert best.rows[:, 0].tolist() == [0, 1, 2]
    assert best.rows.tolist() == cos_sim(b[:3], b).topk(4).indices.tolist()


def test_sparse_rows_are_searched_like_dense_ones():
    generator = torch.Generator().manual_seed(0)
    a, b = (
        torch.randn(n, 40, generator=generator) * (torch.rand(n, 40, generator=generator) < 0.2)
        for n in (5, 90)
    )
    for similarity in (cos_sim, dot_score):
        dense = top_k(a, b, 6, similarity=similarity)
        sparse = top_k(a.to_sparse(), b.to_sparse(), 6, similarity=similarity, max_rows=20)
        torch.testing.assert_close(sparse.scores, dense.scores)
        assert sparse.rows[:, :3].tolist() == dense.rows[:, :3].tolist()


def test_lists_of_token_embeddings_are_handed_to_the_similarity_in_blocks():
    generator = torch.Generator().manual_seed(0)
    a = [torch.randn(n, 8, generator=generator) for n in (3, 5)]
    b = [torch.randn(n, 8, generator=generator) for n in (4, 2, 7, 5, 3)]
    best = top_k(a, b, 3, similarity=maxsim, max_rows=2, max_queries=1)
    expected = maxsim(a, b).topk(3)
    torch.testing.assert_close(best.scores, expected.values)
    assert best.rows.tolist() == expected.indices.tolist()


def test_a_score_that_is_not_a_number_is_no_match_and_is_said_once(caplog):
    b = whole_numbers(200, 3, seed=2)
    b[[0, 50, 199]] = torch.nan
    scores = (b[1:3] @ b.T).nan_to_num(nan=-torch.inf)
    with caplog.at_level(logging.WARNING):
        best = top_k(b[1:3], b, 5, similarity=dot_score, max_rows=64)
    assert listed(best) == brute_force(scores, 5)
    assert [record.message[:31] for record in caplog.records] == ["Some scores are not numbers (Na"]
    everything = top_k(b[:1], b, 5)
    assert everything.rows.tolist() == [[-1] * 5]


def test_memory_for_scores_stays_within_the_budget():
    sizes = []

    def noted(a, b):
        sizes.append((len(a) * len(b), len(b)))
        return dot_score(a, b)

    a, b = torch.ones(300, 16), torch.ones(5000, 16)
    top_k(a, b, 3, similarity=noted, max_bytes=100_000)
    assert max(scores for scores, _ in sizes) * 4 < 100_000
    assert sum(rows for _, rows in sizes) >= 5000


def test_neither_the_caller_s_rows_nor_the_similarity_s_scores_are_changed():
    a = torch.eye(4)
    kept = dot_score(a, a)
    top_k(a, a, 2, similarity=lambda x, y: kept, own_rows=0)
    torch.testing.assert_close(kept, torch.eye(4))
    torch.testing.assert_close(a, torch.eye(4))


@pytest.mark.parametrize("name", ["k", "max_queries", "max_rows", "max_bytes"])
def test_a_size_below_one_is_refused(name):
    with pytest.raises(ValueError, match=f"{name}=0 lets nothing be found"):
        TopK(torch.eye(2), **{"k": 1, name: 0})


@given(rows=st.integers(0, 90), others=st.integers(0, 300), k=st.integers(1, 12), seed=st.integers(0, 99))
def test_both_ways_gives_what_two_searches_give(rows, others, k, seed):
    a, b = whole_numbers(rows, 3, seed=seed), whole_numbers(others, 3, seed=seed + 1)
    forward, backward = top_k_both_ways(a, b, k, similarity=dot_score, max_bytes=9000)
    assert listed(forward) == listed(top_k(a, b, k, similarity=dot_score))
    assert listed(backward) == listed(top_k(b, a, k, similarity=dot_score))
