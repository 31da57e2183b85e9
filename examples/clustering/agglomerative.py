"""Cluster questions from below: the two clusters that are nearest join, until none are near enough.

    python examples/clustering/agglomerative.py [--data FOLDER] [--limit N] [--distance D]

How many clusters there are need not be known. All pairs of texts are looked at, so this suits some thousand texts.
"""

from __future__ import annotations

from questions import parser_for, read_questions, report
from sklearn.cluster import AgglomerativeClustering

from sentence_transformers import SentenceTransformer


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument(
        "--distance", type=float, default=2.0, help="clusters whose Ward distance is larger stay apart (2)"
    )
    options = parser.parse_args()
    texts, labels = read_questions(options)
    embeddings = SentenceTransformer(options.model).encode(texts, normalize_embeddings=True)  # (N, D)
    clustering = AgglomerativeClustering(n_clusters=None, distance_threshold=options.distance)
    report(texts, labels, clustering.fit_predict(embeddings).tolist())


if __name__ == "__main__":
    main()
