from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentence_transformers.datasets import NoDuplicatesDataLoader
from sentence_transformers.readers import InputExample


@pytest.fixture(autouse=True)
def _same_chance():
    random.seed(0)


def examples_of(*rows):
    return [InputExample(texts=list(texts)) for texts in rows]


@given(
    answers=st.lists(st.integers(0, 6), max_size=30),
    batch_size=st.integers(1, 4),
)
def test_batches_are_full_and_repeat_no_text(answers, batch_size):
    if len(set(answers)) < batch_size:
        return
    loader = NoDuplicatesDataLoader(
        examples_of(*((f"q{row}", f"answer {answer}") for row, answer in enumerate(answers))), batch_size
    )
    batches = list(loader)
    assert len(batches) == len(loader) == len(answers) // batch_size
    for batch in batches:
        texts = [text for example in batch for text in example.texts]
        assert len(texts) == 2 * batch_size == len(set(texts))


def test_case_and_white_space_around_make_no_difference():
    loader = NoDuplicatesDataLoader(examples_of(("a", "x"), ("A ", "y"), ("b", " X"), ("c", "z")), 2)
    for _ in range(20):
        for batch in loader:
            texts = [text.strip().lower() for example in batch for text in example.texts]
            assert len(texts) == len(set(texts))


def test_every_example_comes_once_where_none_is_in_the_way():
    examples = examples_of(*((f"q{row}", f"a{row}") for row in range(12)))
    batches = list(NoDuplicatesDataLoader(examples, 4))
    assert {id(example) for batch in batches for example in batch} == set(map(id, examples))


def test_passes_differ_in_order():
    loader = NoDuplicatesDataLoader(examples_of(*((f"q{row}",) for row in range(12))), 4)
    assert list(loader) != list(loader)


def test_the_collate_function_makes_the_batches():
    loader = NoDuplicatesDataLoader(examples_of(("a",), ("b",)), 2)
    loader.collate_fn = len
    assert list(loader) == [2]


def test_a_batch_that_cannot_be_filled_is_told():
    loader = NoDuplicatesDataLoader(examples_of(*((f"q{row}", "the same") for row in range(4))), 2)
    with pytest.raises(ValueError, match="batch_size=2"):
        list(loader)
