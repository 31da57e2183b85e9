"""The evaluators report what those of releases 6.2.0 and 3.4.1 report on the same pairs with the same weights."""

from __future__ import annotations

import csv
import json

import pytest

from pair_evaluation_cases import NEWER, OLDER, RECORDED
from score_loss_cases import tiny_cross_encoder
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder import evaluation

RESULTS = json.loads(RECORDED.read_text(encoding="utf-8"))
CASES = [(*case, "newer", number) for number, case in enumerate(NEWER)]
CASES += [(*case, "older", number) for number, case in enumerate(OLDER)]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model of each number of labels."""
    return {
        count: CrossEncoder(str(tiny_cross_encoder(tmp_path_factory.mktemp("model"), count)), device="cpu")
        for count in (1, 2, 3)
    }


@pytest.mark.parametrize(
    ("evaluator", "num_labels", "arguments", "release", "number"),
    CASES,
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_results_names_and_files_are_the_recorded_ones(
    evaluator, num_labels, arguments, release, number, models, tmp_path
):
    expected = RESULTS[release][number]
    assert expected["evaluator"] == evaluator
    built = getattr(evaluation, evaluator)(**arguments)
    result = built(models[num_labels], str(tmp_path))
    assert result == pytest.approx(expected["result"], rel=1e-4, abs=1e-5)
    if isinstance(result, dict):
        assert set(result) == set(expected["result"])
        assert built.primary_metric == expected["primary_metric"]
    assert {path.name for path in tmp_path.iterdir()} == set(expected["files"])
    for name, lines in expected["files"].items():
        with open(tmp_path / name, newline="", encoding="utf-8") as file:
            header, row = csv.reader(file)
        recorded_header, recorded_row = csv.reader(lines)
        assert header == recorded_header
        for column, value, recorded in zip(header, row, recorded_row):
            # 3.4.1 weighted classes by how often they were chosen, 6.2.0 by how often they are true.
            if column != "Weighted F1 score":
                assert float(value) == pytest.approx(float(recorded), rel=1e-4, abs=1e-5), column
