"""Search among quantised embeddings with faiss or usearch.

Both keep an index in memory, which can be handed back and used again. What differs between the two stands in
`indexes.py`; the course of a search is the same. `exact.py` needs neither package.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from sentence_transformers.search.quantized.codes import (
    FORMS,
    CodedRows,
    Scale,
    as_codes,
    check_codes,
    check_finite,
    check_floats,
    check_multiplier,
    check_precision,
    extremes_of,
    holds_codes,
    rows_of,
    scale_of,
)
from sentence_transformers.search.quantized.indexes import EngineIndex, FaissIndex, UsearchIndex
from sentence_transformers.search.quantized.rescoring import rescored
from sentence_transformers.search.retrieval import Hit, hits_of
from sentence_transformers.tensors.blocks import check_sizes
from sentence_transformers.tensors.precision import as_array, ranges_for
from sentence_transformers.tensors.topk import Best

if TYPE_CHECKING:
    import faiss
    import usearch.index

    Found = (
        tuple[list[list[Hit]], float]
        | tuple[list[list[Hit]], float, faiss.Index]
        | tuple[list[list[Hit]], float, usearch.index.Index]
    )


def semantic_search_faiss(
    query_embeddings: np.ndarray,
    corpus_embeddings: np.ndarray | None = None,
    corpus_index: faiss.Index | None = None,
    corpus_precision: Literal["float32", "uint8", "ubinary"] = "float32",
    top_k: int = 10,
    ranges: np.ndarray | None = None,
    calibration_embeddings: np.ndarray | None = None,
    rescore: bool = True,
    rescore_multiplier: float = 2,
    exact: bool = True,
    output_index: bool = False,
) -> tuple[list[list[dict[str, int | float]]], float, faiss.Index]:
    """Find the entries of a corpus that are most alike to each query, with faiss.

    Scores are dot products, higher is more alike: of the embeddings for `float32`; of the float query and
    what the entry's codes stand for otherwise, where `uint8` stands for the lower end of each step, and
    `ubinary` for 1 and 0. Only without rescoring the score of `ubinary` is the number of dimensions whose
    signs differ, lowest first; and that of `uint8` for queries that are `uint8` themselves is the dot product
    of the codes.

    Another release compares the codes of a float query for `uint8`; but those of each dimension begin at its
    own least value, and their products mostly say how large the codes are. Here the query is weighted by the
    length of the steps, so that candidates are those of the embeddings; scores after rescoring are the same.

    Args:
        query_embeddings: One row per query, (Q, D), or one query, (D,): floats, or codes of
            `corpus_precision`.
        corpus_embeddings: One row per entry: codes of `corpus_precision`, as of `quantize_embeddings`, or
            float embeddings (N, D), which are then quantised. Either these or `corpus_index`.
        corpus_index: An index that an earlier call gave back, or another one of faiss that holds such codes:
            a binary index for `ubinary`; for the others one whose metric is the inner product.
        corpus_precision: What the codes are.
        top_k: How many entries to find for each query.
        ranges: Least and largest value of each dimension, (2, D), by which the codes of `uint8` were or are
            made.
        calibration_embeddings: Embeddings (M, D) from which to take the ranges, if `ranges` is None. With
            neither, a float corpus is quantised by its own ranges, and codes are taken to be made by those of
            the queries.
        rescore: Whether to look for more candidates, and to choose among them by the float query. Only done
            for float queries and a quantised corpus.
        rescore_multiplier: How many candidates to look for, in multiples of `top_k`; 1 or more.
        exact: Whether to compare with every entry, or to search a graph (HNSW), which may miss some. Says how
            an index is built, so it has no effect on `corpus_index`.
        output_index: Whether to return the index, too.

    Returns:
        For each query a list of up to `top_k` dictionaries with `corpus_id`, the entry's number, and `score`,
        best first; the seconds that searching took, without building an index; and the index if
        `output_index`.

    Raises:
        ImportError: If faiss is not installed.
        ValueError: If both or neither of `corpus_embeddings` and `corpus_index` are passed; if the precision
            is not one of the three, or not that of the codes; if widths differ; if an embedding holds NaN or
            infinity; if a size is below 1.
    """
    return search_engine(  # type: ignore[return-value]
        FaissIndex,
        query_embeddings,
        Corpus(corpus_embeddings, corpus_index, corpus_precision, ranges, calibration_embeddings),
        Wanted(top_k, rescore, rescore_multiplier, exact, output_index),
    )


def semantic_search_usearch(
    query_embeddings: np.ndarray,
    corpus_embeddings: np.ndarray | None = None,
    corpus_index: usearch.index.Index | None = None,
    corpus_precision: Literal["float32", "int8", "ubinary", "binary"] = "float32",
    top_k: int = 10,
    ranges: np.ndarray | None = None,
    calibration_embeddings: np.ndarray | None = None,
    rescore: bool = True,
    rescore_multiplier: float = 2,
    exact: bool = True,
    output_index: bool = False,
) -> tuple[list[list[dict[str, int | float]]], float, usearch.index.Index]:
    """Find the entries of a corpus that are most alike to each query, with usearch.

    Scores of rescored entries, and those of `int8` for float queries, are dot products, as in
    `semantic_search_faiss`. The others are the distances of usearch, lowest first: one less the cosine for
    `float32`, the number of dimensions whose signs differ for `binary` and `ubinary`, and for queries that
    are `int8` themselves one less the dot product of the codes.

    Another release compares the codes of a float query for `int8`, and so takes each dimension for as
    important as its range is short. Here the query is weighted by the length of the steps before it is
    rounded, so that candidates are those of the embeddings; scores after rescoring are the same.

    Args:
        query_embeddings: See `semantic_search_faiss`, as for all arguments but these:
        corpus_embeddings: See there.
        corpus_index: An index that an earlier call gave back, or another one of usearch that holds such
            codes, with keys from 0 and the metric `ip` for `int8`, `hamming` for the binary ones.
        corpus_precision: What the codes are.
        top_k: See there.
        ranges: See there; for `int8`.
        calibration_embeddings: See there.
        rescore: See there.
        rescore_multiplier: See there.
        exact: Whether to compare with every entry, or to search the graph that every index of usearch has,
            which may miss some. Of effect on `corpus_index`, too.
        output_index: See there.

    Returns:
        As of `semantic_search_faiss`.

    Raises:
        ImportError: If usearch is not installed.
        ValueError: As of `semantic_search_faiss`.
    """
    return search_engine(  # type: ignore[return-value]
        UsearchIndex,
        query_embeddings,
        Corpus(corpus_embeddings, corpus_index, corpus_precision, ranges, calibration_embeddings),
        Wanted(top_k, rescore, rescore_multiplier, exact, output_index),
    )


@dataclass(frozen=True)
class Corpus:
    """What is searched, as it was passed."""

    embeddings: Any
    index: Any
    precision: str
    ranges: Any
    calibration: Any

    def __post_init__(self) -> None:
        if self.embeddings is not None and self.index is not None:
            raise ValueError(
                "Only corpus_embeddings or corpus_index should be used, not both. Leave one of them out."
            )
        if self.embeddings is None and self.index is None:
            raise ValueError("Either corpus_embeddings or corpus_index should be used. Pass one of them.")


@dataclass(frozen=True)
class Wanted:
    """What a search is to give back."""

    top_k: int
    rescore: bool
    rescore_multiplier: float
    exact: bool
    output_index: bool

    def __post_init__(self) -> None:
        check_sizes(top_k=self.top_k)
        check_multiplier(self.rescore_multiplier)


def search_engine(engine: type[EngineIndex], query_embeddings: Any, corpus: Corpus, wanted: Wanted) -> Found:
    """Search with one of the packages; the public functions say what comes in and out."""
    precision = corpus.precision
    check_precision(precision, engine.precisions)
    queries = as_array(rows_of(query_embeddings, "query_embeddings"))
    if precision == "float32":
        check_floats(queries, "query_embeddings")
    else:
        check_codes(queries, "query_embeddings", precision)
    if not holds_codes(queries):
        check_finite(queries, "query_embeddings")
    rows = None if corpus.embeddings is None else rows_of(corpus.embeddings, "corpus_embeddings")
    scale = scale_for(queries, rows, corpus)
    if rows is None:
        index = engine(corpus.index, precision)
    else:
        rows = rows_to_index(rows, queries, precision, scale)
        index = engine.built(rows, precision, exact=wanted.exact)
    if len(queries):
        check_width_of_queries(queries, index)

    started = time.perf_counter()
    best = best_of_index(queries, index, rows, scale, wanted)
    hits = hits_of(best)
    seconds = time.perf_counter() - started
    return (hits, seconds, index.index) if wanted.output_index else (hits, seconds)


def best_of_index(
    queries: np.ndarray, index: EngineIndex, rows: np.ndarray | None, scale: Scale | None, wanted: Wanted
) -> Best:
    """The best entries for each query; `rows` are the codes in the index, if they are at hand."""
    if not len(queries) or not len(index):
        return Best(torch.empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.int64))
    is_rescored = wanted.rescore and index.precision != "float32" and not holds_codes(queries)
    count = math.ceil(wanted.top_k * wanted.rescore_multiplier) if is_rescored else wanted.top_k
    count = min(count, len(index))
    if scale is not None:
        found = index.search_steps(queries, scale, count, exact=wanted.exact)
    elif holds_codes(queries) or index.precision == "float32":
        found = index.search(queries, count, exact=wanted.exact)
    else:
        found = index.search(as_codes(queries, index.precision, None), count, exact=wanted.exact)
    if not is_rescored:
        return found
    coded = CodedRows(index if rows is None else rows, index.precision, scale, queries.shape[1])
    return rescored(
        queries.astype(np.float32, copy=False),
        found.rows.numpy(),
        coded.bits if index.is_packed else coded.decoded,
        wanted.top_k,
    )


def scale_for(queries: np.ndarray, rows: Any, corpus: Corpus) -> Scale | None:
    """What the steps of the corpus stand for; None where that is of no interest."""
    if corpus.precision == "float32" or FORMS[corpus.precision].is_packed:
        return None
    has_codes = rows is None or holds_codes(rows)
    if holds_codes(queries) and has_codes:
        return None
    width = rows.shape[1] if rows is not None else queries.shape[1]
    scale = scale_of(corpus.ranges, corpus.calibration, width)
    if scale is None and not has_codes:
        scale = extremes_of(rows, "corpus_embeddings") if len(rows) else None
    if scale is None and len(queries):
        # A poor guess, of which a warning is logged, and an error for a single query.
        scale = Scale(*ranges_for(queries, corpus.precision, None, None))
    return scale


def rows_to_index(rows: Any, queries: np.ndarray, precision: str, scale: Scale | None) -> np.ndarray:
    """The corpus as its index takes it: codes, or float32 embeddings."""
    values = as_array(rows)
    if not values.shape[1]:
        values = np.zeros((0, queries.shape[1]), dtype=np.float32)
    if precision == "float32":
        check_floats(values, "corpus_embeddings")
        check_finite(values, "corpus_embeddings")
        return np.ascontiguousarray(values, dtype=np.float32)
    check_codes(values, "corpus_embeddings", precision)
    if not holds_codes(values):
        if not len(values):
            form = FORMS[precision]
            return np.zeros((0, form.width_of_codes(values.shape[1])), dtype=form.dtype)
        values = as_codes(values, precision, scale)
    return np.ascontiguousarray(values)


def check_width_of_queries(queries: np.ndarray, index: EngineIndex) -> None:
    packed = index.is_packed and not holds_codes(queries)
    width = FORMS[index.precision].width_of_codes(queries.shape[1]) if packed else queries.shape[1]
    if width != index.width:
        has = f"{index.width} numbers wide" + (", of eight dimensions each" if index.is_packed else "")
        raise ValueError(
            f"The queries ({queries.dtype}) are {queries.shape[1]} numbers wide, but the corpus is {has}. Pass "
            "embeddings of one model, truncated to the same width."
        )
