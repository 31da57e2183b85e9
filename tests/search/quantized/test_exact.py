"""Exact search among quantised embeddings, against its definition written out."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sentence_transformers.quantization import quantize_embeddings, semantic_search_quantized
from sentence_transformers.search.quantized import exact
from sentence_transformers.search.quantized.integers import int8_products, rounded_weights
from sentence_transformers.util import semantic_search

PRECISIONS = ("int8", "uint8", "binary", "ubinary")


def floats(seed, rows, width):
    return np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)


def extremes(values):
    return np.stack([values.min(axis=0), values.max(axis=0)])


def what_codes_stand_for(codes, precision, width, ranges):
    if precision in ("binary", "ubinary"):
        unsigned = codes.astype(np.int64) + (128 if precision == "binary" else 0)
        return np.unpackbits(unsigned.astype(np.uint8), axis=1)[:, :width] * 2.0 - 1.0
    unsigned = codes.astype(np.float64) + (128 if precision == "int8" else 0)
    return ranges[0] + unsigned * (ranges[1] - ranges[0]) / 255


def best_of(scores, k):
    """Rows by score, best first, of equal ones the first."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def rows_in(hits):
    return [[hit["corpus_id"] for hit in line] for line in hits]


def scores_in(hits):
    return np.array([[hit["score"] for hit in line] for line in hits])


@given(
    seed=st.integers(0, 2**16),
    rows=st.integers(1, 80),
    width=st.integers(1, 40),
    top_k=st.integers(1, 100),
    precision=st.sampled_from(PRECISIONS),
    max_bytes=st.sampled_from([1, 500, 2**25]),
)
def test_with_every_entry_a_candidate_hits_are_the_best_of_what_the_codes_stand_for(
    seed, rows, width, top_k, precision, max_bytes
):
    queries, corpus = floats(seed, 3, width), floats(seed + 1, rows, width)
    ranges = extremes(corpus)
    codes = quantize_embeddings(corpus, precision, ranges=ranges)
    hits, _ = semantic_search_quantized(
        queries, codes, precision, top_k, ranges=ranges, rescore_multiplier=rows, max_bytes=max_bytes
    )
    scores = queries.astype(np.float64) @ what_codes_stand_for(codes, precision, width, ranges).T
    k = min(top_k, rows)
    assert [len(line) for line in hits] == [k] * 3
    np.testing.assert_allclose(scores_in(hits), -np.sort(-scores, axis=1)[:, :k], atol=1e-4)
    chosen = np.take_along_axis(scores, np.array(rows_in(hits)), axis=1)
    np.testing.assert_allclose(scores_in(hits), chosen, atol=1e-4)


@given(
    seed=st.integers(0, 2**16),
    rows=st.integers(1, 300),
    width=st.integers(1, 70),
    top_k=st.integers(1, 50),
    precision=st.sampled_from(("binary", "ubinary")),
    max_bytes=st.sampled_from([1, 300, 2**25]),
)
def test_without_rescoring_binary_hits_are_those_with_the_most_signs_in_common(
    seed, rows, width, top_k, precision, max_bytes
):
    queries, corpus = floats(seed, 3, width), floats(seed + 1, rows, width)
    hits, _ = semantic_search_quantized(
        queries, quantize_embeddings(corpus, precision), precision, top_k, rescore=False, max_bytes=max_bytes
    )
    scores = np.where(queries > 0, 1, -1) @ np.where(corpus > 0, 1, -1).T
    expected = best_of(scores, top_k)
    assert rows_in(hits) == expected.tolist()
    np.testing.assert_array_equal(scores_in(hits), np.take_along_axis(scores, expected, axis=1))


