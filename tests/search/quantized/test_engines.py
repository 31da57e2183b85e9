"""Search with faiss and usearch: against their definition, our own search, and what another release gives."""

import json
import sys

import numpy as np
import pytest
import torch

from quantized_search_cases import RECORDED, cases, embeddings, found_by
from sentence_transformers import quantization
from sentence_transformers.quantization import (
    quantize_embeddings,
    semantic_search_faiss,
    semantic_search_quantized,
    semantic_search_usearch,
)

pytest.importorskip("faiss")
pytest.importorskip("usearch")

ENGINES = [
    (semantic_search_faiss, "float32"),
    (semantic_search_faiss, "uint8"),
    (semantic_search_faiss, "ubinary"),
    (semantic_search_usearch, "float32"),
    (semantic_search_usearch, "int8"),
    (semantic_search_usearch, "ubinary"),
    (semantic_search_usearch, "binary"),
]
QUANTIZED = [(search, precision) for search, precision in ENGINES if precision != "float32"]
every_engine = pytest.mark.parametrize(
    ("search", "precision"),
    ENGINES,
    ids=[f"{search.__name__[16:]}-{precision}" for search, precision in ENGINES],
)
every_quantized_engine = pytest.mark.parametrize(
    ("search", "precision"),
    QUANTIZED,
    ids=[f"{search.__name__[16:]}-{precision}" for search, precision in QUANTIZED],
)

QUERIES, CORPUS = embeddings()
RANGES = np.stack([CORPUS.min(axis=0), CORPUS.max(axis=0)])

# Which of equally near entries are candidates is up to the packages, so all are.
ALL = {"rescore_multiplier": len(CORPUS)}


def codes_of(precision):
    return quantize_embeddings(CORPUS, precision, ranges=RANGES)


def rows_in(hits):
    return [[hit["corpus_id"] for hit in line] for line in hits]


def scores_in(hits):
    return np.array([[hit["score"] for hit in line] for line in hits])


def by_row(hits):
    return [{hit["corpus_id"]: hit["score"] for hit in line} for line in hits]


RECORDED_RESULTS = json.loads(RECORDED.read_text(encoding="utf-8"))


def is_mended(case):
    """Searches by steps for float queries: another release finds other candidates, and scores them otherwise."""
    by_steps = case.precision in ("int8", "uint8") and not case.has_code_queries
    return by_steps and (not case.rescore or case.top_k * case.multiplier < len(CORPUS))


@pytest.mark.parametrize(
    "case", [case for case in cases() if not is_mended(case)], ids=lambda case: case.name
)
def test_scores_are_those_of_another_release(case):
    found = found_by(case, quantization)
    recorded = [{int(row): score for row, score in line.items()} for line in RECORDED_RESULTS[case.name]]
    if case.precision in ("ubinary", "binary") and case.top_k * case.multiplier < len(CORPUS):
        # Which of equally near entries are candidates is up to the packages.
        assert sum(len(set(a) & set(b)) for a, b in zip(found, recorded)) >= 0.7 * case.top_k * len(QUERIES)
        return
    for line, other in zip(found, recorded, strict=True):
        # Which of equally near entries is last is up to the packages.
        limit = list(other.values())[-1]
        assert {row for row in line if line[row] != pytest.approx(limit, abs=1e-5)} <= set(other)
        assert sorted(line.values()) == pytest.approx(sorted(other.values()), abs=1e-5, rel=1e-6)
        assert all(
            line[row] == pytest.approx(other[row], abs=1e-5, rel=1e-6) for row in set(line) & set(other)
        )


@pytest.mark.parametrize("case", [case for case in cases() if is_mended(case)], ids=lambda case: case.name)
def test_candidates_by_steps_are_nearer_than_those_of_another_release(case):
    found, wanted = found_by(case, quantization), np.argsort(-QUERIES @ CORPUS.T, axis=1)
    k = 5
    ours = sum(len(set(list(line)[:k]) & set(best[:k])) for line, best in zip(found, wanted, strict=True))
    recorded = RECORDED_RESULTS[case.name]
    theirs = sum(len(set(map(int, list(line)[:k])) & set(best[:k])) for line, best in zip(recorded, wanted))
    assert ours > theirs
    assert ours >= 0.9 * k * len(QUERIES)


@every_engine
def test_the_best_come_first_and_scores_of_floats_and_rescored_codes_are_dot_products(search, precision):
    hits, _ = search(QUERIES, codes_of(precision), None, precision, 7, ranges=RANGES, rescore_multiplier=13)
    scores = scores_in(hits)
    assert scores.shape == (4, 7)
    if precision == "float32" and search is semantic_search_usearch:
        scores = 1 - scores
    assert (np.diff(scores, axis=1) <= 0).all()
    exact = np.take_along_axis(QUERIES @ CORPUS.T, np.array(rows_in(hits)), axis=1)
    if precision in ("float32", "int8", "uint8"):
        np.testing.assert_allclose(scores, exact, atol=1e-5 if precision == "float32" else 0.02)
        best = -np.sort(-QUERIES @ CORPUS.T, axis=1)[:, :7]
        np.testing.assert_allclose(exact, best, atol=1e-6 if precision == "float32" else 0.02)


