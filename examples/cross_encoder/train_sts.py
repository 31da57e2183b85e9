"""Train a cross-encoder to say how similar two sentences are, and compare it with a bi-encoder.

    python examples/cross_encoder/train_sts.py --data FOLDER [--out FOLDER] [--epochs 4] ...

Learns from the training set of the STS benchmark with a score from 0 to 1 for each pair, keeps the best epoch by the
development set, and reports Spearman's correlation on the test set beside that of the bi-encoder's cosines.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from datasets import Dataset
from one_run import percent, starting_model, train, training_options, write_report
from reading import read_table

from sentence_transformers import SentenceTransformer
from sentence_transformers.cross_encoder.evaluation import CrossEncoderCorrelationEvaluator
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss
from sentence_transformers.evaluation import EmbeddingSimilarityEvaluator

HIGHEST = 5.0


def main() -> None:
    parser = training_options(__doc__, rows=None, epochs=4)
    parser.add_argument("--compare", default="all-MiniLM-L6-v2", help="bi-encoder to compare with")
    options = parser.parse_args()
    first, second, scores = columns(options.data, "train")
    data = Dataset.from_dict({"sentence1": first, "sentence2": second, "score": scores})
    evaluators = {}
    for split in ("dev", "test"):
        one, other, expected = columns(options.data, split)
        evaluators[split] = CrossEncoderCorrelationEvaluator(
            list(zip(one, other, strict=True)), expected, name=f"sts-{split}"
        )
    bi_encoder = EmbeddingSimilarityEvaluator(
        *columns(options.data, "test"), name="sts-test", main_similarity="cosine"
    )

    model = starting_model(options)
    report = train(
        model, BinaryCrossEntropyLoss(model), data, evaluators["dev"], options, best_by="sts-dev_spearman"
    )
    report["dev_spearman"] = percent(evaluators["dev"](model)["sts-dev_spearman"])
    report["test_spearman"] = percent(evaluators["test"](model)["sts-test_spearman"])
    compared = SentenceTransformer(options.compare)
    report["test_spearman_bi_encoder"] = percent(bi_encoder(compared)["sts-test_spearman_cosine"])
    write_report(options, report)


def columns(folder: Path, split: str) -> tuple[list[str], list[str], list[float]]:
    """First sentences, second sentences, and their scores from 0 to 1."""
    rows = read_table(folder / "stsb" / "en" / f"{split}.tsv.gz")
    return (
        [row["sentence1"] for row in rows],
        [row["sentence2"] for row in rows],
        [float(row["score"]) / HIGHEST for row in rows],
    )


if __name__ == "__main__":
    main()
