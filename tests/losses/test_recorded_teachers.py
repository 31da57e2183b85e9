"""The losses give what those of release 6.2.0 give for the same texts with the same weights."""

from __future__ import annotations

import json

import pytest

from sentence_transformers import SentenceTransformer, losses
from teacher_loss_cases import CASES, RECORDED, checkpoints, measured

RESULTS = json.loads(RECORDED.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return checkpoints(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def models(folders):
    return {name: SentenceTransformer(str(path), device="cpu").eval() for name, path in folders.items()}


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: f"{number}-{CASES[number].loss}")
def test_values_gradients_and_settings_are_the_recorded_ones(number, models, folders):
    expected = RESULTS[number]
    result = measured(CASES[number], losses, models, folders)
    assert result["loss"] == expected["loss"]
    # Embeddings of the two agree to about 1e-6.
    assert result["value"] == pytest.approx(expected["value"], rel=1e-5, abs=1e-5)
    assert result["gradients"] == pytest.approx(expected["gradients"], rel=1e-4, abs=1e-5)
    assert json.loads(json.dumps(result["settings"])) == expected["settings"]


def test_every_case_is_recorded():
    assert len(RESULTS) == len(CASES)
