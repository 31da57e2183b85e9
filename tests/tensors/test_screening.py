"""Bounds of shortened rows against the scores they bound."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sentence_transformers.tensors import screening, topk
from sentence_transformers.tensors.blocks import BlockScorer
from sentence_transformers.tensors.pairs import pairs_at_least
from sentence_transformers.tensors.screening import Axes, screen_for, screen_of_queries
from sentence_transformers.tensors.similarity import cos_sim, dot_score, euclidean_sim
from sentence_transformers.tensors.topk import TopK, top_k


def scorer(similarity=cos_sim):
    return BlockScorer(similarity, torch.device("cpu"))


def close_to_few_axes(rows, width, seed=0):
    """Rows whose numbers fall off from axis to axis, as those of real models do, turned at random."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.arange(1, width + 1).float().pow(-0.7)
    turn = torch.linalg.qr(torch.randn(width, width, generator=generator)).Q
    return (torch.randn(rows, width, generator=generator) * scale) @ turn


@given(
    rows=st.integers(1, 30),
    width=st.integers(2, 20),
    kept=st.integers(1, 20),
    seed=st.integers(0, 99),
    scale=st.sampled_from([1e-3, 1.0, 1e4]),
)
def test_no_score_exceeds_its_bound(rows, width, kept, seed, scale):
    generator = torch.Generator().manual_seed(seed)
    embeddings = scale * torch.randn(rows, width, generator=generator)
    axes = Axes(torch.linalg.qr(torch.randn(width, width, generator=generator)).Q[:, : min(kept, width)])
    short, squares = axes.shortened(embeddings)
    length = float(squares.max()) ** 0.5
    bounds = short @ short.mT + axes.margin(length, length)
    exact = embeddings.double() @ embeddings.double().mT
    assert (bounds >= exact).all()
    assert (bounds >= embeddings @ embeddings.mT).all()
    # A bound that holds all numbers is no more than rounding away.
    if kept >= width:
        assert (bounds - exact).max() <= 1e-4 * length**2


@pytest.mark.parametrize("similarity", [cos_sim, dot_score])
@pytest.mark.parametrize("share", [0.9, 0.99, 0.999])
def test_screened_pairs_are_those_of_brute_force(similarity, share, monkeypatch):
    monkeypatch.setattr(screening, "WORTHWHILE", 1000.0)
    rows = close_to_few_axes(3000, 64)
    scores = similarity(rows, rows)
    first, second = torch.triu_indices(3000, 3000, 1)
    values = scores[first, second]
    # Between two scores that are well apart, so that rounding decides nothing.
    ordered = values.sort().values
    place = int(share * len(ordered))
    gap = (ordered[place + 1 : place + 100] - ordered[place : place + 99]).argmax() + place
    threshold = float((ordered[gap] + ordered[gap + 1]) / 2)
    assert screen_for(rows, scorer(similarity), threshold) is not None
    found = pairs_at_least(rows, threshold, max_pairs=10**7, similarity=similarity)
    is_close = values >= threshold
    code = (found.first * 3000 + found.second).sort()
    assert code.values.tolist() == (first * 3000 + second)[is_close].tolist()
    torch.testing.assert_close(found.scores[code.indices], values[is_close], atol=1e-5, rtol=1e-5)


def test_a_high_threshold_is_screened_and_one_that_most_pairs_reach_is_not():
    rows = close_to_few_axes(3000, 64)
    assert screen_for(rows, scorer(), 0.9) is not None
    assert screen_for(rows, scorer(), -0.5) is None


def test_what_cannot_be_bounded_is_not_screened():
    rows = close_to_few_axes(3000, 64)
    assert screen_for(rows, scorer(euclidean_sim), 0.9) is None
    assert screen_for(rows[:100], scorer(), 0.9) is None
    assert screen_for(rows.double(), scorer(), 0.9) is None
    assert screen_for(list(rows), scorer(), 0.9) is None
    for bad in (torch.nan, torch.inf):
        spoiled = rows.clone()
        spoiled[7, 3] = bad
        assert screen_for(spoiled, scorer(dot_score), 0.9) is None