@given(
    seed=st.integers(0, 2**16),
    rows=st.integers(1, 120),
    width=st.integers(1, 20),
    top_k=st.integers(1, 50),
    precision=st.sampled_from(("int8", "uint8")),
    steps=st.sampled_from([1, 2, 127]),
    max_bytes=st.sampled_from([1, 300, 2**25]),
)
def test_queries_that_are_codes_are_compared_as_whole_numbers(
    seed, rows, width, top_k, precision, steps, max_bytes
):
    generator = np.random.default_rng(seed)
    queries = generator.integers(-steps - 1, steps + 1, (3, width)).astype(np.int8)
    corpus = generator.integers(-steps - 1, steps + 1, (rows, width)).astype(np.int8)
    scores = queries.astype(np.int64) @ corpus.astype(np.int64).T
    if precision == "uint8":
        queries, corpus = ((codes.astype(np.int16) + 128).astype(np.uint8) for codes in (queries, corpus))
    hits, _ = semantic_search_quantized(queries, corpus, precision, top_k, max_bytes=max_bytes)
    expected = best_of(scores, top_k)
    assert rows_in(hits) == expected.tolist()
    np.testing.assert_array_equal(scores_in(hits), np.take_along_axis(scores, expected, axis=1))


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_without_rescoring_steps_are_weighted_by_the_rounded_query(precision):
    queries, corpus = floats(0, 5, 24), floats(1, 200, 24) * np.linspace(0.1, 3, 24, dtype=np.float32)
    ranges = extremes(corpus)
    codes = quantize_embeddings(corpus, precision, ranges=ranges)
    hits, _ = semantic_search_quantized(queries, codes, precision, 20, ranges=ranges, rescore=False)
    step = (ranges[1] - ranges[0]) / 255
    weights = queries * step
    unit = np.abs(weights).max(axis=1, keepdims=True) / 127
    signed = codes.astype(np.int64) - (128 if precision == "uint8" else 0)
    products = np.round(weights / unit).astype(np.int64) @ signed.T
    assert rows_in(hits) == best_of(products, 20).tolist()
    # A weight is rounded by half a unit at most, and a code is 128 at most.
    decoded = queries @ what_codes_stand_for(codes, precision, 24, ranges).T
    found = np.take_along_axis(decoded, np.array(rows_in(hits)), axis=1)
    assert np.all(np.abs(scores_in(hits) - found) <= unit / 2 * 128 * 24)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_float_corpus_is_quantised_on_the_way(precision):
    queries, corpus = floats(0, 4, 19), floats(1, 150, 19)
    ranges = extremes(corpus)
    codes = quantize_embeddings(corpus, precision, ranges=ranges)
    expected, _ = semantic_search_quantized(queries, codes, precision, ranges=ranges)
    for options in ({}, {"ranges": ranges}, {"calibration_embeddings": corpus}, {"max_bytes": 2000}):
        hits, _ = semantic_search_quantized(queries, corpus, precision, **options)
        assert rows_in(hits) == rows_in(expected)
        np.testing.assert_allclose(scores_in(hits), scores_in(expected), atol=1e-5)


@pytest.mark.parametrize("precision", ["binary", "ubinary"])
def test_packed_queries_find_what_float_queries_find_without_rescoring(precision):
    queries, corpus = floats(0, 4, 24), floats(1, 150, 24)
    codes = quantize_embeddings(corpus, precision)
    expected, _ = semantic_search_quantized(queries, codes, precision, rescore=False)
    hits, _ = semantic_search_quantized(quantize_embeddings(queries, precision), codes, precision)
    assert hits == expected


@pytest.mark.parametrize("precision", PRECISIONS)
def test_rescoring_by_the_original_embeddings_gives_their_dot_products(precision):
    queries, corpus = floats(0, 4, 32), floats(1, 150, 32)
    ranges = extremes(corpus)
    codes = quantize_embeddings(corpus, precision, ranges=ranges)
    hits, _ = semantic_search_quantized(
        queries, codes, precision, 5, ranges=ranges, rescore_multiplier=30, rescore_embeddings=corpus
    )
    scores = queries @ corpus.T
    expected = best_of(scores, 5)
    assert rows_in(hits) == expected.tolist()
    np.testing.assert_allclose(scores_in(hits), np.take_along_axis(scores, expected, axis=1), atol=1e-5)


@pytest.mark.parametrize("precision", ["int8", "uint8"])
@pytest.mark.parametrize("calibrated_by", ["ranges", "calibration_embeddings"])
def test_signs_are_rescored_by_steps(precision, calibrated_by):
    queries, corpus = floats(0, 4, 32), floats(1, 150, 32)
    ranges = extremes(corpus)
    codes = quantize_embeddings(corpus, precision, ranges=ranges)
    hits, _ = semantic_search_quantized(
        queries,
        quantize_embeddings(corpus, "ubinary"),
        "ubinary",
        5,
        rescore_multiplier=30,
        rescore_embeddings=codes,
        **{calibrated_by: ranges if calibrated_by == "ranges" else corpus},
    )
    scores = queries @ what_codes_stand_for(codes, precision, 32, ranges).T
    expected = best_of(scores, 5)
    assert rows_in(hits) == expected.tolist()
    np.testing.assert_allclose(scores_in(hits), np.take_along_axis(scores, expected, axis=1), atol=1e-5)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_only_the_best_by_codes_are_rescored(precision):
    queries, corpus = floats(0, 4, 32), floats(1, 300, 32)
    ranges = extremes(corpus)
    options = {"corpus_precision": precision, "ranges": ranges}
    codes = quantize_embeddings(corpus, precision, ranges=ranges)
    candidates, _ = semantic_search_quantized(queries, codes, top_k=15, rescore=False, **options)
    hits, _ = semantic_search_quantized(queries, codes, top_k=6, rescore_multiplier=2.5, **options)
    for line, allowed in zip(rows_in(hits), rows_in(candidates), strict=True):
        assert set(line) <= set(allowed)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("rescore", [True, False])
