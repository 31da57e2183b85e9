"""Hand embeddings over to Qdrant, and search there.

    python examples/vector_databases/search_qdrant.py [--data FOLDER] [--limit N] [--source NAME] [--url URL]

Without --url, Qdrant runs inside this program, in memory and exactly; with it, a server is asked, started with

    docker run --rm -p 127.0.0.1:6333:6333 qdrant/qdrant

Passages are those of `medquad/train.tsv.gz` or the sample.
"""

from __future__ import annotations

import numpy as np
from handing_over import Rows, fill_and_ask, parse_options

try:
    from qdrant_client import QdrantClient, models
except ImportError:
    raise SystemExit("This example needs the client of Qdrant: pip install qdrant-client") from None

COLLECTION = "passages"


class Qdrant:
    """A collection of passages."""

    def __init__(self, url: str) -> None:
        self.client = QdrantClient(url)

    def fill(self, rows: Rows, embeddings: np.ndarray) -> None:
        if self.client.collection_exists(COLLECTION):
            self.client.delete_collection(COLLECTION)
        settings = models.VectorParams(size=embeddings.shape[1], distance=models.Distance.COSINE)
        self.client.create_collection(COLLECTION, vectors_config=settings)
        self.client.upload_collection(
            COLLECTION, vectors=embeddings, payload=rows, ids=list(range(len(rows))), wait=True
        )

    def find(self, embedding: np.ndarray, k: int, source: str | None) -> list[tuple[float, int]]:
        found = self.client.query_points(
            COLLECTION, query=embedding.tolist(), limit=k, query_filter=of_source(source)
        )
        return [(point.score, int(point.id)) for point in found.points]


def of_source(source: str | None) -> models.Filter | None:
    """What passages must fulfil."""
    if source is None:
        return None
    return models.Filter(must=[models.FieldCondition(key="source", match=models.MatchValue(value=source))])


if __name__ == "__main__":
    options = parse_options(__doc__, url=":memory:")
    fill_and_ask(Qdrant(options.url), options)
