"""Train a re-ranker with hard negatives that a bi-encoder has found.

    python examples/cross_encoder/train_reranker.py --data FOLDER [--questions 3000] [--negatives 3] ...
    python examples/retrieve_rerank/retrieve_and_rerank.py --data FOLDER/medquad --reranker OUT/model

Questions about health and their answers. For each question, a bi-encoder finds the answers to other questions that
look most like its own (`mine_hard_negatives`); the model learns to put the right one first. The best epoch is chosen by
re-ranking what the bi-encoder finds for the questions of the development set, which are about other diseases.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from datasets import Dataset
from one_run import percent, starting_model, train, training_options, write_report
from reading import read_table, some_of
from retrieval_sets import read_folder

from sentence_transformers import SentenceTransformer, util
from sentence_transformers.cross_encoder.evaluation import CrossEncoderRerankingEvaluator
from sentence_transformers.cross_encoder.losses import LambdaLoss

CANDIDATES = 20
DEV_QUERIES = 100
NEIGHBOURS = 50


def main() -> None:
    parser = training_options(__doc__, rows=None, epochs=1)
    parser.add_argument("--questions", type=int, default=3_000, help="questions to learn from (3,000)")
    parser.add_argument("--negatives", type=int, default=3, help="wrong answers for each question (3)")
    parser.add_argument("--retriever", default="all-MiniLM-L6-v2", help="bi-encoder that finds them")
    options = parser.parse_args()
    retriever = SentenceTransformer(options.retriever)
    data = labelled_lists(retriever, options)
    evaluator = reranking(retriever, options.data / "medquad")
    model = starting_model(options)
    report = {"retriever": options.retriever, "negatives": options.negatives}
    report.update(train(model, LambdaLoss(model), data, evaluator, options, best_by="dev_ndcg@10"))
    measured = evaluator(model)
    report["dev_ndcg@10_retrieved"] = percent(measured["dev_base_ndcg@10"])
    report["dev_ndcg@10_reranked"] = percent(measured["dev_ndcg@10"])
    write_report(options, report)


def labelled_lists(retriever: SentenceTransformer, options: object) -> Dataset:
    """Questions, each with the right answer and wrong ones, and which is which."""
    return util.mine_hard_negatives(
        questions_with_answers(options.data, options.questions),
        retriever,
        num_negatives=options.negatives,
        range_max=30,
        # Who asks the same question elsewhere may have been given another right answer.
        relative_margin=0.02,
        output_format="labeled-list",
        verbose=not options.quiet,
    )


def questions_with_answers(folder: Path, limit: int) -> Dataset:
    """Questions and answers in stretches of neighbours, since the hardest negatives are about the same disease."""
    rows = read_table(folder / "medquad" / "train.tsv.gz")
    stretches = [rows[start : start + NEIGHBOURS] for start in range(0, len(rows), NEIGHBOURS)]
    chosen = [row for stretch in some_of(stretches, limit // NEIGHBOURS + 1) for row in stretch][:limit]
    return Dataset.from_dict({name: [row[name] for row in chosen] for name in ("question", "answer")})


def reranking(retriever: SentenceTransformer, folder: Path) -> CrossEncoderRerankingEvaluator:
    """Judges by the questions of the development set, each with what the retriever finds for it."""
    data = read_folder(folder, "dev").with_queries(DEV_QUERIES)
    documents = list(data.documents.values())
    found = util.semantic_search(
        retriever.encode_query(list(data.queries.values()), convert_to_tensor=True),
        retriever.encode_document(documents, convert_to_tensor=True),
        top_k=CANDIDATES,
    )
    samples = [
        {
            "query": text,
            "positive": [data.documents[name] for name in data.relevant[query]],
            "documents": [documents[hit["corpus_id"]] for hit in hits],
        }
        for (query, text), hits in zip(data.queries.items(), found, strict=True)
    ]
    # A document that was not found cannot be put first, as in a search.
    return CrossEncoderRerankingEvaluator(samples, name="dev", always_rerank_positives=False)


if __name__ == "__main__":
    main()
