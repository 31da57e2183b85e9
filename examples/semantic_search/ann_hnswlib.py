"""Approximate search with hnswlib: a graph of neighbours (HNSW) that is walked towards the query.

    python examples/semantic_search/ann_hnswlib.py [--data FOLDER] [--limit N]

Searches sentences of `text/medical.txt.gz`, or of the sample, with questions of `medquad/train.tsv.gz` or the
sample; prints the recall against exact search.
"""

from __future__ import annotations

import numpy as np
from approximate import Search, compare

try:
    import hnswlib
except ImportError:
    raise SystemExit(
        "This example needs hnswlib, which is built with a C++ compiler: pip install hnswlib"
    ) from None


def build(corpus: np.ndarray) -> Search:
    index = hnswlib.Index(space="cosine", dim=corpus.shape[1])
    # M neighbours for each entry; more of them, and larger ef, cost time and find more.
    index.init_index(max_elements=len(corpus), ef_construction=128, M=16)
    index.add_items(corpus, np.arange(len(corpus)))
    index.set_ef(64)
    return lambda queries, k: index.knn_query(queries, k)[0].astype(np.int64)


if __name__ == "__main__":
    compare(__doc__, build)