def test_equal_entries_come_in_the_order_of_the_corpus(precision, rescore):
    corpus = np.repeat(floats(0, 4, 13), 9, axis=0)[np.random.default_rng(1).permutation(36)]
    ranges = extremes(corpus)
    hits, _ = semantic_search_quantized(
        floats(1, 5, 13), corpus, precision, 36, ranges=ranges, rescore=rescore, max_bytes=3000
    )
    for line in hits:
        by_score = {score: [hit["corpus_id"] for hit in group] for score, group in
                    itertools.groupby(line, key=lambda hit: hit["score"])}  # fmt: skip
        assert len(by_score) <= 4
        assert all(rows == sorted(rows) for rows in by_score.values())


def test_float32_is_a_plain_search_by_dot_product():
    queries, corpus = floats(0, 4, 16), floats(1, 60, 16)
    hits, _ = semantic_search_quantized(queries, corpus, "float32", 7)
    scores = queries @ corpus.T
    assert rows_in(hits) == best_of(scores, 7).tolist()


def test_a_hit_holds_plain_numbers_and_the_time_is_in_seconds():
    hits, seconds = semantic_search_quantized(floats(0, 1, 16), floats(1, 60, 16), "binary")
    assert {key: type(value) for key, value in hits[0][0].items()} == {"corpus_id": int, "score": float}
    assert isinstance(seconds, float)
    assert 0 < seconds < 60


@pytest.mark.parametrize("precision", ["float32", *PRECISIONS])
def test_one_query_need_not_be_a_list(precision):
    queries, corpus = floats(0, 3, 16), floats(1, 60, 16)
    alone, _ = semantic_search_quantized(queries[1], corpus, precision)
    listed, _ = semantic_search_quantized(queries[1:2], corpus, precision)
    assert alone == listed


