"""Learn sentence embeddings from natural language inference, in three ways, and judge them on STSb.

    python examples/nli/train_nli.py softmax|ranking|gist [--start NAME] [--out FOLDER] [--data FOLDER] ...

The data come from --data, a folder with `nli/train.tsv.gz` (premise, hypothesis, label) and
`stsb/en/{dev,test}.tsv.gz` (sentence1, sentence2, score from 0 to 5), or without it from the hub:
sentence-transformers/all-nli and sentence-transformers/stsb. Writes the model and `report.json`.
"""

from __future__ import annotations

import argparse
import copy
import csv
import gzip
import json
import time
from pathlib import Path

import torch
from datasets import Dataset, load_dataset
from sentence_transformers.training_args import BatchSamplers

from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
    losses,
    models,
)
from sentence_transformers.evaluation import EmbeddingSimilarityEvaluator, SimilarityFunction

CLASSES = ("entailment", "neutral", "contradiction")
TEACHER = "all-MiniLM-L6-v2"
METHODS = ("softmax", "ranking", "gist")


def main() -> None:
    options = parse_arguments()
    torch.manual_seed(options.seed)
    model = starting_model(options.start)
    dev, test = evaluators(options.data)
    before = test(model)["sts-test_spearman_cosine"]

    pairs = read_pairs(options.data)
    if options.method == "softmax":
        train = pairs.select(range(min(options.rows or len(pairs), len(pairs))))
        loss = losses.SoftmaxLoss(model, model.get_sentence_embedding_dimension(), num_labels=len(CLASSES))
    else:
        train = read_triplets(options.data, pairs)
        train = train.select(range(min(options.rows or len(train), len(train))))
        if options.method == "ranking":
            loss = losses.MultipleNegativesRankingLoss(model)
        else:
            loss = losses.GISTEmbedLoss(model, guide=SentenceTransformer(TEACHER))

    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(options.out / "checkpoints"),
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        warmup_ratio=0.1,
        # In a batch without equal texts, no negative is secretly a positive.
        batch_sampler=BatchSamplers.BATCH_SAMPLER
        if options.method == "softmax"
        else BatchSamplers.NO_DUPLICATES,
        eval_strategy="epoch",
        save_strategy="no",
        logging_steps=0.1,
        seed=options.seed,
        disable_tqdm=options.quiet,
    )
    started = time.perf_counter()
    trainer = SentenceTransformerTrainer(model, arguments, train, loss=loss, evaluator=dev)
    trainer.train()
    report = {
        "method": options.method,
        "start": options.start,
        "loss": type(loss).__name__,
        "rows": len(train),
        "columns": train.column_names,
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "learning_rate": options.learning_rate,
        "seed": options.seed,
        "minutes": round((time.perf_counter() - started) / 60, 1),
        "stsb_test_before": round(100 * before, 2),
        "stsb_dev_after": round(100 * dev(model)["sts-dev_spearman_cosine"], 2),
        "stsb_test_after": round(100 * test(model)["sts-test_spearman_cosine"], 2),
    }
    model.save_pretrained(str(options.out / "model"))
    (options.out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train sentence embeddings on NLI.")
    parser.add_argument("method", choices=METHODS)
    parser.add_argument(
        "--start",
        default=TEACHER,
        help="the model to start from; 'reduced' for three of the layers of all-MiniLM-L6-v2, the last made anew",
    )
    parser.add_argument("--out", type=Path, default=Path("out/nli"))
    parser.add_argument(
        "--data", type=Path, default=None, help="folder of the data; without it, from the hub"
    )
    parser.add_argument("--rows", type=int, default=None, help="train on only so many rows")
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=2e-5)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser.parse_args()


def starting_model(name: str) -> SentenceTransformer:
    """A model by name, or one that has lost most of what it knew of sentences."""
    if name != "reduced":
        return SentenceTransformer(name)
    model = SentenceTransformer(TEACHER)
    encoder = copy.deepcopy(model[0].auto_model)
    layers = encoder.encoder.layer
    encoder.encoder.layer = layers[:3]
    encoder.config.num_hidden_layers = 3
    for part in encoder.encoder.layer[-1].modules():
        if isinstance(part, torch.nn.Linear):
            torch.nn.init.normal_(part.weight, std=encoder.config.initializer_range)
            torch.nn.init.zeros_(part.bias)
    model[0].auto_model = encoder
    pooling = models.Pooling(model[0].get_word_embedding_dimension(), pooling_mode="mean")
    return SentenceTransformer(modules=[model[0], pooling])


def read_pairs(folder: Path | None) -> Dataset:
    """Pairs with the number of their class."""
    if folder is None:
        return load_dataset("sentence-transformers/all-nli", "pair-class", split="train")
    rows = [row for row in read_table(folder / "nli" / "train.tsv.gz") if row["label"] in CLASSES]
    pairs = Dataset.from_dict(
        {
            "premise": [row["premise"] for row in rows],
            "hypothesis": [row["hypothesis"] for row in rows],
            "label": [CLASSES.index(row["label"]) for row in rows],
        }
    )
    return pairs.shuffle(seed=0)


def read_triplets(folder: Path | None, pairs: Dataset) -> Dataset:
    """Premises that have a hypothesis they entail, and one they contradict."""
    if folder is None:
        return load_dataset("sentence-transformers/all-nli", "triplet", split="train")
    hypotheses: dict[str, dict[int, list[str]]] = {}
    for row in pairs.sort("premise"):
        hypotheses.setdefault(row["premise"], {}).setdefault(row["label"], []).append(row["hypothesis"])
    triplets = [
        (premise, positive, negative)
        for premise, by_class in hypotheses.items()
        for positive, negative in zip(by_class.get(0, []), by_class.get(2, []), strict=False)
    ]
    columns = dict(
        zip(("anchor", "positive", "negative"), map(list, zip(*triplets, strict=True)), strict=True)
    )
    return Dataset.from_dict(columns).shuffle(seed=0)


def evaluators(folder: Path | None) -> list[EmbeddingSimilarityEvaluator]:
    """One for STSb's development set and one for its test set."""
    made = []
    for split, hub_split in (("dev", "validation"), ("test", "test")):
        if folder is None:
            rows = load_dataset("sentence-transformers/stsb", split=hub_split)
            highest = 1.0
        else:
            rows = read_table(folder / "stsb" / "en" / f"{split}.tsv.gz")
            highest = 5.0
        made.append(
            EmbeddingSimilarityEvaluator(
                sentences1=[row["sentence1"] for row in rows],
                sentences2=[row["sentence2"] for row in rows],
                scores=[float(row["score"]) / highest for row in rows],
                main_similarity=SimilarityFunction.COSINE,
                name=f"sts-{split}",
            )
        )
    return made


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a compressed table with a header and tabs between the columns."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


if __name__ == "__main__":
    main()
