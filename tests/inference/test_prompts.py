"""Which prompt a text gets."""

from __future__ import annotations

import pytest

from sentence_transformers.inference.prompts import choose_prompt, first_configured

PROMPTS = {"query": "query: ", "document": "passage: ", "none": ""}


@pytest.mark.parametrize(
    ("default", "prompt", "name", "chosen"),
    [
        (None, None, None, None),
        ("query", None, None, "query: "),
        ("query", None, "document", "passage: "),
        ("query", "mine: ", "document", "mine: "),
        ("query", "mine: ", None, "mine: "),
        (None, "mine: ", None, "mine: "),
        (None, None, "query", "query: "),
        # An empty prompt switches the default off.
        ("query", "", None, None),
        ("query", "", "document", None),
        ("query", None, "none", None),
        # With a prompt, nobody looks at the name.
        (None, "mine: ", "unknown", "mine: "),
    ],
)
def test_the_prompt_itself_wins_over_its_name_and_that_over_the_default(default, prompt, name, chosen):
    assert choose_prompt(PROMPTS, default_prompt_name=default, prompt=prompt, prompt_name=name) == chosen


@pytest.mark.parametrize(("default", "name"), [(None, "qery"), ("qery", None), ("query", "qery")])
def test_an_unknown_name_is_an_error_that_lists_the_known_ones(default, name):
    with pytest.raises(
        ValueError, match=r"'qery' not found in the configured prompts dictionary with keys.*document"
    ):
        choose_prompt(PROMPTS, default_prompt_name=default, prompt=None, prompt_name=name)


def test_the_first_configured_name_is_found():
    assert first_configured(PROMPTS, ["passage", "document", "query"]) == "document"
    assert first_configured(PROMPTS, ["passage", "corpus"]) is None
    assert first_configured({}, ["query"]) is None
