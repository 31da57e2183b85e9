"""Mined negatives against those that sentence-transformers 6.2.0 mines from the same texts."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from hard_negative_cases import CASES, RECORDED, mined_case
from sentence_transformers.util import mine_hard_negatives

REFERENCE = json.loads(RECORDED.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def cache_folder(tmp_path_factory):
    """Spares all but the first case to embed the same texts again."""
    return str(tmp_path_factory.mktemp("embeddings"))


@pytest.mark.parametrize("name", CASES)
def test_what_is_mined_is_what_the_reference_mines(minilm, name, caplog, cache_folder):
    caplog.set_level(logging.ERROR)
    if "use_faiss" in CASES[name]:
        pytest.importorskip("faiss")
    arguments = {**CASES[name], "cache_folder": cache_folder}
    assert_same(mined_case(mine_hard_negatives, minilm, arguments), REFERENCE[name])


def test_the_cases_have_rows():
    assert all(len(next(iter(columns.values()))) for columns in REFERENCE.values())


def assert_same(mined: Any, expected: Any) -> None:
    """Compare columns with their order, texts exactly and scores nearly."""
    assert list(mined) == list(expected)
    for name, values in expected.items():
        assert len(mined[name]) == len(values)
        for value, wanted in zip(mined[name], values, strict=True):
            is_score = name in ("score", "scores")
            assert value == (pytest.approx(wanted, abs=1e-5) if is_score else wanted)
