"""The rows of a corpus that differ from a query in the fewest bits.

Bits are counted a word of 64 at a time: the words of a block of rows stand word by word, (W, n), so that one
operation compares many rows with one word of a query, in arrays that stay in the cache. Distances are small
whole numbers; of each block only what is nearer than the nearest found so far is looked at again. Rows that
are equally near come in the order of the corpus, whatever the blocks and however many threads there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Executor, ThreadPoolExecutor

import numpy as np
import torch

QUERIES_OF_A_TASK = 64
"""Queries that a thread compares with a block before it looks for the nearest."""

QUERIES_AT_ONCE = 8
ROWS_AT_ONCE = 4096
"""Their words, 8 bytes each, are to stay in the cache of a core."""

FIRST_ROWS = 256
"""The first rows are all candidates, so there are few; after them there is something to be nearer than."""

FEWEST_ROWS_OF_A_SPAN = 16384
"""A corpus is only divided among threads into parts that are worth a thread's start."""

# A candidate is one integer that sorts by query, then distance, then row.
ROW_BITS, DISTANCE_BITS = 40, 17
ROW_MASK = (1 << ROW_BITS) - 1
DISTANCE_MASK = (1 << DISTANCE_BITS) - 1
QUERY_SHIFT = ROW_BITS + DISTANCE_BITS
NONE_YET = (1 << QUERY_SHIFT) - 1
"""Sorts behind every candidate of the same query."""

MAX_BITS = DISTANCE_MASK - 1
"""The widest rows whose distances fit."""

HAS_BIT_COUNT = hasattr(np, "bitwise_count")
"""numpy counts bits itself from version 2.0 on."""

BITS_OF_16 = np.array([value.bit_count() for value in range(1 << 16)], dtype=np.uint8)


