from __future__ import annotations

import random

import pytest

from sentence_transformers.losses import ContrastiveTensionDataLoader

SENTENCES = [f"sentence {number}" for number in range(100)]


@pytest.fixture(autouse=True)
def _same_chance():
    random.seed(0)


def test_one_pair_in_so_many_is_a_text_with_itself():
    loader = ContrastiveTensionDataLoader(SENTENCES, batch_size=16, pos_neg_ratio=8)
    batches = list(loader)
    assert len(batches) == len(loader) == 3
    for batch in batches:
        assert [example.label for example in batch] == [1, *[0] * 7, 1, *[0] * 7]
        for example in batch:
            assert (example.texts[0] == example.texts[1]) == (example.label == 1)


def test_every_text_is_used_at_most_once():
    used = [
        text
        for batch in ContrastiveTensionDataLoader(SENTENCES, batch_size=8, pos_neg_ratio=4)
        for example in batch
        for text in set(example.texts)
    ]
    assert len(used) == len(set(used)) == 7 * 14


@pytest.mark.parametrize(("count", "length"), [(13, 0), (14, 1), (27, 1), (28, 2)])
def test_the_length_is_what_the_texts_suffice_for(count, length):
    # The same lengths as those of the reference, 3.4.1 and 6.2.0.
    loader = ContrastiveTensionDataLoader(SENTENCES[:count], batch_size=8, pos_neg_ratio=4)
    assert len(loader) == len(list(loader)) == length


def test_the_collate_function_makes_the_batches():
    loader = ContrastiveTensionDataLoader(SENTENCES, batch_size=16)
    loader.collate_fn = len
    assert list(loader) == [16, 16, 16]


@pytest.mark.parametrize("ratio", [4, 0])
def test_a_ratio_that_does_not_divide_the_batch_is_refused(ratio):
    with pytest.raises(ValueError, match=f"batch_size=6 .*pos_neg_ratio={ratio}"):
        ContrastiveTensionDataLoader(SENTENCES, batch_size=6, pos_neg_ratio=ratio)
