"""The losses give what those of release 6.2.0 give for the same texts with the same weights."""

from __future__ import annotations

import json

import pytest

from score_loss_cases import CASES, RECORDED, measured, tiny_cross_encoder
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder import losses

RESULTS = json.loads(RECORDED.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model of each number of labels."""
    return {
        count: CrossEncoder(
            str(tiny_cross_encoder(tmp_path_factory.mktemp("model"), count)), device="cpu"
        ).eval()
        for count in {case.num_labels for case in CASES}
    }


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: f"{number}-{CASES[number].loss}")
def test_values_gradients_and_settings_are_the_recorded_ones(number, models):
    case, expected = CASES[number], RESULTS[number]
    assert case.loss == expected["loss"]
    result = measured(case, losses, models[case.num_labels])
    assert result["value"] == pytest.approx(expected["value"], rel=1e-5, abs=1e-5)
    assert result["gradients"] == pytest.approx(expected["gradients"], rel=1e-3, abs=1e-5)
    # CrossEntropyLoss had no settings of its own.
    if expected["settings"]:
        assert result["settings"] == expected["settings"]


def test_every_case_is_recorded():
    assert len(RESULTS) == len(CASES)
