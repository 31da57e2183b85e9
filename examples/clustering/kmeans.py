"""Cluster questions with k-means: as many clusters as you say, each question in one.

python examples/clustering/kmeans.py [--data FOLDER] [--limit N] [--clusters N]
"""

from __future__ import annotations

from questions import parser_for, read_questions, report
from sklearn.cluster import KMeans

from sentence_transformers import SentenceTransformer


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--clusters", type=int, default=None, help="how many; as many as labels if not said")
    options = parser.parse_args()
    texts, labels = read_questions(options)
    # Between unit vectors, the distance that k-means knows orders as the cosine does.
    embeddings = SentenceTransformer(options.model).encode(texts, normalize_embeddings=True)  # (N, D)
    clusters = KMeans(options.clusters or len(set(labels)), n_init=3, random_state=0).fit_predict(embeddings)
    report(texts, labels, clusters.tolist())


if __name__ == "__main__":
    main()
