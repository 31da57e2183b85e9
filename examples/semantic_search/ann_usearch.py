"""Approximate search with usearch: a graph of neighbours (HNSW) that is walked towards the query.

    python examples/semantic_search/ann_usearch.py [--data FOLDER] [--limit N]

Searches sentences of `text/medical.txt.gz`, or of the sample, with questions of `medquad/train.tsv.gz` or the
sample; prints the recall against exact search.
"""

from __future__ import annotations

import numpy as np
from approximate import Search, compare

try:
    from usearch.index import Index
except ImportError:
    raise SystemExit("This example needs usearch: pip install usearch") from None


def build(corpus: np.ndarray) -> Search:
    # More neighbours, and a wider look while searching, cost time and find more. Vectors may also be kept in half
    # precision ("f16") or in bytes ("i8").
    index = Index(
        ndim=corpus.shape[1],
        metric="cos",
        dtype="f32",
        connectivity=16,
        expansion_add=128,
        expansion_search=64,
    )
    index.add(np.arange(len(corpus)), corpus)
    # The keys that `add` was given are the row numbers.
    return lambda queries, k: np.atleast_2d(index.search(queries, k).keys).astype(np.int64)


if __name__ == "__main__":
    compare(__doc__, build)
