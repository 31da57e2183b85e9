"""Training with prompts: where they stand, and that the model keeps them."""

from __future__ import annotations

import numpy as np
import pytest

from recipes.smallest import prompts as smallest
from sentence_transformers import SentenceTransformer
from sentence_transformers.recipes.prompts import Config, prompts_by_role, prompts_of, run


def test_the_finished_model_puts_its_prompts_in_front(tmp_path):
    report = run(Config(**smallest(tmp_path), out=tmp_path / "out"))
    model = SentenceTransformer(str(tmp_path / "out/model"), device="cpu")
    assert model.prompts == {"query": "first: ", "document": "then: "}
    assert not model[1].include_prompt
    start = SentenceTransformer(smallest(tmp_path)["model"], device="cpu")
    bare, with_prompt = model.encode("some text"), model.encode_query("some text")
    assert np.abs(bare - with_prompt).max() > 1e-4
    assert np.abs(start.encode("some text") - bare).max() > 1e-4
    assert len({str(dict(row, model="")) for row in report.rows}) > 2


def test_a_prompt_for_all_columns_stands_in_front_of_every_text():
    assert prompts_by_role({"a": "x: ", "b": "x: "}, ["a", "b"]) == (
        {"query": "x: ", "document": "x: "},
        "query",
    )
    assert prompts_by_role({"text": "x: "}, ["text"]) == ({"query": "x: ", "document": "x: "}, "query")
    assert prompts_by_role({"b": "x: "}, ["a", "b"]) == ({"query": "", "document": "x: "}, None)


def test_a_prompt_may_hold_an_equals_sign():
    assert prompts_of(["a=b=c "], ["a"]) == {"a": "b=c "}


def test_prompts_that_name_no_column_are_refused(tmp_path):
    asked = {**smallest(tmp_path), "out": tmp_path / "out"}
    with pytest.raises(ValueError, match="'query: ' is none: a prompt is COLUMN=TEXT"):
        Config(**{**asked, "prompts": ["query: "]})
    with pytest.raises(ValueError, match="None is given"):
        Config(**{**asked, "prompts": []})
    with pytest.raises(ValueError, match=r"no column of texts 'c'\. There are: a, b"):
        prompts_of(["c=d"], ["a", "b"])