def nearest_rows(
    queries: np.ndarray, blocks: Iterable[tuple[int, np.ndarray]], k: int, *, threads: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The k rows of a corpus that differ from each query in the fewest bits.

    Args:
        queries: Packed bits, uint8 (Q, B).
        blocks: Number of the first row of each block, and its packed bits, uint8 (n, B), in the corpus's
            order.
        k: How many rows to find for each query; there must be as many.
        threads: How many to use; by default as many as torch does.

    Returns:
        Distances (Q, k) and row numbers (Q, k), nearest first, then by row number.

    Raises:
        ValueError: If rows are wider than the distances that are kept.
    """
    if 8 * queries.shape[1] > MAX_BITS:
        raise ValueError(f"Rows of {8 * queries.shape[1]} bits are too wide: {MAX_BITS} are the most.")
    threads = threads or torch.get_num_threads()
    size = min(QUERIES_OF_A_TASK, max(1, -(-len(queries) // threads)))
    words = words_of(queries).T  # (Q, W)
    groups = [words[start : start + size] for start in range(0, len(words), size)]
    spans = -(-threads // max(1, len(groups)))
    keepers = [[Nearest(group, k) for _ in range(spans)] for group in groups]
    with ThreadPoolExecutor(threads) as pool:
        for first_row, codes in blocks:
            search_block(pool, keepers, words_of(codes), first_row)
    if not keepers:
        return np.zeros((0, k), dtype=np.int64), np.zeros((0, k), dtype=np.int64)
    keys = np.concatenate([merged(keeper.keys for keeper in spans)[:, :k] for spans in keepers])  # (Q, k)
    return (keys >> ROW_BITS) & DISTANCE_MASK, keys & ROW_MASK


def search_block(pool: Executor, keepers: list[list[Nearest]], words: np.ndarray, first_row: int) -> None:
    """Let every keeper search its span of a block's words, (W, n)."""
    count = words.shape[1]
    spans = max(1, min(len(keepers[0]), count // FEWEST_ROWS_OF_A_SPAN)) if keepers else 1
    edges = [count * part // spans for part in range(spans + 1)]
    tasks = [
        pool.submit(keeper.search, words, range(start, stop), first_row)
        for group in keepers
        for keeper, start, stop in zip(group, edges, edges[1:], strict=False)
    ]
    for task in tasks:
        task.result()


class Nearest:
    """The rows nearest to some queries, of those that one thread has seen.

    Rows come in the corpus's order, so that of equally near ones those kept already stand first.

    Args:
        queries: Words of the queries, (q, W).
        k: How many rows to keep for each query.
    """

    def __init__(self, queries: np.ndarray, k: int) -> None:
        self.queries = queries
        self.k = k
        count = len(queries)
        self.seen = 0
        self.keys = (np.arange(count, dtype=np.int64)[:, None] << QUERY_SHIFT) | np.full((1, k), NONE_YET)
        """The best candidates of each query, (q, k), sorted."""
        self.waiting: list[np.ndarray] = []
        self.limits = self.limits_now()

    def search(self, words: np.ndarray, rows: range, first_row: int) -> None:
        """Look through some rows of a block's words, (W, n), whose own first row has the number `first_row`."""
        buffers = Buffers(len(self.queries), 8 * 8 * len(words))
        start = rows.start
        while start < rows.stop:
            stop = min(rows.stop, start + min(ROWS_AT_ONCE, max(FIRST_ROWS, self.seen)))
            distances = buffers.distances(self.queries, words[:, start:stop])  # (q, n)
            self.keep(distances, buffers, first_row + start)
            self.seen += stop - start
            start = stop
        self.settle()

    def keep(self, distances: np.ndarray, buffers: Buffers, first_row: int) -> None:
        """Take over what is nearer than what is kept; equally near rows stand behind those kept."""
        place = buffers.places_below(distances, self.limits)
        if not len(place):
            return
        query, column = np.divmod(place, distances.shape[1])
        distance = distances.ravel()[place].astype(np.int64)
        self.waiting.append((query << QUERY_SHIFT) | (distance << ROW_BITS) | (column + first_row))
        # Sorting seldom, and yet often enough that few candidates come that are none.
        if sum(map(len, self.waiting)) >= self.keys.size // 2:
            self.settle()

    def settle(self) -> None:
        """Sort the waiting candidates in among those kept."""
        if self.waiting:
            self.keys = merged([self.keys, *self.waiting])[:, : self.k]
            self.waiting = []
            self.limits = self.limits_now()

    def limits_now(self) -> np.ndarray:
        """The distance that a row must be below, (q, 1)."""
        return (self.keys[:, -1:] >> ROW_BITS) & DISTANCE_MASK


def merged(parts: Iterable[np.ndarray]) -> np.ndarray:
    """Candidates sorted for each query, as many as each query has at least."""
    keys = np.sort(np.concatenate([part.ravel() for part in parts]))
    counts = np.bincount(keys >> QUERY_SHIFT)
    starts = counts.cumsum() - counts
    return keys[starts[:, None] + np.arange(counts.min())]


class Buffers:
    """Memory that is used again for every block of one search, and what is computed in it.

    Args:
        queries: How many there are, q.
        bits: Length of a row.
    """

    def __init__(self, queries: int, bits: int) -> None:
        at_once = min(queries, QUERIES_AT_ONCE)
        self.bits = bits
        self.words = np.empty((at_once, ROWS_AT_ONCE), dtype=np.uint64)
        self.counts = np.empty((2, at_once, ROWS_AT_ONCE), dtype=np.uint8)
        # A distance must stay below the largest number of its type, which stands for "no limit yet".
        self.sums = np.empty(queries * ROWS_AT_ONCE, dtype=np.uint16 if bits < 1 << 16 else np.uint32)
        self.is_below = np.zeros(queries * ROWS_AT_ONCE, dtype=bool)

    def distances(self, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """How many bits differ, (q, n), of queries (q, W) and rows (W, n); overwritten by the next call."""
        count = rows.shape[1]
        sums = self.sums[: len(queries) * count].reshape(len(queries), count)
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            self.add_up(queries[start : start + QUERIES_AT_ONCE], rows, sums[start : start + QUERIES_AT_ONCE])
        return sums

    def add_up(self, queries: np.ndarray, rows: np.ndarray, sums: np.ndarray) -> None:
        words = self.words[: len(queries), : rows.shape[1]]
        total, counts = self.counts[:, : len(queries), : rows.shape[1]]
        # A byte holds the sum of three counts of up to 64, and adds fastest.
        for first in range(0, len(rows), 3):
            for word in range(first, min(first + 3, len(rows))):
                np.bitwise_xor(queries[:, word, None], rows[word], out=words)
                count_bits(words, out=total if word == first else counts)
                if word > first:
                    np.add(total, counts, out=total)
            if first:
                np.add(sums, total, out=sums)
            else:
                sums[...] = total

    def places_below(self, distances: np.ndarray, limits: np.ndarray) -> np.ndarray:
        """Where distances (q, n) are below the limit of their row, (q, 1); places in the flattened array."""
        size = distances.size
        # Eight at a time are looked at first: nearly all are beyond the limit.
        padded = self.is_below[: -(-size // 8) * 8]
        padded[size:] = False
        limits = np.minimum(limits, np.iinfo(distances.dtype).max).astype(distances.dtype)
        np.less(distances, limits, out=padded[:size].reshape(distances.shape))
        eights = np.flatnonzero(padded.view(np.uint64))
        which, inside = np.nonzero(padded.reshape(-1, 8)[eights])
        return eights[which] * 8 + inside


def count_bits(words: np.ndarray, *, out: np.ndarray) -> None:
    """How many bits are set in each word, uint64 (q, n), as uint8 (q, n)."""
    if HAS_BIT_COUNT:
        np.bitwise_count(words, out=out)
        return
    quarters = np.ascontiguousarray(words).view(np.uint16)  # (q, 4 * n)
    BITS_OF_16[quarters].reshape(*words.shape, 4).sum(axis=-1, dtype=np.uint8, out=out)


def words_of(codes: np.ndarray) -> np.ndarray:
    """Packed bits, uint8 (n, B), as words, uint64 (W, n); missing bytes are zero."""
    missing = -codes.shape[1] % 8
    if missing:
        codes = np.pad(codes, ((0, 0), (0, missing)))
    return np.ascontiguousarray(np.ascontiguousarray(codes).view(np.uint64).T)