@every_quantized_engine
def test_with_every_entry_a_candidate_hits_are_those_of_our_own_search(search, precision):
    options = {"top_k": 7, "ranges": RANGES, "rescore_multiplier": 13}
    hits, _ = search(QUERIES, codes_of(precision), corpus_precision=precision, **options)
    own, _ = semantic_search_quantized(QUERIES, codes_of(precision), precision, **options)
    assert rows_in(hits) == rows_in(own)
    if precision in ("int8", "uint8"):
        np.testing.assert_allclose(scores_in(hits), scores_in(own), atol=1e-5)


@every_quantized_engine
def test_without_rescoring_scores_are_those_of_our_own_search(search, precision):
    options = {"top_k": len(CORPUS), "ranges": RANGES, "rescore": False}
    hits, _ = search(QUERIES, codes_of(precision), corpus_precision=precision, **options)
    own, _ = semantic_search_quantized(QUERIES, codes_of(precision), precision, **options)
    for line, other in zip(by_row(hits), by_row(own), strict=True):
        if precision in ("ubinary", "binary"):
            line = {row: CORPUS.shape[1] - 2 * distance for row, distance in line.items()}
        # faiss takes the query as it is, the others round it to 255 steps.
        assert line == pytest.approx(other, abs=0.01 if precision == "uint8" else 1e-5)


@every_engine
def test_a_graph_finds_most_of_what_comparing_with_every_entry_finds(search, precision):
    options = {"corpus_precision": precision, "top_k": 10, "ranges": RANGES}
    exact, _ = search(QUERIES, codes_of(precision), **options)
    found, _ = search(QUERIES, codes_of(precision), exact=False, **options)
    common = [len(set(a) & set(b)) for a, b in zip(rows_in(exact), rows_in(found), strict=True)]
    assert sum(common) >= 20


@every_engine
@pytest.mark.parametrize("exact", [True, False])
def test_an_index_can_be_used_again(search, precision, exact):
    options = {"corpus_precision": precision, "top_k": 7, "ranges": RANGES, "exact": exact, **ALL}
    hits, seconds, index = search(QUERIES, codes_of(precision), output_index=True, **options)
    again, _ = search(QUERIES, corpus_index=index, **options)
    assert by_row(again) == [pytest.approx(line) for line in by_row(hits)]
    assert 0 < seconds < 60
    once_more = search(QUERIES, corpus_index=index, output_index=True, **options)
    assert once_more[2] is index


@every_engine
def test_a_float_corpus_is_quantised_first(search, precision):
    expected, _ = search(QUERIES, codes_of(precision), corpus_precision=precision, ranges=RANGES, **ALL)
    for options in ({}, {"ranges": RANGES}, {"calibration_embeddings": CORPUS}):
        hits, _ = search(QUERIES, CORPUS, corpus_precision=precision, **options, **ALL)
        assert by_row(hits) == [pytest.approx(line, abs=1e-5) for line in by_row(expected)]


@every_engine
def test_one_query_need_not_be_a_list(search, precision):
    options = {"corpus_precision": precision, "ranges": RANGES, "top_k": 5, **ALL}
    alone, _ = search(QUERIES[2], codes_of(precision), **options)
    listed, _ = search(QUERIES[2:3], codes_of(precision), **options)
    assert len(alone) == 1
    assert by_row(alone) == [pytest.approx(by_row(listed)[0])]


@every_engine
def test_tensors_lists_and_memory_maps_are_searched(search, precision, tmp_path):
    options = {"corpus_precision": precision, "ranges": RANGES, "top_k": 5, **ALL}
    expected, _ = search(QUERIES, codes_of(precision), **options)
    np.save(tmp_path / "codes.npy", codes_of(precision))
    mapped = np.load(tmp_path / "codes.npy", mmap_mode="r")
    for queries, corpus in (
        (torch.from_numpy(QUERIES), torch.from_numpy(codes_of(precision))),
        (QUERIES.tolist(), list(codes_of(precision))),
        (QUERIES.astype(np.float64), mapped),
    ):
        hits, _ = search(queries, corpus, **options)
        assert by_row(hits) == [pytest.approx(line, abs=1e-5) for line in by_row(expected)]


@every_engine
def test_more_hits_than_entries_are_not_made_up(search, precision):
    hits, _ = search(QUERIES, codes_of(precision), corpus_precision=precision, top_k=500, ranges=RANGES)
    assert [sorted(line) for line in rows_in(hits)] == [list(range(len(CORPUS)))] * 4


@every_engine
def test_nothing_to_search_gives_no_hits(search, precision):
    codes = codes_of(precision)
    assert search(QUERIES, codes[:0], corpus_precision=precision, ranges=RANGES)[0] == [[]] * 4
    assert search(QUERIES, CORPUS[:0], corpus_precision=precision)[0] == [[]] * 4
    assert search(QUERIES[:0], codes, corpus_precision=precision, ranges=RANGES)[0] == []
    _, _, index = search(QUERIES, codes[:0], corpus_precision=precision, ranges=RANGES, output_index=True)
    assert search(QUERIES, corpus_index=index, corpus_precision=precision, ranges=RANGES)[0] == [[]] * 4


