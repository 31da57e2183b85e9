"""Find the texts that are nearest to a query, exactly.

    python examples/semantic_search/search_texts.py symmetric|asymmetric [--data FOLDER] [--limit N]

Symmetric: queries and texts are of one kind. With --data, sentences of `paraphrases/train.tsv.gz` that say the
same in other words; without it, questions about health.
Asymmetric: short questions, and passages that answer them, of `medquad/train.tsv.gz` or the sample.

Prints what is found for three queries, and how often the text that belongs to a query is found.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from reading import options_parser, questions_and_answers, read_table, some_of

from sentence_transformers import SentenceTransformer, util

REWORDED = {
    "How can I keep from having a heart attack?": "How to prevent Heart Attack?",
    "Why do some kids still wet themselves?": "What causes Urinary Incontinence in Children?",
    "How would I notice that my heart is failing?": "What are the symptoms of Heart Failure?",
    "Is there a cure for worn-out joints?": "What are the treatments for Osteoarthritis?",
    "Where do kidney stones come from?": "What causes Kidney Stones in Adults?",
    "My blood pressure is too low. Why?": "What causes Hypotension?",
}
"""Questions, and how the sample puts them."""

Wanted = dict[str, str]
"""Queries, and the text that belongs to each."""


def main() -> None:
    parser = options_parser(__doc__, limit=2000)
    parser.add_argument("kind", choices=READERS)
    options = parser.parse_args()
    wanted, texts = READERS[options.kind](options.data, options.limit)
    queries, corpus = list(wanted), list(dict.fromkeys(texts))

    model = SentenceTransformer(options.model)
    # A model that was trained with prompts for the two sides uses them here; for others, this is `encode`.
    query_embeddings = model.encode_query(queries, convert_to_tensor=True)  # (Q, D)
    corpus_embeddings = model.encode_document(corpus, convert_to_tensor=True)  # (N, D)
    hits_by_query = util.semantic_search(query_embeddings, corpus_embeddings, top_k=10)

    for query, hits in list(zip(queries, hits_by_query, strict=True))[:3]:
        print(query)
        for hit in hits[:3]:
            text = textwrap.shorten(corpus[hit["corpus_id"]], 100, placeholder=" ...")
            print(f"  {hit['score']:.4f}  {text}")

    print(f"{len(queries):,} queries, {len(corpus):,} texts. The text that belongs to a query is")
    for count in (1, 10):
        found = [
            wanted[query] in {corpus[hit["corpus_id"]] for hit in hits[:count]}
            for query, hits in zip(queries, hits_by_query, strict=True)
        ]
        print(f"  {'the first' if count == 1 else f'among the first {count}'}: {sum(found) / len(found):.1%}")


def paraphrases(folder: Path | None, limit: int) -> tuple[Wanted, list[str]]:
    """Sentences with another one that means the same, and all the other ones."""
    if folder is None:
        return REWORDED, [row["question"] for row in questions_and_answers(None, limit)] + list(
            REWORDED.values()
        )
    pairs = some_of(read_table(folder / "paraphrases" / "train.tsv.gz"), limit)
    return {row["sentence1"]: row["sentence2"] for row in pairs}, [row["sentence2"] for row in pairs]


def answered_questions(folder: Path | None, limit: int) -> tuple[Wanted, list[str]]:
    """Questions with a passage that answers each, and all passages."""
    rows = questions_and_answers(folder, limit)
    return {row["question"]: row["answer"] for row in rows}, [row["answer"] for row in rows]


READERS = {"symmetric": paraphrases, "asymmetric": answered_questions}

if __name__ == "__main__":
    main()
