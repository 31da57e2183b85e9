"""Approximate search with faiss: an inverted file, which looks into a few of many clusters.

    python examples/semantic_search/ann_faiss.py [--data FOLDER] [--limit N]

Searches sentences of `text/medical.txt.gz`, or of the sample, with questions of `medquad/train.tsv.gz` or the
sample; prints the recall against exact search.
"""

from __future__ import annotations

import math

import numpy as np
from approximate import Search, compare

try:
    import faiss
except ImportError:
    raise SystemExit("This example needs faiss: pip install faiss-cpu") from None


def build(corpus: np.ndarray) -> Search:
    width = corpus.shape[1]
    clusters = max(1, math.isqrt(len(corpus)))
    # The dot product of unit vectors is their cosine.
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, clusters, faiss.METRIC_INNER_PRODUCT)
    index.train(corpus)
    index.add(corpus)
    # More clusters cost time and find more; all of them make the search exact.
    index.nprobe = max(1, clusters // 4)
    return lambda queries, k: index.search(queries, k)[1]


if __name__ == "__main__":
    compare(__doc__, build)
