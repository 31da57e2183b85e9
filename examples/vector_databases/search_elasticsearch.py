"""Hand embeddings over to Elasticsearch, and search there.

    python examples/vector_databases/search_elasticsearch.py [--data FOLDER] [--limit N] [--source NAME] [--url URL]

Needs a server; `START` below starts one for trying out. Passages are those of `medquad/train.tsv.gz` or the sample.
An index called `passages` is made anew.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from handing_over import Rows, fill_and_ask, parse_options

try:
    from elasticsearch import Elasticsearch, helpers
except ImportError:
    raise SystemExit("This example needs the client of Elasticsearch: pip install elasticsearch") from None

START = (
    "docker run --rm -p 127.0.0.1:9200:9200 -e discovery.type=single-node -e xpack.security.enabled=false "
    "docker.elastic.co/elasticsearch/elasticsearch:9.1.0"
)
INDEX = "passages"


class Passages:
    """An index of passages."""

    def __init__(self, url: str) -> None:
        self.client = Elasticsearch(url, request_timeout=30, max_retries=0)
        if not self.client.ping():
            raise SystemExit(f"No Elasticsearch answers at {url}. Pass --url, or start one: {START}")

    def fill(self, rows: Rows, embeddings: np.ndarray) -> None:
        fields = {
            "answer": {"type": "text"},
            "source": {"type": "keyword"},
            "embedding": {
                "type": "dense_vector",
                "dims": embeddings.shape[1],
                "index": True,
                "similarity": "cosine",
            },
        }
        self.client.indices.delete(index=INDEX, ignore_unavailable=True)
        self.client.indices.create(index=INDEX, mappings={"properties": fields})
        documents = (
            {"_index": INDEX, "_id": str(number), **row, "embedding": embedding.tolist()}
            for number, (row, embedding) in enumerate(zip(rows, embeddings, strict=True))
        )
        helpers.bulk(self.client, documents, refresh=True)

    def find(self, embedding: np.ndarray, k: int, source: str | None) -> list[tuple[float, int]]:
        # On each shard `num_candidates` passages are looked at; more cost time and find more.
        nearest: dict[str, Any] = {"field": "embedding", "k": k, "num_candidates": 10 * k}
        if source is not None:
            nearest["filter"] = {"term": {"source": source}}
        found = self.client.search(
            index=INDEX, knn={**nearest, "query_vector": embedding.tolist()}, size=k, source=False
        )
        # A score is (1 + cosine) / 2, since scores of Elasticsearch are never negative.
        return [(2 * hit["_score"] - 1, int(hit["_id"])) for hit in found["hits"]["hits"]]


if __name__ == "__main__":
    options = parse_options(__doc__, url="http://localhost:9200")
    fill_and_ask(Passages(options.url), options)
