"""Find communities of questions: groups around a question that many others are near to.

    python examples/clustering/fast_clustering.py [--data FOLDER] [--limit N] [--threshold T] [--min-size N]

Made for large collections. How many communities there are need not be known, and a text that is near to few others
is in none; the agreement with the labels is that of the texts that are in one.
"""

from __future__ import annotations

from questions import parser_for, read_questions, report

from sentence_transformers import SentenceTransformer, util


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument(
        "--threshold", type=float, default=0.75, help="cosine from which texts are near (0.75)"
    )
    parser.add_argument("--min-size", type=int, default=5, help="texts of a community at least (5)")
    options = parser.parse_args()
    texts, labels = read_questions(options)
    embeddings = SentenceTransformer(options.model).encode(texts, convert_to_tensor=True)  # (N, D)
    communities = util.community_detection(
        embeddings, threshold=options.threshold, min_community_size=options.min_size
    )

    found = [(row, number) for number, rows in enumerate(communities) for row in rows]
    print(f"{len(found):,} of {len(texts):,} texts are in {len(communities)} communities")
    if found:
        report(
            [texts[row] for row, _ in found],
            [labels[row] for row, _ in found],
            [number for _, number in found],
        )


if __name__ == "__main__":
    main()