@pytest.mark.parametrize("precision", ["float32", *PRECISIONS])
@pytest.mark.parametrize(
    "form",
    [torch.from_numpy, lambda rows: torch.from_numpy(rows).double(), list, np.ndarray.tolist, np.float64],
    ids=["tensor", "double tensor", "list of arrays", "lists", "float64"],
)
def test_embeddings_come_in_any_form(precision, form):
    queries, corpus = floats(0, 3, 16), floats(1, 60, 16)
    expected, _ = semantic_search_quantized(queries, corpus, precision)
    for arguments in ((form(queries), corpus), (queries, form(corpus))):
        hits, _ = semantic_search_quantized(*arguments, precision)
        assert rows_in(hits) == rows_in(expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_searched(dtype):
    queries, corpus = torch.from_numpy(floats(0, 3, 16)), torch.from_numpy(floats(1, 60, 16)).to(dtype)
    hits, _ = semantic_search_quantized(
        queries, corpus, "binary", rescore_embeddings=corpus, rescore_multiplier=6
    )
    assert rows_in(hits) == best_of((queries @ corpus.float().T).numpy(), 10).tolist()


@pytest.mark.parametrize("precision", ["float32", *PRECISIONS])
def test_a_memory_mapped_corpus_is_searched_in_place(precision, tmp_path):
    queries, corpus = floats(0, 3, 21), floats(1, 500, 21)
    ranges = extremes(corpus)
    np.save(tmp_path / "codes.npy", quantize_embeddings(corpus, precision, ranges=ranges))
    np.save(tmp_path / "floats.npy", corpus)
    codes = np.load(tmp_path / "codes.npy", mmap_mode="r")
    original = np.load(tmp_path / "floats.npy", mmap_mode="r")
    expected, _ = semantic_search_quantized(
        queries, np.array(codes), precision, ranges=ranges, rescore_embeddings=corpus
    )
    hits, _ = semantic_search_quantized(
        queries, codes, precision, ranges=ranges, rescore_embeddings=original, max_bytes=4000
    )
    assert rows_in(hits) == rows_in(expected)


class CountingRows(np.ndarray):
    """An array that notes how many rows are read from it."""

    read = 0

    def __getitem__(self, key):
        part = super().__getitem__(key)
        if isinstance(key, np.ndarray):
            type(self).read += len(key)
        return part.view(np.ndarray) if isinstance(part, np.ndarray) else part


def test_of_the_original_embeddings_only_the_candidates_are_read():
    queries, corpus = floats(0, 3, 16), floats(1, 600, 16)
    original = corpus.view(CountingRows)
    CountingRows.read = 0
    semantic_search_quantized(queries, corpus, "binary", 5, rescore_multiplier=2, rescore_embeddings=original)
    assert 10 <= CountingRows.read <= 30


@pytest.mark.parametrize("precision", ["float32", *PRECISIONS])
def test_nothing_to_search_gives_no_hits(precision):
    queries, corpus = floats(0, 2, 16), floats(1, 20, 16)
    assert semantic_search_quantized(queries, corpus[:0], precision)[0] == [[], []]
    assert semantic_search_quantized(queries[:0], corpus, precision)[0] == []
    assert semantic_search_quantized([], corpus, precision)[0] == []


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_dimension_that_never_changes_does_no_harm(precision):
    queries, corpus = floats(0, 3, 16), floats(1, 50, 16)
    corpus[:, 3] = 0.25
    hits, _ = semantic_search_quantized(queries, corpus, precision, 50)
    assert np.isfinite(scores_in(hits)).all()
    if precision in ("int8", "uint8"):
        ranges = extremes(corpus)
        decoded = what_codes_stand_for(quantize_embeddings(corpus, precision), precision, 16, ranges)
        assert (decoded[:, 3] == 0.25).all()
        found = np.take_along_axis(queries @ decoded.T, np.array(rows_in(hits)), axis=1)
        np.testing.assert_allclose(scores_in(hits), found, atol=1e-4)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_query_of_zeros_finds_the_first_entries(precision):
    corpus = floats(1, 50, 16)
    hits, _ = semantic_search_quantized(np.zeros(16, np.float32), corpus, precision, 50)
    assert rows_in(hits) == [list(range(50))] or precision in ("binary", "ubinary")
    assert set(scores_in(hits)[0]) == {0.0}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_no_code_can_say_are_refused(precision, bad):
    queries, corpus = floats(0, 3, 16), floats(1, 50, 16)
    damaged = corpus.copy()
    damaged[41, 2] = bad
    with pytest.raises(ValueError, match="Row 41 of corpus_embeddings holds NaN or infinity"):
        semantic_search_quantized(queries, damaged, precision, ranges=extremes(corpus), max_bytes=3000)
    with pytest.raises(ValueError, match="Row 1 of query_embeddings holds NaN or infinity"):
        semantic_search_quantized(np.stack([queries[0], damaged[41]]), corpus, precision)


def test_with_float32_entries_that_hold_nan_are_left_out():
    queries, corpus = floats(0, 1, 16), floats(1, 5, 16)
    corpus[2, 0] = np.nan
    hits, _ = semantic_search_quantized(queries, corpus, "float32")
    assert sorted(rows_in(hits)[0]) == [0, 1, 3, 4]


def test_original_embeddings_that_hold_nan_are_left_out():
    queries, corpus = floats(0, 1, 16), floats(1, 5, 16)
    damaged = corpus.copy()
    damaged[2, 0] = np.nan
    hits, _ = semantic_search_quantized(queries, corpus, "binary", rescore_embeddings=damaged)
    assert sorted(rows_in(hits)[0]) == [0, 1, 3, 4]


QUERIES, CORPUS = floats(0, 3, 16), floats(1, 50, 16)
STEPS = quantize_embeddings(CORPUS, "int8", ranges=extremes(CORPUS))
SIGNS = quantize_embeddings(CORPUS, "ubinary")


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((QUERIES, CORPUS, "int4"), {}, "corpus_precision='int4' is not known.*'ubinary'"),
        ((QUERIES, CORPUS, "int8"), {"top_k": 0}, "top_k=0"),
        ((QUERIES, CORPUS, "int8"), {"rescore_multiplier": 0.5}, "rescore_multiplier=0.5"),
        ((QUERIES, CORPUS, "int8"), {"max_bytes": 0}, "max_bytes=0"),
        ((QUERIES[:, :8], CORPUS, "int8"), {}, "8 numbers wide, and the corpus .* 16"),
        ((QUERIES[:, :8], SIGNS, "ubinary"), {}, "8 numbers wide, and the corpus .* 2.*eight dimensions"),
        ((QUERIES[:, :8], CORPUS, "float32"), {}, "8 numbers wide, and the corpus 16"),
        ((QUERIES, STEPS, "uint8"), {}, "codes of int8.*'int8' or 'binary'"),
        ((QUERIES, SIGNS, "binary"), {}, "codes of uint8.*'uint8' or 'ubinary'"),
        ((STEPS, SIGNS, "ubinary"), {}, "query_embeddings holds codes of int8"),
        ((QUERIES, SIGNS, "float32"), {}, "corpus_embeddings holds codes of uint8"),
        ((QUERIES, STEPS, "int8"), {}, "Pass the `ranges` or `calibration_embeddings`"),
        ((QUERIES, CORPUS.astype(np.int64), "int8"), {}, "int64, which is neither an embedding nor a code"),
        ((QUERIES, CORPUS[None], "int8"), {}, r"corpus_embeddings has shape \(1, 50, 16\)"),
        ((QUERIES, STEPS, "int8"), {"ranges": extremes(CORPUS)[:, :3]}, r"ranges has shape \(2, 3\)"),
        ((QUERIES, STEPS, "int8"), {"ranges": extremes(CORPUS)[::-1]}, "least where it is largest"),
        ((QUERIES, STEPS, "int8"), {"ranges": extremes(CORPUS) * np.nan}, "Row 0 of ranges holds NaN"),
        (
            (QUERIES, STEPS, "int8"),
            {"calibration_embeddings": CORPUS[:, :3]},
            "calibration_embeddings has shape",
        ),
        (
            (QUERIES, SIGNS, "ubinary"),
            {"rescore_embeddings": CORPUS[1:]},
            r"rescore_embeddings has shape \(49, 16\)",
        ),
        (
            (QUERIES, SIGNS, "ubinary"),
            {"rescore_embeddings": STEPS},
            "rescore_embeddings holds int8 codes.*Pass the `ranges`",
        ),
    ],
)
def test_what_cannot_be_searched_is_refused_at_the_door(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        semantic_search_quantized(*arguments, **options)


@given(width=st.integers(1, 3000), seed=st.integers(0, 100))
def test_products_of_codes_are_exact_at_any_width(width, seed):
    generator = np.random.default_rng(seed)
    extreme = np.full((1, width), -128, np.int8)
    a, b = (
        np.concatenate([generator.integers(-128, 128, (3, width)).astype(np.int8), extreme]) for _ in range(2)
    )
    products = int8_products(torch.from_numpy(a), torch.from_numpy(b))
    np.testing.assert_array_equal(products.numpy(), a.astype(np.int64) @ b.astype(np.int64).T)


def test_products_of_codes_stay_exact_under_autocast():
    a = torch.randint(-128, 128, (3, 300), dtype=torch.int8, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        products = int8_products(a, a)
    torch.testing.assert_close(products.long(), a.long() @ a.long().T)


def test_rounded_weights_use_the_whole_range_of_codes():
    weights, step = rounded_weights(torch.tensor([[0.5, -1.0, 0.004], [0.0, 0.0, 0.0]]))
    assert weights.tolist() == [[64, -127, 1], [0, 0, 0]]
    assert step.flatten().tolist() == pytest.approx([1 / 127, 1])


def test_steps_keep_the_order_of_the_embeddings_better_than_signs():
    queries, corpus = floats(0, 20, 64), floats(1, 2000, 64)
    wanted = [
        {hit["corpus_id"] for hit in line} for line in semantic_search(queries, corpus, score_function=dot)
    ]
    recall = {}
    for precision in ("int8", "binary"):
        hits, _ = semantic_search_quantized(queries, corpus, precision, rescore=False)
        recall[precision] = np.mean(
            [len(set(line) & found) / 10 for line, found in zip(rows_in(hits), wanted)]
        )
    assert recall["int8"] > 0.93
    assert recall["int8"] > recall["binary"] + 0.3


def dot(a, b):
    return a @ b.mT


def test_memory_to_work_in_is_kept_small(monkeypatch):
    """Blocks of the corpus follow from `max_bytes`."""
    sizes = []
    read = exact.CodedRows.codes

    def noted(self, rows):
        codes = read(self, rows)
        sizes.append(codes.nbytes)
        return codes

    monkeypatch.setattr(exact.CodedRows, "codes", noted)
    codes = np.random.default_rng(0).integers(0, 256, (5000, 48)).astype(np.uint8)
    semantic_search_quantized(floats(0, 2, 384), codes, "ubinary", max_bytes=2**15, rescore=False)
    assert max(sizes) <= 2**14
    assert sum(sizes) == codes.nbytes
