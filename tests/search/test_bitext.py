"""Mining of translations against its definition, written out."""

import gzip

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sentence_transformers import util
from sentence_transformers.search.bitext import MARGINS, RETRIEVALS, Pairs, bitext_mining, is_best_of_both


def mined_by_definition(source, target, k, margin, retrieval):
    """Lists [margin, source row, target row] as Artetxe and Schwenk (2019) describe them, with plain loops."""
    unit_source = source / np.linalg.norm(source, axis=1, keepdims=True)
    unit_target = target / np.linalg.norm(target, axis=1, keepdims=True)
    cosines = unit_source @ unit_target.T
    nearest_targets = [
        sorted(range(len(target)), key=lambda t: -cosines[s, t])[:k] for s in range(len(source))
    ]
    nearest_sources = [
        sorted(range(len(source)), key=lambda s: -cosines[s, t])[:k] for t in range(len(target))
    ]

    def score(s, t):
        around_source = sum(cosines[s, other] for other in nearest_targets[s]) / len(nearest_targets[s])
        around_target = sum(cosines[other, t] for other in nearest_sources[t]) / len(nearest_sources[t])
        around = (around_source + around_target) / 2
        if margin == "ratio":
            return cosines[s, t] / around if around > 0 else -np.inf
        return cosines[s, t] - around if margin == "distance" else cosines[s, t]

    forward = {max((score(s, t), s, t) for t in nearest_targets[s]) for s in range(len(source))}
    backward = {max((score(s, t), s, t) for s in nearest_sources[t]) for t in range(len(target))}
    proposed = {
        "forward": forward,
        "backward": backward,
        "intersection": forward & backward,
        "max": forward | backward,
    }[retrieval]
    best_first = sorted((pair for pair in proposed if pair[0] > -np.inf), key=lambda pair: -pair[0])
    if retrieval != "max":
        return [list(pair) for pair in best_first]
    kept, used_sources, used_targets = [], set(), set()
    for value, s, t in best_first:
        if s not in used_sources and t not in used_targets:
            kept.append([value, s, t])
            used_sources.add(s)
            used_targets.add(t)
    return kept


def random_sides(seed, sources, targets, width=5):
    generator = np.random.default_rng(seed)
    # Away from the origin, so that most cosines are positive, as those of sentence embeddings are.
    return generator.normal(0.5, 1, (sources, width)), generator.normal(0.5, 1, (targets, width))


@given(
    seed=st.integers(0, 10_000),
    # With one neighbour, the margins of all pairs that are nearest to each other are the same.
    sources=st.integers(2, 40),
    targets=st.integers(2, 40),
    k=st.integers(2, 9),
    margin=st.sampled_from(sorted(MARGINS)),
    retrieval=st.sampled_from(sorted(RETRIEVALS)),
)
def test_pairs_are_those_of_the_definition(seed, sources, targets, k, margin, retrieval):
    source, target = random_sides(seed, sources, targets)
    found = bitext_mining(source, target, k, margin, retrieval, max_bytes=4096)
    expected = mined_by_definition(source, target, k, margin, retrieval)
    assert [pair[1:] for pair in found] == [pair[1:] for pair in expected]
    assert [pair[0] for pair in found] == pytest.approx([pair[0] for pair in expected], abs=1e-9)


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), unique=True, max_size=80),
)
def test_the_best_are_taken_in_turn_as_a_plain_loop_takes_them(rows):
    expected, used_sources, used_targets = [], set(), set()
    for source, target in rows:
        expected.append(source not in used_sources and target not in used_targets)
        if expected[-1]:
            used_sources.add(source)
            used_targets.add(target)
    columns = torch.tensor(rows, dtype=torch.int64).reshape(-1, 2)
    pairs = Pairs(torch.zeros(len(rows)), columns[:, 0], columns[:, 1])
    assert is_best_of_both(pairs).tolist() == expected


