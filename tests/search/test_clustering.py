"""Communities against their definition, and against what the reference gives."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sentence_transformers import util
from sentence_transformers.search import clustering
from sentence_transformers.search.clustering import community_detection


def communities_by_definition(embeddings, threshold, minimum):
    """Rows with most close rows are centres first, and take those that are left."""
    scores = util.cos_sim(embeddings, embeddings)
    is_close = scores >= threshold
    order = sorted(range(len(scores)), key=lambda row: -int(is_close[row].sum()))
    taken, found = set(), []
    for center in order:
        if center in taken or not is_close[center, center]:
            continue
        members = [
            row for row in is_close[center].nonzero()[:, 0].tolist() if row not in taken and row != center
        ]
        if len(members) + 1 >= minimum:
            members.sort(key=lambda row: (-scores[center, row].item(), row))
            found.append([center, *members])
            taken.update(found[-1])
    return sorted(found, key=len, reverse=True)


def angles(degrees):
    radians = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([radians.cos(), radians.sin()], dim=1)


def clouds(rows, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(20, 16, generator=generator)
    return centers[torch.randint(20, (rows,), generator=generator)] + 0.5 * torch.randn(
        rows, 16, generator=generator
    )


@given(
    degrees=st.lists(st.integers(0, 90), min_size=1, max_size=40),
    limit=st.integers(1, 40),
    minimum=st.integers(1, 6),
    batch_size=st.integers(1, 20),
    keeps_pairs=st.booleans(),
)
def test_communities_follow_their_definition(degrees, limit, minimum, batch_size, keeps_pairs):
    embeddings = angles(degrees)
    threshold = float(np.cos(np.radians(limit + 0.5)))
    with pytest.MonkeyPatch.context() as patch:
        if not keeps_pairs:
            patch.setattr(clustering, "MAX_PAIRS", 0)
            patch.setattr(clustering, "MAX_SCORES", 100)
        found = community_detection(embeddings, threshold, minimum, batch_size)
    # Rows of the same angle may differ in the last digit of their cosine, so order within is not compared.
    expected = communities_by_definition(embeddings, threshold, minimum)
    assert [sorted(members) for members in found] == [sorted(members) for members in expected]
    assert [members[0] for members in found] == [members[0] for members in expected]


def test_members_come_by_falling_similarity_to_their_centre():
    embeddings = clouds(400)
    for members in community_detection(embeddings, 0.7, 5):
        scores = util.cos_sim(embeddings[members[0]], embeddings[members])[0]
        assert (scores >= 0.7 - 1e-6).all()
        assert (scores.diff() <= 1e-6).all()


def test_the_largest_community_comes_first_and_no_row_is_in_two():
    found = community_detection(clouds(400), 0.7, 5)
    sizes = [len(members) for members in found]
    assert len(found) > 5
    assert sizes == sorted(sizes, reverse=True)
    assert min(sizes) >= 5
    assert len({row for members in found for row in members}) == sum(sizes)


def test_a_centre_that_is_taken_makes_no_community():
    # Recorded from the reference, release 6.2.0.
    embeddings = angles([0, 10, 20, 30, 40, 50, 60, 70, 80, 90])
    threshold = float(np.cos(np.radians(21)))
    # Neighbours on either side are as close but for the last digit.
    found = community_detection(embeddings, threshold, 2)
    assert [(members[0], sorted(members)) for members in found] == [
        (2, [0, 1, 2, 3, 4]),
        (5, [5, 6, 7]),
        (8, [8, 9]),
    ]
    assert community_detection(embeddings, threshold, 3) == found[:2]


def test_of_members_just_as_close_the_first_come_first():
    assert community_detection(torch.ones(5, 4), 0.5, 2) == [[0, 1, 2, 3, 4]]


def test_keeping_no_pairs_changes_nothing(monkeypatch):
    embeddings = clouds(700)
    expected = community_detection(embeddings, 0.65, 4)
    monkeypatch.setattr(clustering, "MAX_PAIRS", 10)
    monkeypatch.setattr(clustering, "MAX_SCORES", 7000)
    assert community_detection(embeddings, 0.65, 4, batch_size=50) == expected


def test_zero_and_nan_belong_nowhere():
    embeddings = torch.tensor([[1.0, 0], [0, 0], [1, 0.1], [torch.nan, 1], [0, 0]])
    assert community_detection(embeddings, 0.5, 1) == [[0, 2]]


def test_nothing_and_too_little_give_no_communities():
    assert community_detection(torch.empty(0, 4)) == []
    assert community_detection(torch.ones(9, 4), min_community_size=10) == []
    assert community_detection(torch.eye(4), 0.5, 2) == []
    assert community_detection(torch.eye(4), 0.5, 1) == [[0], [1], [2], [3]]


def test_arrays_and_lists_are_taken_and_left_alone():
    embeddings = clouds(200).numpy()
    before = embeddings.copy()
    found = community_detection(embeddings, 0.7, 3)
    assert found == community_detection(embeddings.tolist(), 0.7, 3)
    assert found == community_detection(torch.from_numpy(embeddings), 0.7, 3)
    assert all(type(row) is int for members in found for row in members)
    np.testing.assert_array_equal(embeddings, before)


@pytest.mark.parametrize("name", ["min_community_size", "batch_size"])
def test_a_size_below_one_is_refused(name):
    with pytest.raises(ValueError, match=f"{name}=0"):
        community_detection(torch.eye(2), **{name: 0})


def test_progress_is_shown_when_asked_for(capsys):
    community_detection(torch.eye(4), 0.5, 1, show_progress_bar=True)
    assert "Finding communities" in capsys.readouterr().err
