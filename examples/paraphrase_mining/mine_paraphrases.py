"""Find the pairs of sentences that say the same, in one large collection.

    python examples/paraphrase_mining/mine_paraphrases.py [--data FOLDER] [--limit N] [--pairs N]

The sentences are those of `paraphrases/mining_sentences.tsv.gz`, whose true pairs stand in
`paraphrases/mining_pairs.tsv.gz`; without --data, the questions of the sample about health.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from reading import options_parser, questions_and_answers, read_table, some_of

from sentence_transformers import SentenceTransformer, util

SHOWN = 10


def main() -> None:
    parser = options_parser(__doc__, limit=6000)
    parser.add_argument("--pairs", type=int, default=50_000, help="how many pairs to find (50,000)")
    options = parser.parse_args()
    ids, sentences = read_sentences(options.data, options.limit)

    model = SentenceTransformer(options.model)
    # Lists [score, row, row], best first. All sentences are compared with each other, block by block.
    pairs = util.paraphrase_mining(model, sentences, max_pairs=options.pairs)
    for score, first, second in pairs[:SHOWN]:
        print(f"{score:.4f}  {sentences[first]}  |  {sentences[second]}")
    print(f"{len(sentences):,} sentences, {len(pairs):,} pairs found")

    true_pairs = read_pairs(options.data, set(ids)) if options.data else set()
    if true_pairs:
        is_true = [frozenset((ids[first], ids[second])) in true_pairs for _, first, second in pairs]
        for count in (len(true_pairs) // 2, len(true_pairs), 2 * len(true_pairs)):
            hits = sum(is_true[:count])
            print(
                f"  the best {count:,}: precision {hits / max(1, len(is_true[:count])):.1%}, "
                f"recall {hits / len(true_pairs):.1%} of {len(true_pairs):,} true pairs"
            )


def read_sentences(folder: Path | None, limit: int) -> tuple[list[str], list[str]]:
    """The ids of the sentences, and the sentences."""
    if folder is None:
        questions = list(dict.fromkeys(row["question"] for row in questions_and_answers(None, limit)))
        return questions, questions
    rows = some_of(read_table(folder / "paraphrases" / "mining_sentences.tsv.gz"), limit)
    return [row["id"] for row in rows], [row["sentence"] for row in rows]


def read_pairs(folder: Path, ids: set[str]) -> set[frozenset[str]]:
    """The ids of sentences that are paraphrases, as far as both are in use."""
    rows = read_table(folder / "paraphrases" / "mining_pairs.tsv.gz")
    return {frozenset((row["id1"], row["id2"])) for row in rows if {row["id1"], row["id2"]} <= ids}


if __name__ == "__main__":
    main()
