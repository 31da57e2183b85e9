"""Retrieve with a bi-encoder, re-rank with a cross-encoder.

    python examples/retrieve_rerank/retrieve_and_rerank.py [--data FOLDER] [--reranker NAME] [--candidates N]

A bi-encoder embeds queries and documents separately, which is fast, and finds the candidates. A cross-encoder reads
the query together with each candidate, which is more exact, and puts them into their final order.

FOLDER holds a retrieval set, in the files that `examples/retrieval_sets.py` describes; without it, the questions and
answers of `examples/data` are searched. Prints what is found first for three queries before and after, and nDCG@10.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from reading import SAMPLE
from retrieval_sets import TOP_K, mean_ndcg, read_folder, read_sample

from sentence_transformers import CrossEncoder, SentenceTransformer, util


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=None, help="folder of a retrieval set")
    parser.add_argument("--model", default="all-MiniLM-L6-v2", help="bi-encoder (all-MiniLM-L6-v2)")
    parser.add_argument("--reranker", default="cross-encoder/ms-marco-MiniLM-L6-v2", help="cross-encoder")
    parser.add_argument("--candidates", type=int, default=32, help="documents to re-rank for each query (32)")
    parser.add_argument("--limit", type=int, default=None, help="use only that many queries")
    options = parser.parse_args()

    data = read_folder(options.data) if options.data else read_sample(SAMPLE)
    data = data.with_queries(options.limit)
    queries, documents = list(data.queries.values()), list(data.documents.values())

    retriever = SentenceTransformer(options.model)
    hits_by_query = util.semantic_search(
        retriever.encode_query(queries, convert_to_tensor=True),  # (Q, D)
        retriever.encode_document(documents, convert_to_tensor=True),  # (N, D)
        top_k=options.candidates,
    )

    reranker = CrossEncoder(options.reranker)
    # All pairs in one call: each text is tokenised once, and pairs of like length share a batch.
    pairs = [
        (query, documents[hit["corpus_id"]])
        for query, hits in zip(queries, hits_by_query, strict=True)
        for hit in hits
    ]
    scores = iter(reranker.predict(pairs).tolist())
    reranked = [
        sorted(
            ({"corpus_id": hit["corpus_id"], "score": next(scores)} for hit in hits),
            key=lambda hit: -hit["score"],
        )
        for hits in hits_by_query
    ]

    for query, before, after in list(zip(queries, hits_by_query, reranked, strict=True))[:3]:
        print(textwrap.shorten(query, 110, placeholder=" ..."))
        for label, hits in (("retrieved", before), ("re-ranked", after)):
            first = textwrap.shorten(documents[hits[0]["corpus_id"]], 90, placeholder=" ...")
            print(f"  {label} first  {hits[0]['score']:.4f}  {first}")
    print(f"{data.name}: {len(queries):,} queries, {len(documents):,} documents")
    for label, found in (("retrieved", hits_by_query), ("re-ranked", reranked)):
        print(f"  nDCG@{TOP_K} {label}: {100 * mean_ndcg(data, found):.2f}")


if __name__ == "__main__":
    main()
