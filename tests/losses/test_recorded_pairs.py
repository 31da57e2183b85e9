"""The losses give what those of release 6.2.0 give for the same texts with the same weights."""

from __future__ import annotations

import json

import pytest

from pair_loss_cases import CASES, RECORDED, measured
from sentence_transformers import SentenceTransformer, losses
from tiny import tiny_checkpoint

RESULTS = json.loads(RECORDED.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tiny_checkpoint("bert", tmp_path_factory.mktemp("model"))
    return SentenceTransformer(str(folder), device="cpu").eval()


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: f"{number}-{CASES[number].loss}")
def test_values_gradients_and_settings_are_the_recorded_ones(number, model):
    case, expected = CASES[number], RESULTS[number]
    assert case.loss == expected["loss"]
    result = measured(case, losses, model)
    # Embeddings of the two agree to about 1e-6.
    assert result["value"] == pytest.approx(expected["value"], rel=1e-5, abs=1e-5)
    assert result["gradients"] == pytest.approx(expected["gradients"], rel=1e-4, abs=1e-5)
    if case.arguments(losses).get("use_mini_batched_version", True):
        assert result["settings"] == expected["settings"]


def test_every_case_is_recorded():
    assert len(RESULTS) == len(CASES)