def test_shortened_rows_stay_within_their_memory(monkeypatch):
    rows = close_to_few_axes(3000, 64)
    kept = screen_for(rows, scorer(), 0.9).rows.shape[1]
    monkeypatch.setattr(screening, "MAX_BYTES", 3000 * kept * 4 - 1)
    smaller = screen_for(rows, scorer(), 0.9)
    assert smaller is None or smaller.rows.numel() * 4 < 3000 * kept * 4


@pytest.fixture
def always(monkeypatch):
    """Screens by axes wherever it can be done, whether or not it pays."""
    monkeypatch.setattr(screening, "kernel_limit", lambda: None)
    monkeypatch.setattr(screening, "WORTHWHILE", 1000.0)
    monkeypatch.setattr(screening, "FEWEST_QUERIES", 1)
    monkeypatch.setattr(screening, "SCORES_FOR_AXES", 0)


@given(
    queries=st.integers(1, 20),
    rows=st.integers(120, 300),
    width=st.integers(2, 12),
    k=st.integers(1, 6),
    of_corpus=st.booleans(),
    seed=st.integers(0, 99),
    max_bytes=st.integers(2_000, 200_000),
)
def test_the_best_rows_are_the_same_through_a_screen(queries, rows, width, k, of_corpus, seed, max_bytes):
    generator = torch.Generator().manual_seed(seed)
    # Whole numbers are scored without rounding, and are often the same.
    corpus = torch.randint(-3, 4, (rows, width), generator=generator).float()
    asked = corpus[10 : 10 + queries] if of_corpus else corpus.flip(1)[:queries] - 1
    options = {"similarity": dot_score, "own_rows": 10 if of_corpus else None}
    expected = top_k(asked, corpus, k, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(screening, "WORTHWHILE", 1000.0)
        patch.setattr(screening, "FEWEST_QUERIES", 1)
        patch.setattr(screening, "SCORES_FOR_AXES", 0)
        assert screen_of_queries(asked, corpus, scorer(dot_score), k, queries_at_once=8) is not None
        found = top_k(asked, corpus, k, max_bytes=max_bytes, **options)
    assert found.rows.tolist() == expected.rows.tolist()
    assert found.scores.tolist() == expected.scores.tolist()


def test_equal_rows_come_in_order_through_a_screen_wherever_they_stand(always):
    corpus = close_to_few_axes(700, 40)
    corpus[[13, 200, 333, 698]] = corpus[5].clone()
    best = top_k(corpus[:30], corpus, 6, max_bytes=60_000)
    assert best.rows[5, :5].tolist() == [5, 13, 200, 333, 698]
    assert len(set(best.scores[5, :5].tolist())) == 1


def test_a_block_with_numbers_that_are_none_is_scored_in_full(always):
    corpus = close_to_few_axes(3000, 64)
    expected = top_k(corpus[:40], corpus, 5)
    # Whether or not the row is among those that floors are taken from.
    spoiled = torch.cat([corpus, torch.full((1, 64), torch.nan)])
    found = top_k(corpus[:40], spoiled, 5, max_bytes=100_000)
    assert found.rows.tolist() == expected.rows.tolist()
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-6, rtol=0)


def test_a_corpus_in_chunks_is_screened_chunk_by_chunk(always):
    corpus = close_to_few_axes(2000, 32)
    search = TopK(corpus[:50], 7)
    for start in range(0, 2000, 640):
        search.add(corpus[start : start + 640])
    expected = (torch.nn.functional.normalize(corpus[:50]) @ torch.nn.functional.normalize(corpus).mT).topk(7)
    assert search.best.rows.tolist() == expected.indices.tolist()
    torch.testing.assert_close(search.best.scores, expected.values, atol=1e-6, rtol=0)


def test_half_of_all_rows_reaching_the_limit_gives_the_same(always, monkeypatch):
    monkeypatch.setattr(topk, "MOST_RESCORED", 0.0)
    corpus = close_to_few_axes(1000, 32)
    found = top_k(corpus[:20], corpus, 9, at_least=0.2)
    monkeypatch.setattr(screening, "FEWEST_QUERIES", 1000)
    expected = top_k(corpus[:20], corpus, 9, at_least=0.2)
    assert found.rows.tolist() == expected.rows.tolist()
