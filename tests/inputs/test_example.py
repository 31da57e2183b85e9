"""The older data class for an example."""

from __future__ import annotations

from sentence_transformers.inputs.example import InputExample


def test_an_example_keeps_its_texts_and_label_by_position():
    example = InputExample("id-1", ["a", "b"], 0.5)
    assert (example.guid, example.texts, example.label) == ("id-1", ["a", "b"], 0.5)
    assert "a; b" in str(example)


def test_an_example_needs_nothing():
    example = InputExample()
    assert (example.guid, example.texts, example.label) == ("", None, 0)
    assert "label: 0" in str(example)
