"""Pairs of rows of one set, against scoring every two of them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sentence_transformers.tensors import pairs as pairs_module
from sentence_transformers.tensors.pairs import (
    among_neighbours,
    best_pairs,
    best_pairs_of_neighbours,
    falling_order,
    in_order,
    pairs_at_least,
)
from sentence_transformers.tensors.similarity import cos_sim, dot_score, euclidean_sim

SMALL_BLOCKS = st.fixed_dictionaries(
    {"PANEL_ROWS": st.integers(1, 40), "STRIP_ROWS": st.integers(1, 20), "BLOCK_COLUMNS": st.integers(1, 30)}
)


def whole_numbers(rows, width, seed):
    """Rows of few different numbers, so that many scores are the same."""
    return torch.randint(-2, 3, (rows, width), generator=torch.Generator().manual_seed(seed)).float()


def listed(pairs):
    return list(zip(pairs.scores.tolist(), pairs.first.tolist(), pairs.second.tolist(), strict=True))


def pairs_by_definition(scores, max_pairs, neighbours):
    """Pairs of which one is among the best of the other: the best of them, each once."""
    found = {}
    for row, line in enumerate(scores.tolist()):
        others = sorted((-score, other) for other, score in enumerate(line) if other != row)
        for score, other in others[:neighbours]:
            found[min(row, other), max(row, other)] = -score
    return sorted(((score, *pair) for pair, score in found.items()), key=lambda pair: (-pair[0], pair[1:]))[
        :max_pairs
    ]


@given(rows=st.integers(0, 70), threshold=st.integers(-6, 9), blocks=SMALL_BLOCKS, seed=st.integers(0, 99))
def test_all_pairs_that_reach_a_score_are_found_once_whatever_the_blocks(rows, threshold, blocks, seed):
    embeddings = whole_numbers(rows, 3, seed)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in blocks.items():
            patch.setattr(pairs_module, name, value)
        found = pairs_at_least(
            embeddings,
            threshold,
            max_pairs=10_000,
            similarity=dot_score,
            max_columns=blocks["BLOCK_COLUMNS"],
        )
    scores = embeddings @ embeddings.T
    expected = [
        (scores[i, j].item(), i, j)
        for i in range(rows)
        for j in range(i + 1, rows)
        if scores[i, j] >= threshold
    ]
    assert sorted(listed(found)) == sorted(expected)
    # For each row, the others come in order on either side of it: ties are settled by that.
    for row in range(rows):
        before, behind = found.first[found.second == row], found.second[found.first == row]
        assert before.tolist() == sorted(before.tolist())
        assert behind.tolist() == sorted(behind.tolist())


def test_too_many_pairs_are_not_kept():
    embeddings = torch.ones(50, 2)
    assert pairs_at_least(embeddings, 0.5, max_pairs=50 * 49 // 2 - 1) is None
    assert len(pairs_at_least(embeddings, 0.5, max_pairs=50 * 49 // 2)) == 50 * 49 // 2


def test_rows_that_are_not_numbers_are_in_no_pair_and_hide_none():
    embeddings = torch.randn(90, 4, generator=torch.Generator().manual_seed(0))
    embeddings[[3, 40]] = torch.nan
    found = pairs_at_least(embeddings, 0.5, max_pairs=10_000)
    expected = (cos_sim(embeddings, embeddings).triu(1) >= 0.5).nonzero()
    order = (found.first * 90 + found.second).argsort()
    assert torch.stack([found.first, found.second], dim=1)[order].tolist() == expected.tolist()


def test_any_symmetric_similarity_can_be_reached():
    embeddings = torch.randn(60, 5, generator=torch.Generator().manual_seed(1))
    kept = euclidean_sim(embeddings, embeddings)
    found = pairs_at_least(embeddings, -1.5, max_pairs=10_000, similarity=lambda a, b: kept)
    assert len(found) == int((kept[tuple(torch.triu_indices(60, 60, 1))] >= -1.5).sum())
    torch.testing.assert_close(kept, euclidean_sim(embeddings, embeddings))


def test_a_memory_mapped_set_of_half_precision_is_read(tmp_path):
    rows = np.random.default_rng(0).standard_normal((100, 8)).astype(np.float16)
    np.save(tmp_path / "rows.npy", rows)
    found = pairs_at_least(np.load(tmp_path / "rows.npy", mmap_mode="r"), 0.6, max_pairs=10_000)
    assert listed(found) == listed(pairs_at_least(torch.from_numpy(rows).float(), 0.6, max_pairs=10_000))


@given(
    rows=st.integers(0, 60),
    max_pairs=st.integers(1, 80),
    neighbours=st.integers(1, 70),
    rows_at_once=st.integers(1, 30),
    max_rows=st.one_of(st.none(), st.integers(1, 40)),
)
def test_the_best_pairs_are_exact(rows, max_pairs, neighbours, rows_at_once, max_rows):
    embeddings = whole_numbers(rows, 3, seed=rows)
    found = best_pairs(
        embeddings,
        max_pairs=max_pairs,
        neighbours=neighbours,
        rows_at_once=rows_at_once,
        similarity=dot_score,
        max_rows=max_rows,
    )
    expected = pairs_by_definition(embeddings @ embeddings.T, max_pairs, neighbours)
    assert listed(found) == expected


@given(
    rows=st.integers(32, 120),
    max_pairs=st.integers(1, 300),
    neighbours=st.integers(1, 12),
    width=st.integers(1, 6),
    seed=st.integers(0, 99),
)
def test_the_best_pairs_are_the_same_by_a_sampled_score(rows, max_pairs, neighbours, width, seed):
    embeddings = whole_numbers(rows, width, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs_module, "SAMPLED_ROWS", 4)
        found = best_pairs(embeddings, max_pairs=max_pairs, neighbours=neighbours, similarity=dot_score)
    assert listed(found) == pairs_by_definition(embeddings @ embeddings.T, max_pairs, neighbours)


def test_a_sampled_score_finds_what_lists_of_neighbours_find():
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(60, 32, generator=generator)
    embeddings = centers[torch.randint(60, (3000,), generator=generator)]
    embeddings = embeddings + 0.7 * torch.randn(3000, 32, generator=generator)
    for max_pairs, neighbours in ((5000, 100), (9000, 8)):
        assert pairs_module.sampled_floor(embeddings, max_pairs, neighbours, cos_sim, None) is not None
        found = best_pairs(embeddings, max_pairs=max_pairs, neighbours=neighbours)
        expected = best_pairs_of_neighbours(embeddings, max_pairs, neighbours, 5000)
        # Equal but for the last digit, in which products of differently cut matrices may differ.
        torch.testing.assert_close(found.scores, expected.scores, atol=1e-6, rtol=0)
        assert len(found) == max_pairs
        different = set(zip(found.first.tolist(), found.second.tolist(), strict=True)) ^ set(
            zip(expected.first.tolist(), expected.second.tolist(), strict=True)
        )
        assert len(different) <= 4


@given(rows=st.integers(2, 40), neighbours=st.integers(1, 10), seed=st.integers(0, 99))
def test_crowded_rows_keep_their_best_neighbours_and_of_equal_ones_the_first(rows, neighbours, seed):
    embeddings = whole_numbers(rows, 2, seed)
    everything = pairs_at_least(embeddings, -100.0, max_pairs=10_000, similarity=dot_score)
    kept = among_neighbours(in_order(everything), neighbours, rows)
    assert listed(kept) == pairs_by_definition(embeddings @ embeddings.T, 10_000, neighbours)


@pytest.mark.parametrize("name", ["max_pairs", "neighbours", "rows_at_once", "max_rows"])
def test_no_pairs_at_all_is_refused(name):
    with pytest.raises(ValueError, match=f"{name}=0 lets nothing be found"):
        best_pairs(torch.eye(2), **{"max_pairs": 1, "neighbours": 1, name: 0})


@given(
    st.lists(
        st.one_of(
            st.floats(allow_nan=False, width=32), st.sampled_from([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf])
        ),
        max_size=60,
    ),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_scores_fall_and_equal_ones_stay_in_order(scores, dtype):
    expected = sorted(range(len(scores)), key=lambda place: (-scores[place], place))
    assert falling_order(torch.tensor(scores, dtype=dtype)).tolist() == expected
