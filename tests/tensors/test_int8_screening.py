"""What products of rounded rows rule out, against brute force."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sentence_transformers.tensors import pairs as pairs_module
from sentence_transformers.tensors import screening, topk
from sentence_transformers.tensors.blocks import BlockScorer
from sentence_transformers.tensors.int8_products import kernel_limit
from sentence_transformers.tensors.int8_screening import (
    Rounded,
    RoundedQueryScreen,
    RoundedScreen,
    rounded,
    rounded_screen,
)
from sentence_transformers.tensors.pairs import best_pairs, pairs_at_least
from sentence_transformers.tensors.screening import screen_for, screen_of_queries
from sentence_transformers.tensors.similarity import cos_sim, dot_score, dots_of_places
from sentence_transformers.tensors.topk import TopK, top_k

LIMIT = kernel_limit()

pytestmark = pytest.mark.skipif(LIMIT is None, reason="this PyTorch has no exact kernel for eight bits here")

SIMILARITIES = st.sampled_from([cos_sim, dot_score])


def scorer(similarity=cos_sim):
    return BlockScorer(similarity, torch.device("cpu"))


def only_rounded(patch):
    """Screens of rounded rows wherever they can be made, whether or not they pay."""
    patch.setattr(screening, "WORTHWHILE", 1000.0)
    patch.setattr(screening, "FEWEST_QUERIES", 1)
    patch.setattr(screening, "FEWEST_SCORES", 0)
    patch.setattr(screening, "SCORES_FOR_AXES", float("inf"))


def no_screen(patch):
    patch.setattr(screening, "FEWEST_SCORES", float("inf"))
    patch.setattr(screening, "SCORES_FOR_AXES", float("inf"))


@pytest.fixture
def always(monkeypatch):
    only_rounded(monkeypatch)


def rows_of_a_kind(kind, count, width, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, width, generator=generator)
    if kind == "clustered":
        centres = torch.randn(5, width, generator=generator)
        rows = centres[torch.arange(count) % 5] + 0.01 * rows
    elif kind == "few large numbers":
        rows[:, 0] *= 1000
    elif kind == "one number each":
        rows = torch.zeros(count, width).scatter_(1, torch.arange(count).unsqueeze(1) % width, rows[:, :1])
    elif kind == "lengths apart":
        rows *= 10.0 ** torch.randint(-12, 12, (count, 1), generator=generator)
    elif kind == "zeros between":
        rows[::3] = 0
    elif kind == "half-way":
        # Every number but one is as far from its code as it can be.
        rows = rows.sign() * (torch.randint(0, 60, (count, width), generator=generator) + 0.499)
        rows[:, 0] = 127
    return rows


KINDS = (
    "normal", "clustered", "few large numbers", "one number each", "lengths apart", "zeros between", "half-way"
)  # fmt: skip


@given(
    kind=st.sampled_from(KINDS),
    queries=st.integers(1, 20),
    rows=st.integers(1, 60),
    width=st.sampled_from([1, 2, 7, 64, 384, 3000]),
    scale=st.sampled_from([1e-30, 1e-17, 1e-3, 1.0, 1e4, 1e17]),
    seed=st.integers(0, 99),
)
def test_no_score_that_is_wanted_is_ruled_out(kind, queries, rows, width, scale, seed):
    a = scale * rows_of_a_kind(kind, queries, width, seed)
    b = scale * rows_of_a_kind(kind, rows, width, seed + 1)
    b[: min(queries, rows)] = a[: min(queries, rows)]
    a, b = a.clamp(-1e17, 1e17), b.clamp(-1e17, 1e17)
    against = RoundedQueryScreen.of(a, torch.full((queries, 1), -torch.inf), LIMIT).against(b)
    bounds = against.bounds(slice(0, queries))
    row, column = torch.cartesian_prod(torch.arange(queries), torch.arange(rows)).T.contiguous()
    exact = (a.double() @ b.double().mT).float()
    for scores in (a @ b.mT, exact, dots_of_places(a, b, row, column).view(queries, rows)):
        assert (bounds >= against.limits(slice(0, queries), scores)).all()
        assert (scores - exact).abs().max() <= against.margin


@settings(max_examples=60)
@given(
    kind=st.sampled_from(KINDS),
    width=st.sampled_from([1, 5, 384]),
    limit=st.sampled_from([63, 127]),
    is_measured=st.booleans(),
    scale=st.sampled_from([1e-36, 1e-20, 1.0, 1e15]),
    seed=st.integers(0, 99),
)
def test_rounded_rows_are_as_near_as_they_say(kind, width, limit, is_measured, scale, seed):
    rows = scale * rows_of_a_kind(kind, 530, width, seed)
    found = rounded(rows, limit, is_measured=is_measured)
    assert found.codes.abs().max() <= limit
    away = torch.linalg.vector_norm(rows.double() - found.steps.double() * found.codes.double(), dim=1)
    assert (away <= found.errors[:, 0]).all()
    assert (torch.linalg.vector_norm(rows.double(), dim=1) <= found.lengths[:, 0]).all()


def test_a_bound_is_close_to_its_score():
    rows = torch.nn.functional.normalize(rows_of_a_kind("normal", 500, 384, 0))
    screen = RoundedQueryScreen.of(rows[:50], torch.zeros(50, 1), LIMIT)
    slack = screen.against(rows).slack
    assert 0 < slack.max() < 0.05
    assert screen.against(rows).margin < 1e-4


@given(
    queries=st.integers(1, 20),
    rows=st.integers(120, 300),
    width=st.integers(2, 12),
    k=st.integers(1, 6),
    of_corpus=st.booleans(),
    at_least=st.one_of(st.none(), st.integers(-5, 30)),
    zeros=st.booleans(),
    seed=st.integers(0, 99),
    max_bytes=st.integers(2_000, 200_000),
)
def test_the_best_rows_are_those_of_brute_force(
    queries, rows, width, k, of_corpus, at_least, zeros, seed, max_bytes
):
    generator = torch.Generator().manual_seed(seed)
    # Whole numbers are scored without rounding, and are often the same.
    corpus = torch.randint(-3, 4, (rows, width), generator=generator).float()
    if zeros:
        corpus[::7] = 0
    asked = corpus[10 : 10 + queries] if of_corpus else corpus.flip(1)[:queries] - 1
    own = 10 if of_corpus else None
    with pytest.MonkeyPatch.context() as patch:
        only_rounded(patch)
        screen = screen_of_queries(asked, corpus, scorer(dot_score), k, queries_at_once=8)
        assert isinstance(screen, RoundedQueryScreen)
        found = top_k(
            asked, corpus, k, similarity=dot_score, own_rows=own, at_least=at_least, max_bytes=max_bytes
        )
    scores = (asked.double() @ corpus.double().mT).numpy()
    for query, line in enumerate(scores):
        expected = sorted(
            (-score, row)
            for row, score in enumerate(line)
            if not (of_corpus and row == 10 + query) and (at_least is None or score >= at_least)
        )[:k]
        listed = zip(found.scores[query].tolist(), found.rows[query].tolist(), strict=True)
        assert [(-score, row) for score, row in listed if row >= 0] == expected


@settings(max_examples=40)
@given(
    kind=st.sampled_from(KINDS),
    similarity=SIMILARITIES,
    dtype=st.sampled_from([torch.float32, torch.float16]),
    k=st.integers(1, 9),
    scale=st.sampled_from([1e-3, 1.0, 30.0]),
    max_bytes=st.sampled_from([20_000, 100_000, 10**7]),
    seed=st.integers(0, 20),
)
def test_scores_of_real_numbers_are_those_of_no_screen(kind, similarity, dtype, k, scale, max_bytes, seed):
    corpus = (scale * rows_of_a_kind(kind, 800, 48, seed)).clamp(-6e4, 6e4).to(dtype)
    corpus[600:650] = corpus[100:150]
    asked = corpus[::37]
    with pytest.MonkeyPatch.context() as patch:
        only_rounded(patch)
        found = top_k(asked, corpus, k, similarity=similarity, max_bytes=max_bytes)
        no_screen(patch)
        expected = top_k(asked, corpus, k, similarity=similarity)
    scale = float(expected.scores.abs().max())
    assert (found.scores - expected.scores).abs().max() <= 2e-6 * scale
    # Where rows differ, their scores are the same but for rounding.
    exact = similarity(asked.double(), corpus.double())
    differ = found.rows != expected.rows
    assert (exact.gather(1, found.rows) - exact.gather(1, expected.rows))[differ].abs().sum() <= 1e-4 * scale


def test_equal_rows_come_in_order_wherever_they_stand(always):
    corpus = rows_of_a_kind("normal", 700, 40, 0)
    corpus[[13, 200, 333, 698]] = corpus[5].clone()
    best = top_k(corpus[:30], corpus, 6, max_bytes=60_000)
    assert best.rows[5, :5].tolist() == [5, 13, 200, 333, 698]
    assert len(set(best.scores[5, :5].tolist())) == 1


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 1e30])
def test_a_block_without_bounds_is_scored_in_full(always, bad):
    corpus = rows_of_a_kind("normal", 3000, 64, 0)
    spoiled = torch.cat([corpus, torch.full((1, 64), bad)])
    found = top_k(corpus[:40], spoiled, 5, similarity=dot_score, max_bytes=100_000)
    with pytest.MonkeyPatch.context() as patch:
        no_screen(patch)
        expected = top_k(corpus[:40], spoiled, 5, similarity=dot_score)
    assert found.rows.tolist() == expected.rows.tolist()
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-4, rtol=1e-6)
    queries = torch.cat([corpus[:5], torch.full((1, 64), bad)])
    assert RoundedQueryScreen.of(queries, torch.zeros(6, 1), LIMIT) is None


def test_chunks_and_more_rows_than_there_are_give_the_same(always):
    corpus = rows_of_a_kind("clustered", 2000, 32, 3)
    search = TopK(corpus[:50], 7)
    for start in range(0, 2000, 640):
        search.add(corpus[start : start + 640])
    with pytest.MonkeyPatch.context() as patch:
        no_screen(patch)
        expected = top_k(corpus[:50], corpus, 7)
    torch.testing.assert_close(search.best.scores, expected.scores, atol=1e-6, rtol=0)
    assert top_k(corpus[:3], corpus[:20], 30).rows.sort(dim=1).values.tolist() == [list(range(20))] * 3


def test_where_many_reach_the_limit_a_block_is_scored_in_full(always, monkeypatch):
    monkeypatch.setattr(topk, "MOST_RESCORED", 0.0)
    corpus = rows_of_a_kind("normal", 1000, 32, 0)
    found = top_k(corpus[:20], corpus, 9, at_least=0.2)
    no_screen(monkeypatch)
    expected = top_k(corpus[:20], corpus, 9, at_least=0.2)
    assert found.rows.tolist() == expected.rows.tolist()


@settings(max_examples=40)
@given(
    rows=st.sampled_from([40, 41, 100, 130]),
    width=st.sampled_from([2, 8]),
    threshold=st.integers(-4, 20),
    strip=st.sampled_from([17, 60]),
    seed=st.integers(0, 99),
)
def test_pairs_are_those_of_brute_force(rows, width, threshold, strip, seed):
    embeddings = torch.randint(-3, 4, (rows, width), generator=torch.Generator().manual_seed(seed)).float()
    with pytest.MonkeyPatch.context() as patch:
        only_rounded(patch)
        patch.setattr(pairs_module, "STRIP_ROWS", strip)
        assert isinstance(screen_for(embeddings, scorer(dot_score), threshold), RoundedScreen)
        found = pairs_at_least(
            embeddings, threshold, max_pairs=10**6, similarity=dot_score, max_columns=2 * strip
        )
    scores = embeddings @ embeddings.mT
    expected = (scores.triu(1) >= threshold).nonzero() if threshold > 0 else None
    if expected is None:
        first, second = torch.triu_indices(rows, rows, 1)
        reached = scores[first, second] >= threshold
        expected = torch.stack([first[reached], second[reached]], dim=1)
    order = (found.first * rows + found.second).argsort()
    assert torch.stack([found.first, found.second], dim=1)[order].tolist() == expected.tolist()
    assert torch.equal(found.scores, scores[found.first, found.second])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("similarity", [cos_sim, dot_score])
def test_the_best_pairs_are_those_of_no_screen(always, kind, similarity):
    embeddings = rows_of_a_kind(kind, 1500, 48, 1)
    found = best_pairs(embeddings, max_pairs=300, neighbours=20, similarity=similarity)
    with pytest.MonkeyPatch.context() as patch:
        no_screen(patch)
        expected = best_pairs(embeddings, max_pairs=300, neighbours=20, similarity=similarity)
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-6, rtol=2e-6)


def test_a_set_with_rows_without_bounds_is_not_screened(always):
    embeddings = rows_of_a_kind("normal", 3000, 16, 0)
    assert isinstance(screen_for(embeddings, scorer(), 0.9), RoundedScreen)
    embeddings[2999, 3] = torch.nan
    assert rounded_screen(embeddings, scorer(dot_score), 0.9, LIMIT) is None
    found = pairs_at_least(embeddings, 0.8, max_pairs=10**6)
    assert len(found) == int((cos_sim(embeddings, embeddings).triu(1) >= 0.8).sum())


def test_rounded_rows_stay_within_their_memory(always, monkeypatch):
    embeddings = rows_of_a_kind("normal", 3000, 16, 0)
    monkeypatch.setattr(screening, "MAX_BYTES", 2 * 3000 * 16 - 1)
    assert screen_for(embeddings, scorer(), 0.9) is None


def test_a_memory_mapped_corpus_is_searched(always, tmp_path):
    corpus = rows_of_a_kind("normal", 2000, 24, 0).half().numpy()
    np.save(tmp_path / "corpus.npy", corpus)
    mapped = np.load(tmp_path / "corpus.npy", mmap_mode="r")
    best = top_k(corpus[:9], mapped, 4, max_bytes=50_000)
    assert best.rows[:, 0].tolist() == list(range(9))
    assert best.rows.tolist() == cos_sim(corpus[:9], corpus).topk(4).indices.tolist()


def test_no_rows_are_rounded_to_none():
    found = rounded(torch.empty(0, 8), 63, is_measured=True)
    assert isinstance(found, Rounded)
    assert found.is_usable
    assert found.codes.shape == (0, 8)
