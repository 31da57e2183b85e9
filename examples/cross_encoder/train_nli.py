"""Train a cross-encoder to tell whether one sentence entails another, contradicts it, or neither.

    python examples/cross_encoder/train_nli.py --data FOLDER [--rows 8000] [--epochs 1] ...

A model with a score for each class. Reports accuracy and F1 on the test set, which nothing was chosen by.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from datasets import Dataset
from one_run import percent, starting_model, train, training_options, write_report
from reading import read_table

from sentence_transformers.cross_encoder.evaluation import CrossEncoderClassificationEvaluator
from sentence_transformers.cross_encoder.losses import CrossEntropyLoss

CLASSES = ("contradiction", "entailment", "neutral")


def main() -> None:
    options = training_options(__doc__, rows=8_000, epochs=1).parse_args()
    data = Dataset.from_list(rows_of(options.data, "train"))
    evaluators = {
        split: CrossEncoderClassificationEvaluator(
            [(row["premise"], row["hypothesis"]) for row in rows], [row["label"] for row in rows], name=split
        )
        for split, rows in ((split, rows_of(options.data, split)) for split in ("dev", "test"))
    }
    model = starting_model(options, num_labels=len(CLASSES))
    model.model.config.id2label = dict(enumerate(CLASSES))
    model.model.config.label2id = {name: number for number, name in enumerate(CLASSES)}
    report = train(model, CrossEntropyLoss(model), data, evaluators["dev"], options, best_by="dev_f1_macro")
    for split, evaluator in evaluators.items():
        report.update({name: percent(value) for name, value in evaluator(model).items() if split in name})
    write_report(options, report)


def rows_of(folder: Path, split: str) -> list[dict[str, object]]:
    """Premises, hypotheses and the number of the class, where there is one."""
    rows = read_table(folder / "nli" / f"{split}.tsv.gz")
    return [
        {
            "premise": row["premise"],
            "hypothesis": row["hypothesis"],
            "label": CLASSES.index(row["label"]),
        }
        for row in rows
        if row["label"] in CLASSES
    ]


if __name__ == "__main__":
    main()
