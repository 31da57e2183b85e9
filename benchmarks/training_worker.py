"""The measured side of `training.py`: trains once with whichever library its interpreter has.

Takes one JSON argument and prints one line of JSON at the end. The same code runs with this project and
with the reference, since both have the same interface.
"""

from __future__ import annotations

import csv
import gzip
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerCallback

from sentence_transformers import (
    CrossEncoder,
    CrossEncoderTrainer,
    CrossEncoderTrainingArguments,
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
    losses,
)
from sentence_transformers.cross_encoder import losses as cross_losses
from sentence_transformers.evaluation import EmbeddingSimilarityEvaluator

CLASSES = ("entailment", "neutral", "contradiction")
WARM_UP_STEPS = 2


class Clock(TrainerCallback):
    """Notes when each step ended, and its loss."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.losses: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.ends.append(time.perf_counter())

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))


def main(request: dict[str, Any]) -> dict[str, Any]:
    torch.set_num_threads(request["threads"])
    seed = request.get("seed", 12)
    torch.manual_seed(seed)
    scores_pairs = request["loss"] in ("scores", "lists")
    model = (CrossEncoder if scores_pairs else SentenceTransformer)(request["folder"], device="cpu")
    if request.get("dropout") is not None:
        for part in model.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = request["dropout"]
            # Attention keeps the probability as a plain number.
            if isinstance(getattr(part, "dropout_prob", None), float):
                part.dropout_prob = request["dropout"]
    data = Path(request["data_folder"])
    rows = read_rows(data, request["data"])
    random.Random(seed).shuffle(rows)
    names = list(rows[0])
    train = Dataset.from_dict({name: [row[name] for row in rows[: request["rows"]]] for name in names})
    if request["loss"] == "lists":
        train = Dataset.from_dict(lists_of(rows, request["rows"]))
    elif request["loss"] not in ("cosent", "scores"):
        train = train.remove_columns([name for name in ("score",) if name in names])
    batch_size = request["batch_size"]
    clock = Clock()
    trainer_of, arguments_of = (
        (CrossEncoderTrainer, CrossEncoderTrainingArguments)
        if scores_pairs
        else (SentenceTransformerTrainer, SentenceTransformerTrainingArguments)
    )
    arguments = arguments_of(
        output_dir=tempfile.mkdtemp(),
        num_train_epochs=1,
        per_device_train_batch_size=batch_size,
        learning_rate=2e-5,
        warmup_steps=0.1,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=seed,
        dataloader_drop_last=True,
    )
    trainer = trainer_of(model, arguments, train, loss=loss_named(request["loss"], model), callbacks=[clock])
    started = time.perf_counter()
    trainer.train()
    ends = [started, *clock.ends]
    # The first steps also pay for starting up, unless there are no others.
    skipped = WARM_UP_STEPS if len(clock.ends) > 2 * WARM_UP_STEPS else 0
    steps = len(clock.ends) - skipped
    result: dict[str, Any] = {
        "samples_per_second": steps * batch_size / (ends[-1] - ends[skipped]),
        "steps": steps,
        "losses": clock.losses,
        "peak_mib": peak_mib(),
    }
    if request.get("evaluate"):
        test = read_table(data / "stsb" / "en" / "test.tsv.gz")
        evaluator = EmbeddingSimilarityEvaluator(
            [row["sentence1"] for row in test],
            [row["sentence2"] for row in test],
            [float(row["score"]) for row in test],
        )
        result["stsb_test"] = 100 * evaluator(model)["spearman_cosine"]
    return result


def loss_named(name: str, model: Any) -> torch.nn.Module:
    if name == "scores":
        return cross_losses.BinaryCrossEntropyLoss(model)
    if name == "lists":
        return cross_losses.LambdaLoss(model)
    if name == "cosent":
        return losses.CoSENTLoss(model)
    if name == "mnrl":
        return losses.MultipleNegativesRankingLoss(model)
    cached = losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=32)
    return losses.MatryoshkaLoss(model, cached, [384, 256, 128, 64]) if name == "matryoshka" else cached


def read_rows(folder: Path, name: str) -> list[dict[str, Any]]:
    """Pairs of STSb with their scores, or triplets of NLI."""
    if name == "stsb":
        return [
            {"sentence1": row["sentence1"], "sentence2": row["sentence2"], "score": float(row["score"]) / 5}
            for row in read_table(folder / "stsb" / "en" / "train.tsv.gz")
        ]
    hypotheses: dict[str, dict[str, list[str]]] = {}
    for row in read_table(folder / "nli" / "train.tsv.gz"):
        hypotheses.setdefault(row["premise"], {}).setdefault(row["label"], []).append(row["hypothesis"])
    return [
        {"anchor": premise, "positive": positive, "negative": negative}
        for premise, by_class in hypotheses.items()
        for positive, negative in zip(by_class.get("entailment", []), by_class.get("contradiction", []))
    ]


def lists_of(rows: list[dict[str, Any]], count: int) -> dict[str, list[Any]]:
    """Queries with four documents each: one that fits, one that does not, and those of the next row."""
    following = rows[1 : count + 1]
    return {
        "query": [row["anchor"] for row in rows[:count]],
        "documents": [
            [row["positive"], row["negative"], other["positive"], other["negative"]]
            for row, other in zip(rows, following)
        ],
        "labels": [[1.0, 0.0, 0.0, 0.0] for _ in following],
    }


def read_table(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def peak_mib() -> float | None:
    """Highest resident memory of this process so far."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
