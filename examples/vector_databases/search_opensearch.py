"""Hand embeddings over to OpenSearch, and search there.

    python examples/vector_databases/search_opensearch.py [--data FOLDER] [--limit N] [--source NAME] [--url URL]

Needs a server; `START` below starts one for trying out. Passages are those of `medquad/train.tsv.gz` or the sample.
An index called `passages` is made anew.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from handing_over import Rows, fill_and_ask, parse_options

try:
    from opensearchpy import OpenSearch, helpers
except ImportError:
    raise SystemExit("This example needs the client of OpenSearch: pip install opensearch-py") from None

START = (
    "docker run --rm -p 127.0.0.1:9200:9200 -e discovery.type=single-node -e DISABLE_SECURITY_PLUGIN=true "
    "-e DISABLE_INSTALL_DEMO_CONFIG=true opensearchproject/opensearch:3"
)
INDEX = "passages"


class Passages:
    """An index of passages."""

    def __init__(self, url: str) -> None:
        self.client = OpenSearch(url, timeout=30, max_retries=0)
        if not self.client.ping():
            raise SystemExit(f"No OpenSearch answers at {url}. Pass --url, or start one: {START}")

    def fill(self, rows: Rows, embeddings: np.ndarray) -> None:
        fields = {
            "answer": {"type": "text"},
            "source": {"type": "keyword"},
            "embedding": {
                "type": "knn_vector",
                "dimension": embeddings.shape[1],
                "method": {"name": "hnsw", "engine": "lucene", "space_type": "cosinesimil"},
            },
        }
        settings = {"settings": {"index.knn": True}, "mappings": {"properties": fields}}
        self.client.indices.delete(index=INDEX, ignore_unavailable=True)
        self.client.indices.create(index=INDEX, body=settings)
        documents = (
            {"_index": INDEX, "_id": str(number), **row, "embedding": embedding.tolist()}
            for number, (row, embedding) in enumerate(zip(rows, embeddings, strict=True))
        )
        helpers.bulk(self.client, documents, refresh=True)

    def find(self, embedding: np.ndarray, k: int, source: str | None) -> list[tuple[float, int]]:
        nearest: dict[str, Any] = {"vector": embedding.tolist(), "k": k}
        if source is not None:
            nearest["filter"] = {"term": {"source": source}}
        request = {"size": k, "_source": False, "query": {"knn": {"embedding": nearest}}}
        found = self.client.search(index=INDEX, body=request)
        # A score is (1 + cosine) / 2 with this engine, since scores of OpenSearch are never negative.
        return [(2 * hit["_score"] - 1, int(hit["_id"])) for hit in found["hits"]["hits"]]


if __name__ == "__main__":
    options = parse_options(__doc__, url="http://localhost:9200")
    fill_and_ask(Passages(options.url), options)
