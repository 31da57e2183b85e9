"""Train a cross-encoder to tell whether the answer to one question also answers another.

    python examples/cross_encoder/train_duplicates.py --data FOLDER [--epochs 1] ...

Pairs of questions with yes or no. A share of the training pairs is kept apart to choose the best epoch by. Reports
average precision and the best accuracy on the test set, beside those of a bi-encoder's cosines.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from datasets import Dataset
from one_run import percent, starting_model, train, training_options, write_report
from reading import read_table

from sentence_transformers import SentenceTransformer
from sentence_transformers.cross_encoder.evaluation import CrossEncoderClassificationEvaluator
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss
from sentence_transformers.evaluation import BinaryClassificationEvaluator

KEPT_APART = 500


def main() -> None:
    parser = training_options(__doc__, rows=None, epochs=1)
    parser.add_argument("--compare", default="all-MiniLM-L6-v2", help="bi-encoder to compare with")
    options = parser.parse_args()
    data = Dataset.from_list(rows_of(options.data, "train")).shuffle(seed=0)
    kept = min(KEPT_APART, len(data) // 4)
    dev, data = data.select(range(kept)), data.select(range(kept, len(data)))
    test = rows_of(options.data, "test")
    model = starting_model(options)
    report = train(
        model,
        BinaryCrossEntropyLoss(model),
        data,
        evaluator(list(dev), "dev"),
        options,
        best_by="dev_average_precision",
    )
    report.update(
        {
            name: percent(value)
            for name, value in evaluator(test, "test")(model).items()
            if "threshold" not in name
        }
    )
    of_cosines = BinaryClassificationEvaluator(
        [row["question1"] for row in test],
        [row["question2"] for row in test],
        [row["label"] for row in test],
        similarity_fn_names=["cosine"],
    )(SentenceTransformer(options.compare))
    for metric in ("accuracy", "f1", "ap"):
        report[f"test_{metric}_bi_encoder"] = percent(of_cosines[f"cosine_{metric}"])
    write_report(options, report)


def evaluator(rows: list[dict[str, object]], name: str) -> CrossEncoderClassificationEvaluator:
    pairs = [(row["question1"], row["question2"]) for row in rows]
    return CrossEncoderClassificationEvaluator(pairs, [row["label"] for row in rows], name=name)


def rows_of(folder: Path, split: str) -> list[dict[str, object]]:
    """Pairs of questions, and 1 where one answer answers both."""
    rows = read_table(folder / "question_entailment" / f"{split}.tsv.gz")
    return [{**row, "label": int(row["label"])} for row in rows]


if __name__ == "__main__":
    main()
