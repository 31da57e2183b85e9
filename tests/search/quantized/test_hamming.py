"""The nearest rows by Hamming distance, against counting every bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentence_transformers.search.quantized import hamming
from sentence_transformers.search.quantized.hamming import count_bits, nearest_rows, words_of


def by_definition(queries, corpus, k):
    """Distances and rows, nearest first, equally near ones in the order of the corpus."""
    differs = np.unpackbits(queries, axis=1)[:, None] != np.unpackbits(corpus, axis=1)[None]
    distances = differs.sum(axis=2)
    rows = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, rows, axis=1), rows


def blocks_of(corpus, size):
    return ((start, corpus[start : start + size]) for start in range(0, len(corpus), size))


def random_codes(seed, count, width, kinds=256):
    """Rows of few kinds of bytes have many ties."""
    return np.random.default_rng(seed).integers(0, kinds, (count, width)).astype(np.uint8)


@given(
    seed=st.integers(0, 2**16),
    queries=st.integers(1, 70),
    rows=st.integers(1, 600),
    width=st.integers(1, 41),
    k=st.integers(1, 40),
    size=st.integers(1, 700),
    threads=st.integers(1, 3),
    kinds=st.sampled_from([1, 2, 256]),
)
def test_the_nearest_rows_are_those_of_counting_every_bit(
    seed, queries, rows, width, k, size, threads, kinds
):
    corpus = random_codes(seed, rows, width, kinds)
    questions = random_codes(seed + 1, queries, width, kinds)
    k = min(k, rows)
    distances, found = nearest_rows(questions, blocks_of(corpus, size), k, threads=threads)
    expected_distances, expected = by_definition(questions, corpus, k)
    np.testing.assert_array_equal(distances, expected_distances)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_large_corpus_is_divided_among_threads_without_changing_the_order(threads, monkeypatch):
    monkeypatch.setattr(hamming, "FEWEST_ROWS_OF_A_SPAN", 500)
    corpus = random_codes(0, 9000, 2)
    questions = random_codes(1, 3, 2)
    distances, found = nearest_rows(questions, blocks_of(corpus, 4001), 50, threads=threads)
    expected_distances, expected = by_definition(questions, corpus, 50)
    np.testing.assert_array_equal(distances, expected_distances)
    np.testing.assert_array_equal(found, expected)


def test_distances_of_wide_rows_do_not_overflow():
    corpus = np.stack([np.full(9000, 255, np.uint8), np.full(9000, 1, np.uint8)])
    distances, found = nearest_rows(np.zeros((1, 9000), np.uint8), [(0, corpus)], 2)
    assert distances.tolist() == [[9000, 72000]]
    assert found.tolist() == [[1, 0]]


def test_rows_that_are_too_wide_are_refused():
    with pytest.raises(ValueError, match="too wide"):
        nearest_rows(np.zeros((1, 2**14), np.uint8), [], 1)


def test_no_query_finds_nothing():
    distances, found = nearest_rows(np.zeros((0, 4), np.uint8), [(0, np.zeros((3, 4), np.uint8))], 2)
    assert distances.shape == found.shape == (0, 2)


@pytest.mark.parametrize("has_bit_count", [True, False])
def test_bits_are_counted_with_and_without_numpy_s_own_function(has_bit_count, monkeypatch):
    if has_bit_count and not hasattr(np, "bitwise_count"):
        pytest.skip("numpy before 2.0")
    monkeypatch.setattr(hamming, "HAS_BIT_COUNT", has_bit_count)
    words = np.random.default_rng(0).integers(0, 2**64, (3, 50), dtype=np.uint64)[:, :37]
    counts = np.empty((3, 40), np.uint8)[:, :37]
    count_bits(words, out=counts)
    assert counts.tolist() == [[int(word).bit_count() for word in row] for row in words]


@pytest.mark.parametrize("width", [1, 7, 8, 9, 48])
def test_words_hold_the_bytes_and_zeros(width):
    codes = random_codes(0, 5, width)
    words = words_of(codes)
    assert words.shape == (-(-width // 8), 5)
    padded = np.ascontiguousarray(words.T).view(np.uint8)
    np.testing.assert_array_equal(padded[:, :width], codes)
    assert not padded[:, width:].any()