@pytest.mark.parametrize(
    ("search", "precision"), [(semantic_search_faiss, "ubinary"), (semantic_search_usearch, "binary")]
)
def test_a_width_that_is_no_multiple_of_eight_is_searched(search, precision):
    codes = quantize_embeddings(CORPUS[:, :13], precision)
    hits, _ = search(QUERIES[:, :13], codes, corpus_precision=precision, top_k=len(CORPUS))
    scores = QUERIES[:, :13] @ (CORPUS[:, :13] > 0).T
    for line, expected in zip(by_row(hits), scores, strict=True):
        assert line == pytest.approx(dict(enumerate(expected.tolist())), abs=1e-5)


@pytest.mark.parametrize(
    ("search", "precision"), [(semantic_search_faiss, "uint8"), (semantic_search_usearch, "int8")]
)
def test_without_ranges_steps_are_taken_to_be_those_of_the_queries(search, precision, caplog):
    codes = quantize_embeddings(
        CORPUS, precision, ranges=np.stack([QUERIES.min(axis=0), QUERIES.max(axis=0)])
    )
    hits, _ = search(QUERIES, codes, corpus_precision=precision, top_k=3, rescore_multiplier=30)
    assert "only 4 embeddings" in caplog.text
    assert np.isfinite(scores_in(hits)).all()
    with pytest.raises(ValueError, match="cannot be computed from a single embedding"):
        search(QUERIES[:1], codes, corpus_precision=precision)


@every_engine
def test_what_cannot_be_searched_is_refused_at_the_door(search, precision):
    codes = codes_of(precision)
    options = {"corpus_precision": precision, "ranges": RANGES}
    _, _, index = search(QUERIES, codes, output_index=True, **options)
    with pytest.raises(ValueError, match="not both"):
        search(QUERIES, codes, index, **options)
    with pytest.raises(ValueError, match="Either corpus_embeddings or corpus_index"):
        search(QUERIES, **options)
    with pytest.raises(
        ValueError, match=r"numbers wide, but the corpus is|Pass the least and the largest value"
    ):
        search(QUERIES[:, :40], codes, corpus_precision=precision, ranges=RANGES[:, :40])
    with pytest.raises(
        ValueError, match=r"numbers wide, but the corpus is|Pass the least and the largest value"
    ):
        search(QUERIES[:, :40], corpus_index=index, corpus_precision=precision, ranges=RANGES[:, :40])
    with pytest.raises(ValueError, match="top_k=0"):
        search(QUERIES, codes, top_k=0, **options)
    with pytest.raises(ValueError, match="rescore_multiplier=0 finds fewer"):
        search(QUERIES, codes, rescore_multiplier=0, **options)
    damaged = QUERIES.copy()
    damaged[3, 1] = np.nan
    with pytest.raises(ValueError, match="Row 3 of query_embeddings holds NaN"):
        search(damaged, codes, **options)
    with pytest.raises(ValueError, match="Row 3 of corpus_embeddings holds NaN"):
        search(QUERIES, damaged, **options)
    with pytest.raises(ValueError, match=r"corpus_embeddings holds codes of"):
        search(QUERIES, CORPUS.astype(np.uint8 if codes.dtype != np.uint8 else np.int8), **options)


@pytest.mark.parametrize(
    ("search", "precision"), [(semantic_search_faiss, "int8"), (semantic_search_usearch, "uint8")]
)
def test_a_precision_that_a_package_lacks_is_refused(search, precision):
    with pytest.raises(
        ValueError, match=f"corpus_precision='{precision}' is not known. Pass one of 'float32'"
    ):
        search(QUERIES, codes_of(precision), corpus_precision=precision, ranges=RANGES)


@pytest.mark.parametrize(
    ("search", "package", "command"),
    [
        (semantic_search_faiss, "faiss", "pip install faiss-cpu"),
        (semantic_search_usearch, "usearch.index", "pip install usearch"),
    ],
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(search, package, command, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=command):
        search(QUERIES, CORPUS)


def test_an_index_that_gives_nothing_back_cannot_be_rescored():
    import faiss

    index = faiss.IndexIDMap(faiss.IndexFlatIP(CORPUS.shape[1]))
    index.add_with_ids(codes_of("uint8").astype(np.float32), np.arange(len(CORPUS)))
    options = {"corpus_index": index, "corpus_precision": "uint8", "ranges": RANGES}
    with pytest.raises(ValueError, match=r"IndexIDMap.*rescore=False"):
        semantic_search_faiss(QUERIES, **options)
    hits, _ = semantic_search_faiss(QUERIES, rescore=False, **options)
    expected, _ = semantic_search_faiss(QUERIES, codes_of("uint8"), corpus_precision="uint8", ranges=RANGES)
    assert rows_in(hits) == rows_in(expected)
