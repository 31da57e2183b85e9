"""Choosing negatives, against the rules written out for one anchor at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sentence_transformers.search.hard_negatives.selection import (
    REASONS,
    Rules,
    in_order,
    select_negatives,
)
from sentence_transformers.tensors.topk import Best

THRESHOLD = st.none() | st.integers(-8, 8).map(lambda eighths: eighths / 8)


@st.composite
def problems(draw):
    """Candidates, which are positives, lowest positives and rules; scores are eighths, so many are equal."""
    width = draw(st.integers(1, 9))
    candidates = [
        sorted((draw(st.integers(-8, 8)) / 8 for _ in range(draw(st.integers(0, width)))), reverse=True)
        for _ in range(draw(st.integers(1, 4)))
    ]
    scores = torch.full((len(candidates), width), -torch.inf)
    rows = torch.full((len(candidates), width), -1)
    for number, line in enumerate(candidates):
        scores[number, : len(line)] = torch.tensor(line)
        order = draw(st.permutations(range(20)))
        rows[number, : len(line)] = torch.tensor(order[: len(line)], dtype=torch.int64)
    are_positives = torch.tensor([[draw(st.integers(0, 3)) == 0 for _ in range(width)] for _ in candidates])
    lowest = torch.tensor([draw(st.integers(-8, 8)) / 8 for _ in candidates])
    least, most = sorted(
        (draw(THRESHOLD), draw(THRESHOLD)), key=lambda value: (value is not None, value or 0)
    )
    if draw(st.booleans()) or (least is not None and most is not None and least > most):
        least = None
    range_min, num_negatives = draw(st.integers(0, 4)), draw(st.integers(1, 4))
    rules = Rules(
        num_negatives=num_negatives,
        range_min=range_min,
        range_max=range_min + num_negatives + draw(st.integers(0, 4)),
        min_score=least,
        max_score=most,
        absolute_margin=draw(THRESHOLD),
        relative_margin=draw(THRESHOLD),
        include_positives=draw(st.booleans()),
    )
    return Best(scores, rows), are_positives & (rows >= 0), lowest, rules


def reason_against(score, is_positive, lowest, rules):
    """Why a candidate may not be a negative whatever the others are."""
    if is_positive and not rules.include_positives:
        return "positive"
    if rules.max_score is not None and score > rules.max_score:
        return "max_score"
    if rules.min_score is not None and score < rules.min_score:
        return "min_score"
    if rules.absolute_margin is not None and score > lowest - rules.absolute_margin:
        return "absolute_margin"
    if rules.relative_margin is not None and score > lowest - abs(lowest) * rules.relative_margin:
        return "relative_margin"
    return None


def by_definition(candidates, are_positives, lowest, rules):
    """Rows open to choice and rows chosen of each anchor, and how many are skipped for which reason."""
    skipped = dict.fromkeys(REASONS, 0)
    opens, chosen = [], []
    for scores, rows, positives, low in zip(
        candidates.scores.tolist(),
        candidates.rows.tolist(),
        are_positives.tolist(),
        lowest.tolist(),
        strict=True,
    ):
        passing = []
        for score, row, is_positive in zip(scores, rows, positives, strict=True):
            if row < 0:
                continue
            reason = reason_against(score, is_positive, low, rules)
            if reason is None:
                passing.append(row)
            else:
                skipped[reason] += 1
        skipped["range_min"] += len(passing[: rules.range_min])
        skipped["range_max"] += len(passing[rules.range_max :])
        opens.append(passing[rules.range_min : rules.range_max])
        chosen.append(opens[-1][: rules.num_negatives])
        skipped["not_chosen"] += len(opens[-1]) - len(chosen[-1])
    return opens, chosen, skipped


def rows_of(selection):
    return [[row for row in line if row >= 0] for line in selection.rows.tolist()]


@given(problems())
def test_negatives_and_counts_are_those_of_the_definition(problem):
    candidates, are_positives, lowest, rules = problem
    selection = select_negatives(candidates, are_positives, lowest, rules)
    _, chosen, skipped = by_definition(*problem)
    assert rows_of(selection) == chosen
    assert {reason: selection.skipped.get(reason, 0) for reason in REASONS} == skipped
    assert selection.candidates == sum(skipped.values()) + sum(map(len, chosen))
    assert selection.rows.shape == selection.scores.shape == (len(chosen), rules.num_negatives)


@given(problems())
def test_every_negative_keeps_its_score_and_missing_ones_are_minus_infinity(problem):
    candidates = problem[0]
    selection = select_negatives(*problem)
    for line, scores, rows, all_scores in zip(
        selection.rows.tolist(),
        selection.scores.tolist(),
        candidates.rows.tolist(),
        candidates.scores.tolist(),
        strict=True,
    ):
        score_by_row = {**dict(zip(rows, all_scores, strict=True)), -1: -torch.inf}
        assert scores == [score_by_row[row] for row in line]


@given(problems(), st.integers(0, 2**32))
def test_a_random_sample_is_of_those_open_to_choice_best_first_and_as_many_as_can_be(problem, seed):
    candidates, are_positives, lowest, rules = problem
    rules = Rules(**{**vars(rules), "sampling_strategy": "random"})
    opens, _, skipped = by_definition(candidates, are_positives, lowest, rules)
    selection = select_negatives(
        candidates, are_positives, lowest, rules, torch.Generator().manual_seed(seed)
    )
    for line, open_rows in zip(rows_of(selection), opens, strict=True):
        assert len(line) == min(rules.num_negatives, len(open_rows))
        assert line == [row for row in open_rows if row in line]
    assert {reason: selection.skipped.get(reason, 0) for reason in REASONS} == skipped


def test_random_samples_are_fair():
    candidates = Best(torch.zeros(3000, 6), torch.arange(6).repeat(3000, 1))
    rules = Rules(num_negatives=2, range_min=1, range_max=5, sampling_strategy="random")
    selection = select_negatives(
        candidates,
        torch.zeros(3000, 6, dtype=torch.bool),
        torch.zeros(3000),
        rules,
        torch.Generator().manual_seed(0),
    )
    counts = torch.bincount(selection.rows.flatten(), minlength=6)
    assert counts[[0, 5]].tolist() == [0, 0]
    assert counts[1:5].tolist() == pytest.approx([1500] * 4, rel=0.1)


def test_an_anchor_whose_positive_has_no_score_gets_no_negative_by_a_margin():
    candidates = Best(torch.tensor([[0.5, 0.25]]), torch.tensor([[0, 1]]))
    selection = select_negatives(
        candidates,
        torch.zeros(1, 2, dtype=torch.bool),
        torch.tensor([torch.nan]),
        Rules(absolute_margin=0.1, range_max=9),
    )
    assert rows_of(selection) == [[]]


def test_equal_scores_keep_their_order():
    ordered = in_order(Best(torch.tensor([[0.5, 1.0, 0.5, 1.0]]), torch.tensor([[7, 3, 5, 4]])))
    assert ordered.rows.tolist() == [[3, 4, 7, 5]]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (Rules(num_negatives=2), 4),
        (Rules(num_negatives=2, range_min=5), 9),
        (Rules(num_negatives=2, min_score=0.1), 4),
        (Rules(num_negatives=2, max_score=0.9), 22),
        (Rules(num_negatives=2, absolute_margin=0.0), 22),
        (Rules(num_negatives=2, relative_margin=0.0, range_min=1), 23),
        (Rules(num_negatives=2, range_max=30), 30),
    ],
)
def test_the_range_reaches_far_enough_for_what_is_asked(rules, expected):
    assert rules.with_range(2).range_max == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_negatives": 0}, "num_negatives=0 must be a whole number of 1 or more"),
        ({"num_negatives": None}, "num_negatives=None"),
        ({"num_negatives": True}, "num_negatives=True"),
        ({"range_min": -1}, "range_min=-1 must be a whole number of 0 or more"),
        ({"range_min": 3, "range_max": 3}, "range_max=3 must be a whole number above range_min=3"),
        ({"range_max": 2.5}, "range_max=2.5"),
        ({"range_max": 4, "range_min": 2}, "only 2 candidates, which is too few for num_negatives=3"),
        ({"max_score": float("nan")}, "max_score is not a number"),
        ({"max_score": 0.2, "min_score": 0.3}, "min_score=0.3 is above max_score=0.2"),
        ({"sampling_strategy": "best"}, "sampling_strategy='best' must be one of 'top', 'random'"),
        ({"sampling_strategy": 3}, "after `margin` by keyword"),
    ],
)
def test_rules_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Rules(**arguments)
