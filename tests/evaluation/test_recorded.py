"""The evaluators report what those of release 6.2.0 report on the same data with the same weights."""

from __future__ import annotations

import csv
import json

import pytest

from evaluation_cases import RECORDED, evaluation_cases
from sentence_transformers import evaluation

CASES = json.loads(RECORDED.read_text(encoding="utf-8"))


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: CASES[number]["evaluator"])
def test_metrics_names_and_files_are_the_recorded_ones(number, minilm, tmp_path, monkeypatch):
    # The model is shared by all tests; its card is not to hear of this.
    monkeypatch.setattr(minilm, "_model_card_data", None)
    case = CASES[number]
    kind, arguments = evaluation_cases(minilm)[number]
    assert kind == case["evaluator"]
    evaluator = getattr(evaluation, kind)(**arguments)
    evaluator(minilm, str(tmp_path))
    metrics = evaluator(minilm, str(tmp_path), epoch=1, steps=20)
    assert list(metrics) == list(case["metrics"])
    # Embeddings of the two agree to about 1e-6.
    assert metrics == pytest.approx(case["metrics"], rel=1e-4, abs=2e-5)
    assert evaluator.primary_metric == case["primary_metric"]
    assert evaluator.description == case["description"]
    assert {path.name for path in tmp_path.iterdir()} == set(case["files"])
    for name, lines in case["files"].items():
        with open(tmp_path / name, newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        recorded = list(csv.reader(lines))
        assert rows[0] == recorded[0]
        assert len(rows) == len(recorded)
        for row, expected in zip(rows[1:], recorded[1:]):
            assert list(map(float, row)) == pytest.approx(list(map(float, expected)), rel=1e-4, abs=2e-5)
