"""Numbering texts: each once, in order, with all that belongs to an anchor."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from sentence_transformers.search.hard_negatives.texts import texts_of

LETTERS = st.sampled_from("abcdef")


@given(st.lists(st.tuples(LETTERS, LETTERS), min_size=1, max_size=12), st.none() | st.lists(LETTERS))
def test_numbers_stand_for_the_texts_of_the_dataset(pairs, corpus):
    texts = texts_of([first for first, _ in pairs], [second for _, second in pairs], corpus)
    assert texts.anchors == list(dict.fromkeys(first for first, _ in pairs))
    assert texts.corpus == list(dict.fromkeys([*(corpus or []), *(second for _, second in pairs)]))
    read = [
        (texts.anchors[anchor], texts.corpus[row])
        for anchor, row in zip(texts.pair_anchors.tolist(), texts.pair_positives.tolist(), strict=True)
    ]
    # Anchor by anchor, each with its positives in the order of the dataset.
    different = list(dict.fromkeys(pairs))
    assert read == [pair for anchor in texts.anchors for pair in different if pair[0] == anchor]
    assert texts.row_count == len(pairs)
    assert texts.most_positives == max(sum(pair[0] == anchor for pair in pairs) for anchor in texts.anchors)


@given(st.lists(st.tuples(LETTERS, LETTERS), min_size=1, max_size=12), st.data())
def test_positives_of_some_anchors_are_found(pairs, data):
    texts = texts_of([first for first, _ in pairs], [second for _, second in pairs])
    start = data.draw(st.integers(0, len(texts.anchors) - 1))
    anchors = range(start, data.draw(st.integers(start + 1, len(texts.anchors))))
    rows = torch.arange(-1, len(texts.corpus)).repeat(len(anchors), 1)
    expected = [
        [row >= 0 and (texts.anchors[a], texts.corpus[row]) in pairs for row in rows[0]] for a in anchors
    ]
    assert texts.are_positives(anchors, rows).tolist() == expected


def test_an_anchors_own_text_is_known_unless_it_is_a_positive_of_it():
    texts = texts_of(["a", "b", "c"], ["x", "b", "a"], ["c"])
    assert texts.corpus == ["c", "x", "b", "a"]
    assert texts.own_rows.tolist() == [3, -1, 0]
