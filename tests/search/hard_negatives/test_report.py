"""What mining tells: counts that add up, statistics of what is in the result, and a table."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset

from hard_negative_cases import TableModel
from sentence_transformers.search.hard_negatives import Rules, mine, mine_hard_negatives
from sentence_transformers.search.hard_negatives.embedding import Embedder
from sentence_transformers.search.hard_negatives.mining import OutputOptions
from sentence_transformers.search.hard_negatives.report import ScoreStatistics

SCORES = {
    "q0": {"p0": 0.75, "p1": 0.25, "a": 0.5, "b": 0.375, "c": 0.125},
    "q1": {"p2": 0.5, "c": 0.625, "a": 0.25, "p1": 0.1875, "p0": 0.0625},
}
ROWS = Dataset.from_dict({"anchor": ["q0", "q1", "q0", "q0"], "positive": ["p0", "p2", "p1", "p0"]})


def mined(output_format="triplet", **rules):
    return mine(
        ROWS,
        Embedder(model=TableModel.with_scores(SCORES)),
        Rules(**rules),
        OutputOptions(output_format=output_format),
        corpus=["a", "b", "c"],
    )


def test_counts_add_up():
    report = mined(max_score=0.4, absolute_margin=0.0, num_negatives=2).report
    assert (report.rows, report.pairs, report.anchors, report.corpus) == (4, 3, 2, 6)
    # Both anchors see all six texts. The limit of q0 is 0.25, that of q1 is 0.4.
    assert report.candidates == 12
    assert {reason: count for reason, count in report.skipped.items() if count} == {
        "positive": 3,
        "max_score": 2,
        "absolute_margin": 1,
        "not_chosen": 2,
    }
    assert report.negatives == 4 == report.candidates - sum(report.skipped.values())
    assert (report.complete, report.short, report.without, report.dropped, report.written) == (2, 0, 0, 0, 6)


@pytest.mark.parametrize(
    ("output_format", "written", "dropped"),
    [("triplet", 7, 0), ("n-tuple", 1, 2), ("labeled-pair", 8, 0), ("labeled-list", 3, 0)],
)
def test_anchors_with_too_few_negatives_are_counted(output_format, written, dropped):
    result = mined(output_format, max_score=0.25, num_negatives=3)
    report = result.report
    assert (report.complete, report.short, report.without) == (1, 1, 0)
    assert (report.written, report.dropped) == (written, dropped) == (len(result.dataset), dropped)


def test_anchors_without_negatives_are_counted():
    report = mined(max_score=-0.9).report
    assert (report.complete, report.short, report.without, report.dropped, report.written) == (0, 0, 2, 3, 0)
    assert report.scores["negative"] == ScoreStatistics(0, {})
    assert "-" in str(report)


@pytest.mark.parametrize("output_format", ["triplet", "n-tuple", "labeled-list"])
def test_statistics_are_those_of_the_result(output_format):
    report = mined(output_format, max_score=0.25, num_negatives=3).report
    triplets = mine_hard_negatives(
        ROWS,
        TableModel.with_scores(SCORES),
        corpus=["a", "b", "c"],
        max_score=0.25,
        output_scores=True,
        verbose=False,
    )
    rows = [row for row in triplets if output_format != "n-tuple" or row["anchor"] == "q1"]
    scores = np.array([row["scores"] for row in rows])
    for name, values in {"negative": scores[:, 1], "difference": scores[:, 0] - scores[:, 1]}.items():
        statistics = report.scores[name]
        assert statistics.count == len(rows)
        assert statistics.values["mean"] == pytest.approx(values.mean())
        assert statistics.values["std"] == pytest.approx(values.std(ddof=1))
        assert statistics.values["25 %"] == pytest.approx(np.quantile(values, 0.25))
    assert report.scores["positive"].count == len({(row["anchor"], row["positive"]) for row in rows})


def test_labeled_pairs_count_each_negative_once():
    report = mined("labeled-pair", num_negatives=2).report
    assert report.scores["negative"].count == 4
    assert report.scores["positive"].count == 3


def test_a_single_score_has_no_spread():
    assert "std" not in ScoreStatistics.of(np.array([0.5])).values


def test_the_report_is_printed_when_wanted(capsys):
    model = TableModel.with_scores(SCORES)
    options = {"corpus": ["a", "b", "c"], "max_score": 0.25, "output_format": "n-tuple"}
    mine_hard_negatives(ROWS, model, verbose=False, **options)
    assert capsys.readouterr().out == ""
    mine_hard_negatives(ROWS, model, verbose=True, **options)
    printed = capsys.readouterr().out
    assert "Mined hard negatives for 2 anchors in 3 pairs, out of 6 texts: the result has 1 row." in printed
    assert "1 row of the dataset repeated another one." in printed
    assert "1 have 3 negatives, 1 fewer, 0 none; 2 pairs therefore dropped" in printed
    assert "raise range_max=33, or relax max_score" in printed
    assert "skipped: score above max_score=0.25" in printed
    assert "skipped: positives of the anchor" in printed
