"""Exact search among quantised embeddings, with nothing but numpy and torch.

Codes are compared as whole numbers, which is exact: bits by how many differ, steps by their dot product. Of
the candidates that are found so, the best are chosen by the float query and what the codes stand for, or by
the embeddings that they were made of.

Yamada et al. 2021, "Efficient Passage Retrieval with Hashing for Open-domain Question Answering", search with
bits and rescore with the float query.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

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
    dtype_of,
    extremes_of,
    holds_codes,
    in_one_form,
    rows_of,
    scale_of,
)
from sentence_transformers.search.quantized.hamming import nearest_rows
from sentence_transformers.search.quantized.integers import int8_products, rounded_weights
from sentence_transformers.search.quantized.rescoring import DEFAULT_BYTES, rescored
from sentence_transformers.search.retrieval import Hit, hits_of
from sentence_transformers.tensors.blocks import check_sizes
from sentence_transformers.tensors.precision import PRECISIONS, as_array
from sentence_transformers.tensors.similarity import dot_score
from sentence_transformers.tensors.topk import Best, TopK


def semantic_search_quantized(
    query_embeddings: np.ndarray | Tensor,
    corpus_embeddings: np.ndarray | Tensor,
    corpus_precision: Literal["float32", "int8", "uint8", "binary", "ubinary"] = "int8",
    top_k: int = 10,
    ranges: np.ndarray | None = None,
    calibration_embeddings: np.ndarray | None = None,
    rescore: bool = True,
    rescore_multiplier: float = 4,
    rescore_embeddings: np.ndarray | Tensor | None = None,
    *,
    max_bytes: int = DEFAULT_BYTES,
) -> tuple[list[list[Hit]], float]:
    """Find the entries of a quantised corpus that are most alike to each query, without any further package.

    The search over the codes is exact, and of entries that score the same the first of the corpus comes
    first. Nothing is kept between calls: store the codes (`quantize_embeddings`), and pass them, or a
    memory-mapped array of them, to each call.

    Scores are dot products, higher is more alike, of the float query and of what the entry's codes stand for:
    the lower end of each step, or 1 and -1 for the signs. So for `int8` and `uint8` they are close to the
    scores of the embeddings themselves. Without rescoring the query is rounded, too, to whole numbers from
    -127 to 127, or to its signs. Queries that are codes are compared with the codes of the corpus (those of
    `uint8` less 128), and for `binary` and `ubinary` that is the number of dimensions less twice those that
    differ.

    Args:
        query_embeddings: One row per query, (Q, D), or one query, (D,): floats, or codes of
            `corpus_precision`.
        corpus_embeddings: One row per entry: codes of `corpus_precision`, as of `quantize_embeddings`, or
            float embeddings, (N, D), which are then quantised block by block. May be memory-mapped.
        corpus_precision: What the codes are. With `float32` this is a plain search by dot product.
        top_k: How many entries to find for each query.
        ranges: Least and largest value of each dimension, (2, D), by which the codes of `int8` or `uint8`
            were or are made.
        calibration_embeddings: Embeddings (M, D) from which to take the ranges, if `ranges` is None. With
            neither, a float corpus is quantised by its own ranges.
        rescore: Whether to look for more candidates, and to choose among them by the float query. Not done
            for queries that are codes.
        rescore_multiplier: How many candidates to look for, in multiples of `top_k`; 1 or more.
        rescore_embeddings: The embeddings (N, D) that the codes were made of, to choose by these instead of
            by the codes; then scores are those of the embeddings. Floats, or `int8` or `uint8` codes made by
            `ranges` or `calibration_embeddings`. May be memory-mapped: only the rows of candidates are read.
        max_bytes: Memory to work in, beside the queries, the codes that were passed, the result, and about a
            megabyte for each thread; 32 MiB.

    Returns:
        For each query a list of up to `top_k` dictionaries with `corpus_id`, the entry's number, and `score`,
        best first; and the seconds that the search took. An empty corpus gives empty lists.

    Raises:
        ValueError: If the precision is unknown or not that of the codes; if widths differ; if an embedding
            holds NaN or infinity (with `float32`, such an entry is only left out); if the queries are floats
            and nothing says what the steps of the corpus stand for; if a size is below 1.

    Example:
        >>> codes = quantize_embeddings(model.encode(["Birds fly.", "Stones lie."]), "binary")
        >>> hits, seconds = semantic_search_quantized(model.encode(["What flies?"]), codes, "binary")
        >>> hits[0][0]["corpus_id"]
        0
    """
    search = QuantizedSearch.checked(
        query_embeddings,
        corpus_embeddings,
        corpus_precision,
        ranges,
        calibration_embeddings,
        rescore_embeddings,
    )
    check_sizes(top_k=top_k, max_bytes=max_bytes)
    check_multiplier(rescore_multiplier)
    started = time.perf_counter()
    if not len(search.queries) or not len(search.corpus):
        return [[] for _ in range(len(search.queries))], time.perf_counter() - started
    if corpus_precision == "float32":
        best = search.best_floats(top_k, max_bytes)
    elif rescore and search.has_float_queries:
        best = search.best_rescored(top_k, math.ceil(top_k * rescore_multiplier), max_bytes)
    else:
        best = search.best_codes(top_k, max_bytes)
    hits = hits_of(best)
    return hits, time.perf_counter() - started


@dataclass(frozen=True)
class QuantizedSearch:
    """What one search asks for, checked at the door."""

    queries: np.ndarray
    """Floats (Q, D), or codes as they were passed."""

    corpus: Any
    """Float rows (N, D) for the precision float32, else `CodedRows`."""

    to_rescore: Callable[[np.ndarray], np.ndarray] | None
    """Reads embeddings to rescore with, float32 (n, D), by row number; None to take what the codes stand for."""

    @classmethod
    def checked(
        cls, queries: Any, corpus: Any, precision: str, ranges: Any, calibration: Any, original: Any
    ) -> QuantizedSearch:
        """Arguments of `semantic_search_quantized`, checked; it says what is raised."""
        check_precision(precision, PRECISIONS)
        queries = rows_of(queries, "query_embeddings")
        corpus = rows_of(corpus, "corpus_embeddings")
        if original is not None:
            original = rows_of(original, "rescore_embeddings")
        if not len(queries) or not len(corpus):
            return cls(as_array(queries), corpus, None)
        if precision == "float32":
            for values, name in ((queries, "query_embeddings"), (corpus, "corpus_embeddings")):
                check_floats(values, name)
            check_widths(queries.shape[1], corpus.shape[1])
            return cls(as_array(queries), corpus, None)
        check_codes(queries, "query_embeddings", precision)
        check_codes(corpus, "corpus_embeddings", precision)
        queries = as_array(queries)
        if not holds_codes(queries):
            check_finite(queries, "query_embeddings")
        coded = coded_rows(queries, corpus, precision, ranges, calibration)
        if original is None or holds_codes(queries):
            return cls(queries, coded, None)
        return cls(queries, coded, rows_to_rescore(original, coded, ranges, calibration))

    @property
    def has_float_queries(self) -> bool:
        return not holds_codes(self.queries)

    def best_floats(self, k: int, max_bytes: int) -> Best:
        search = TopK(self.queries, k, similarity=dot_score, max_bytes=max_bytes, device="cpu")
        search.add(self.corpus)
        return search.best

    def best_rescored(self, k: int, candidates: int, max_bytes: int) -> Best:
        """The best by float query, among the candidates that are best by their codes."""
        found = self.best_codes(candidates, max_bytes)
        return rescored(
            self.queries.astype(np.float32, copy=False),
            found.rows.numpy(),
            self.to_rescore or self.corpus.decoded,
            k,
            max_bytes=max_bytes,
        )

    def best_codes(self, k: int, max_bytes: int) -> Best:
        """The best by codes alone."""
        if FORMS[self.corpus.precision].is_packed:
            return self.nearest_bits(min(k, len(self.corpus)), max_bytes)
        return self.best_steps(k, max_bytes)

    def nearest_bits(self, k: int, max_bytes: int) -> Best:
        corpus = self.corpus
        codes = self.queries if not self.has_float_queries else as_codes(self.queries, corpus.precision, None)
        # A block is held as it is read and as words.
        blocks = corpus.blocks(max_bytes // 2)
        distances, rows = nearest_rows(in_one_form(codes, corpus.precision), blocks, k)
        scores = corpus.width - 2 * distances
        return Best(torch.from_numpy(scores.astype(np.float32)), torch.from_numpy(rows))

    def best_steps(self, k: int, max_bytes: int) -> Best:
        """The best by steps, where what a step is worth is the query's weight on it.

        What code 0 is worth is the same for all rows, so it does not change their order.
        """
        corpus: CodedRows = self.corpus
        if not self.has_float_queries:
            codes = in_one_form(self.queries, corpus.precision)
            return self.largest_products(torch.from_numpy(codes.copy()), k, max_bytes)
        assert corpus.scale is not None, "checked at the door"
        queries = torch.from_numpy(self.queries.astype(np.float32, copy=False))
        weights, step = rounded_weights(queries * torch.from_numpy(corpus.scale.step))
        found = self.largest_products(weights, k, max_bytes)
        constant = queries @ torch.from_numpy(corpus.scale.zero)  # (Q,)
        return Best(found.scores * step + constant.unsqueeze(1), found.rows)

    def largest_products(self, queries: Tensor, k: int, max_bytes: int) -> Best:
        """The rows with the largest dot products of int8 codes, those of the queries (Q, D)."""
        # Half for the codes that are read, half for their products.
        search = TopK(queries, k, similarity=int8_products, max_bytes=max(1, max_bytes // 2))
        for _, codes in self.corpus.blocks(max_bytes // 2):
            search.add(torch.from_numpy(codes) if codes.flags.writeable else torch.from_numpy(codes.copy()))
        return search.best


def coded_rows(queries: np.ndarray, corpus: Any, precision: str, ranges: Any, calibration: Any) -> CodedRows:
    """The corpus as codes, with all that queries of these widths need to be compared with it."""
    form = FORMS[precision]
    if holds_codes(queries):
        # What bits pad the last byte is not known, and does not matter: they are equal.
        width = (
            corpus.shape[1] if not holds_codes(corpus) else queries.shape[1] * (8 if form.is_packed else 1)
        )
    else:
        width = queries.shape[1]
    width_of_corpus = form.width_of_codes(width) if holds_codes(corpus) else width
    width_of_queries = form.width_of_codes(width) if holds_codes(queries) else width
    if (queries.shape[1], corpus.shape[1]) != (width_of_queries, width_of_corpus):
        packed = f"; codes of {precision!r} hold eight dimensions in a number" if form.is_packed else ""
        raise ValueError(
            f"The queries ({queries.dtype}) are {queries.shape[1]} numbers wide, and the corpus ({corpus.dtype}) "
            f"{corpus.shape[1]}. Pass embeddings of one model, truncated to the same width{packed}."
        )
    scale: Scale | None = None
    if not form.is_packed:
        scale = scale_of(ranges, calibration, width)
        if scale is None and not holds_codes(corpus):
            scale = extremes_of(corpus, "corpus_embeddings")
        if scale is None and not holds_codes(queries):
            raise ValueError(
                f"The queries are floats, and nothing says which values the {precision} codes of the corpus stand for. "
                "Pass the `ranges` or `calibration_embeddings` that the corpus was quantised with."
            )
    return CodedRows(corpus, precision, scale, width)


def rows_to_rescore(
    values: Any, corpus: CodedRows, ranges: Any, calibration: Any
) -> Callable[[np.ndarray], np.ndarray]:
    """Reads more precise embeddings of the corpus, float32 (n, D), by row number."""
    if tuple(values.shape) != (len(corpus), corpus.width):
        raise ValueError(
            f"rescore_embeddings has shape {tuple(values.shape)}. Pass the embeddings that the codes of the corpus were "
            f"made of, {(len(corpus), corpus.width)}."
        )
    if not holds_codes(values):
        return lambda rows: as_array(values[rows]).astype(np.float32, copy=False)
    precision = dtype_of(values)
    scale = scale_of(ranges, calibration, corpus.width)
    if scale is None:
        raise ValueError(
            f"rescore_embeddings holds {precision} codes, and nothing says which values they stand for. Pass the "
            "`ranges` or `calibration_embeddings` that they were made with, or the floats."
        )
    return CodedRows(values, precision, scale, corpus.width).decoded


def check_widths(queries: int, corpus: int) -> None:
    if queries != corpus:
        raise ValueError(
            f"The queries are {queries} numbers wide, and the corpus {corpus}. Pass embeddings of one model, truncated "
            "to the same width."
        )