def test_a_long_chain_of_pairs_that_exclude_each_other_is_followed_to_its_end():
    steps = torch.arange(400)
    pairs = Pairs(-steps.float(), (steps + 1) // 2, steps // 2)  # (0, 0), (1, 0), (1, 1), (2, 1), ...
    assert is_best_of_both(pairs).tolist() == (steps % 2 == 0).tolist()


def test_the_margin_is_not_taken_in_by_a_target_that_is_near_to_everything():
    source = torch.eye(4)[:3]
    # The cosines of each source are 0.5 with its translation, 0.1 with the others, and 0.55 with the last target.
    target = torch.cat([0.4 * torch.eye(3) + 0.1, torch.full((1, 3), 0.55)])
    target = torch.cat([target, (1 - target.square().sum(dim=1, keepdim=True)).sqrt()], dim=1)
    by_cosine = bitext_mining(source, target, 3, "absolute", "forward")
    assert {pair[2] for pair in by_cosine} == {3}
    for margin in ("distance", "ratio"):
        assert sorted(pair[1:] for pair in bitext_mining(source, target, 3, margin)) == [
            [0, 0],
            [1, 1],
            [2, 2],
        ]


@pytest.mark.parametrize("margin", sorted(MARGINS))
def test_an_intersection_is_what_both_directions_propose(margin):
    source, target = random_sides(1, 60, 50)
    forward, backward, both = (
        {tuple(pair[1:]) for pair in bitext_mining(source, target, margin=margin, retrieval=retrieval)}
        for retrieval in ("forward", "backward", "intersection")
    )
    assert both == forward & backward
    assert both < forward


def test_turning_the_sides_round_turns_the_pairs_round():
    source, target = random_sides(2, 30, 40)
    for retrieval, opposite in [("forward", "backward"), ("max", "max"), ("intersection", "intersection")]:
        found = bitext_mining(source, target, retrieval=retrieval)
        turned = bitext_mining(target, source, retrieval=opposite)
        assert [(s, t) for _, s, t in found] == [(s, t) for _, t, s in turned]


@pytest.mark.parametrize("retrieval", ["max", "intersection"])
def test_each_row_is_used_once_at_most(retrieval):
    source, target = random_sides(3, 200, 150, width=3)
    found = bitext_mining(source, target, retrieval=retrieval)
    for side in (1, 2):
        rows = [pair[side] for pair in found]
        assert len(rows) == len(set(rows)) > 0


@pytest.mark.parametrize("retrieval", sorted(RETRIEVALS))
def test_a_lowest_score_leaves_out_what_is_below(retrieval):
    source, target = random_sides(4, 50, 50)
    everything = bitext_mining(source, target, retrieval=retrieval)
    limit = everything[len(everything) // 2][0]
    found = bitext_mining(source, target, retrieval=retrieval, min_score=limit)
    assert found == [pair for pair in everything if pair[0] >= limit]
    assert 0 < len(found) < len(everything)


def test_pairs_hold_plain_numbers_best_first():
    found = bitext_mining(*random_sides(5, 30, 30))
    assert {tuple(map(type, pair)) for pair in found} == {(float, int, int)}
    assert [pair[0] for pair in found] == sorted((pair[0] for pair in found), reverse=True)


@pytest.mark.parametrize(
    "form",
    [torch.Tensor.numpy, torch.Tensor.tolist, list, torch.Tensor.to_sparse, torch.Tensor.double],
    ids=["array", "lists", "list of tensors", "sparse", "double"],
)
def test_embeddings_come_in_any_form(form):
    source, target = (torch.from_numpy(side).float() for side in random_sides(6, 20, 25))
    expected = bitext_mining(source, target)
    for found in (bitext_mining(form(source), target), bitext_mining(source, form(target))):
        assert [pair[1:] for pair in found] == [pair[1:] for pair in expected]
        assert [pair[0] for pair in found] == pytest.approx([pair[0] for pair in expected], abs=1e-5)


def test_memory_mapped_embeddings_are_read(tmp_path):
    source, target = random_sides(7, 20, 25)
    np.save(tmp_path / "target.npy", target)
    mapped = np.load(tmp_path / "target.npy", mmap_mode="r")
    assert bitext_mining(source, mapped) == bitext_mining(source, target)


def test_a_row_without_numbers_is_in_no_pair_and_changes_no_other():
    source, target = random_sides(8, 20, 25)
    with_gap, other_gap = np.insert(source, 7, np.nan, axis=0), np.insert(target, 3, np.inf, axis=0)
    for retrieval in RETRIEVALS:
        expected = bitext_mining(source, target, retrieval=retrieval)
        found = bitext_mining(with_gap, other_gap, retrieval=retrieval)
        assert [[s + (s >= 7), t + (t >= 3)] for _, s, t in expected] == [pair[1:] for pair in found]
    assert bitext_mining(np.full((2, 3), np.nan), np.ones((2, 3))) == []


def test_a_ratio_needs_a_neighbourhood_above_zero():
    source, target = np.array([[1.0, 0.0]]), np.array([[-1.0, 0.0]])
    assert bitext_mining(source, target, margin="ratio") == []
    assert bitext_mining(source, target, margin="distance") == [[0.0, 0, 0]]
    assert bitext_mining(source, target, margin="absolute") == [[-1.0, 0, 0]]
    # A zero vector is like nothing: its cosines are 0, and so is its ratio.
    source = np.array([[0.0, 0.0], [2.0, 0.0]])
    assert bitext_mining(source, source[1:], k=1, retrieval="forward") == [[1.0, 1, 0], [0.0, 0, 0]]


def test_of_rows_that_are_alike_the_first_is_taken():
    source = target = torch.eye(3)[[0, 0, 1]]
    assert bitext_mining(source, target, k=2, retrieval="forward") == [[2.0, 2, 2], [1.0, 0, 0], [1.0, 1, 0]]
    assert bitext_mining(source, target, k=2, retrieval="backward") == [[2.0, 2, 2], [1.0, 0, 0], [1.0, 0, 1]]
    assert bitext_mining(source, target, k=2, retrieval="max") == [[2.0, 2, 2], [1.0, 0, 0]]


def test_more_neighbours_than_rows_are_all_of_them():
    source, target = random_sides(9, 4, 6)
    assert bitext_mining(source, target, k=100) == bitext_mining(source, target, k=6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source_embeddings": np.empty((0, 4))}, "source_embeddings is empty"),
        ({"target_embeddings": []}, "target_embeddings is empty"),
        ({"target_embeddings": np.ones((3, 5))}, "source are 4 numbers wide, and those of the target 5"),
        ({"source_embeddings": np.ones((3, 2, 4))}, r"source_embeddings has the shape \(3, 2, 4\)"),
        ({"k": 0}, "k=0"),
        ({"max_bytes": 0}, "max_bytes=0"),
        ({"margin": "cosine"}, "margin='cosine' is not known. Pass one of: 'ratio', 'distance', 'absolute'"),
        ({"retrieval": "both"}, "retrieval='both' is not known. Pass one of: 'max', 'forward', 'backward'"),
    ],
)
def test_what_cannot_be_mined_is_refused(change, message):
    arguments = {"source_embeddings": np.ones((3, 4)), "target_embeddings": np.ones((3, 4)), **change}
    with pytest.raises(ValueError, match=message):
        bitext_mining(**arguments)


def test_it_is_found_in_util():
    assert util.bitext_mining is bitext_mining


def test_the_margin_finds_more_translations_than_the_cosine(minilm, shared_data):
    """With a model of English only, which knows some names and words that German shares."""
    with gzip.open(shared_data / "parallel" / "en-de" / "test.tsv.gz", "rt", encoding="utf-8") as file:
        pairs = [line.rstrip("\n").split("\t") for line in file][1:501]
    english, german = (minilm.encode(list(side)) for side in zip(*pairs, strict=True))
    found = {margin: bitext_mining(english, german, margin=margin) for margin in MARGINS}
    right = {margin: sum(s == t for _, s, t in pairs) for margin, pairs in found.items()}
    assert right["ratio"] > right["absolute"] > 0
    assert right["distance"] > right["absolute"]
    # The pairs with the best margins are the ones that are right.
    best = found["ratio"][: len(found["ratio"]) // 4]
    assert sum(s == t for _, s, t in best) / len(best) > 1.5 * right["ratio"] / len(found["ratio"])
