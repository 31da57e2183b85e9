"""Name what a collection of questions is about: clusters, and the words that set each apart from the others.

    python examples/clustering/topics.py [--data FOLDER] [--limit N] [--topics N]

The words are weighted by class-based TF-IDF after Grootendorst 2022, "BERTopic: Neural topic modeling with a
class-based TF-IDF procedure": a cluster counts as one text, and a word that is frequent in it and rare elsewhere
describes it.
"""

from __future__ import annotations

import numpy as np
from questions import grouped, parser_for, read_questions
from sklearn.cluster import KMeans
from sklearn.feature_extraction.text import CountVectorizer

from sentence_transformers import SentenceTransformer

WORDS = 5


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--topics", type=int, default=20, help="how many (20)")
    options = parser.parse_args()
    texts, _ = read_questions(options)
    embeddings = SentenceTransformer(options.model).encode(texts, normalize_embeddings=True)  # (N, D)
    clusters = KMeans(options.topics, n_init=3, random_state=0).fit_predict(embeddings)

    groups = grouped(texts, clusters.tolist())
    for group, words in zip(groups, describing_words(groups), strict=True):
        print(f"{len(group):4} texts  {', '.join(words)}")


def describing_words(groups: list[list[str]]) -> list[list[str]]:
    """The words with the largest weight in each group of texts."""
    vectorizer = CountVectorizer(stop_words="english")
    counts = vectorizer.fit_transform(" ".join(group) for group in groups).toarray()  # (groups, words)
    frequency = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    words_of_a_group = counts.sum() / len(groups)
    weights = frequency * np.log(1 + words_of_a_group / counts.sum(axis=0))
    names = vectorizer.get_feature_names_out()
    return [names[row.argsort(kind="stable")[::-1][:WORDS]].tolist() for row in weights]


if __name__ == "__main__":
    main()
