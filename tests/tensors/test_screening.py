"""Bounds of shortened rows against the scores they bound."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sentence_transformers.tensors import screening
from sentence_transformers.tensors.blocks import BlockScorer
from sentence_transformers.tensors.pairs import pairs_at_least
from sentence_transformers.tensors.screening import screen_for, shortened
from sentence_transformers.tensors.similarity import cos_sim, dot_score, euclidean_sim


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
    exact = scale * torch.randn(rows, width, generator=generator, dtype=torch.float64)
    axes = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64)).Q
    short, squares = shortened(exact, axes[:, : min(kept, width)])
    margin = 1e-6 * squares.max()
    assert (short.double() @ short.double().mT >= exact @ exact.mT - margin).all()


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
