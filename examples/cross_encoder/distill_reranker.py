"""Train a small re-ranker to score as a larger one does.

    python examples/cross_encoder/distill_reranker.py --data FOLDER --teacher OUT/model --start OUT/model --layers 4 ...

For questions about health, a bi-encoder finds wrong answers; the teacher, a cross-encoder, scores the right answer and
the wrong ones, and the student learns by how much the right one is to win (MarginMSE). The student is what `--layers` leave
of `--start`, best of the teacher itself. With `--labels-only` the same student learns from right and wrong alone, to see what
the teacher is good for.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

import numpy as np
from datasets import Dataset
from one_run import percent, starting_model, train, training_options, write_report
from torch import nn
from train_reranker import labelled_lists, questions_with_answers, reranking

from sentence_transformers import CrossEncoder, SentenceTransformer, util
from sentence_transformers.cross_encoder.losses import LambdaLoss, MarginMSELoss


def main() -> None:
    parser = training_options(__doc__, rows=None, epochs=1)
    parser.add_argument("--teacher", required=True, help="cross-encoder to learn from")
    parser.add_argument("--questions", type=int, default=3_000, help="questions to learn from (3,000)")
    parser.add_argument("--negatives", type=int, default=3, help="wrong answers for each question (3)")
    parser.add_argument("--retriever", default="all-MiniLM-L6-v2", help="bi-encoder that finds them")
    parser.add_argument("--labels-only", action="store_true", help="learn without the teacher")
    options = parser.parse_args()
    retriever = SentenceTransformer(options.retriever)
    evaluator = reranking(retriever, options.data / "medquad")
    model = starting_model(options)
    if options.labels_only:
        data, loss = labelled_lists(retriever, options), LambdaLoss(model)
    else:
        data, loss = teachers_margins(retriever, options), MarginMSELoss(model)
    report = {"teacher": None if options.labels_only else options.teacher}
    report["dev_ndcg@10_before"] = percent(evaluator(model)["dev_ndcg@10"])
    report.update(train(model, loss, data, evaluator, options, best_by="dev_ndcg@10"))
    measured = evaluator(model)
    report["dev_ndcg@10_retrieved"] = percent(measured["dev_base_ndcg@10"])
    report["dev_ndcg@10_teacher"] = percent(evaluator(CrossEncoder(options.teacher))["dev_ndcg@10"])
    report["dev_ndcg@10_reranked"] = percent(measured["dev_ndcg@10"])
    write_report(options, report)


def teachers_margins(retriever: SentenceTransformer, options: object) -> Dataset:
    """Questions, right answers, wrong answers, and by how much the teacher scores the right one higher."""
    data = util.mine_hard_negatives(
        questions_with_answers(options.data, options.questions),
        retriever,
        num_negatives=options.negatives,
        range_max=30,
        output_format="n-tuple",
        verbose=not options.quiet,
    )
    documents = data.column_names[1:]
    # Raw scores: between two that a sigmoid has taken to 1 there is nothing left to learn.
    scores = CrossEncoder(options.teacher, max_length=options.max_length).predict(
        [(row["question"], row[name]) for row in data for name in documents], activation_fn=nn.Identity()
    )
    scores = np.reshape(scores, (len(data), len(documents)))
    return data.add_column("score", (scores[:, :1] - scores[:, 1:]).tolist())


if __name__ == "__main__":
    main()
