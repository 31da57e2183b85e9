"""Short training runs of a tiny cross-encoder: what the tests and `tools/record_cross_encoder_training.py` share.

Every run sees the same rows in each step, all there are, so that the order in which they are drawn does not
matter; and nothing in it is random.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cross_encoder_cases import tiny_classifier
from tiny import sample_texts

RECORDED = Path(__file__).parent / "data" / "cross_encoder_training.json"
STEPS = 4
ROWS = 6


def rows_of(kind: str) -> dict[str, list[Any]]:
    """The rows of a data set, by column; kind is one of those in `CASES`."""
    texts = sample_texts()[: 5 * ROWS]
    queries = texts[:ROWS]
    documents = [texts[ROWS + 4 * row : ROWS + 4 * row + 2 + row % 3] for row in range(ROWS)]
    relevance = [[(row + place) % 3 for place in range(len(own))] for row, own in enumerate(documents)]
    pairs = {"query": queries, "document": texts[ROWS : 2 * ROWS]}
    if kind == "lists":
        return {"query": queries, "documents": documents, "labels": relevance}
    if kind == "score":
        return {**pairs, "score": [row / (ROWS - 1) for row in range(ROWS)]}
    if kind == "class":
        return {**pairs, "label": [row % 3 for row in range(ROWS)]}
    triplets = {**pairs, "negative": texts[2 * ROWS : 3 * ROWS]}
    if kind == "margin":
        return {**triplets, "score": [row - 2.5 for row in range(ROWS)]}
    if kind == "margins":
        margins = [[row - 2.0, row / 2] for row in range(ROWS)]
        return {**triplets, "negative_2": texts[3 * ROWS : 4 * ROWS], "score": margins}
    assert kind == "triplet"
    return triplets


CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "default, one score": ("", "score", {}),
    "default, classes": ("", "class", {}),
    "binary cross entropy": ("BinaryCrossEntropyLoss", "score", {}),
    "cross entropy": ("CrossEntropyLoss", "class", {}),
    "squared error": ("MSELoss", "score", {}),
    "margin": ("MarginMSELoss", "margin", {}),
    "margins": ("MarginMSELoss", "margins", {}),
    "ranking": ("MultipleNegativesRankingLoss", "triplet", {"num_negatives": None}),
    "cached ranking": (
        "CachedMultipleNegativesRankingLoss",
        "triplet",
        {"num_negatives": None, "mini_batch_size": 4},
    ),
    "lambda": ("LambdaLoss", "lists", {}),
    "lambda in small batches": ("LambdaLoss", "lists", {"mini_batch_size": 4}),
    "list net": ("ListNetLoss", "lists", {}),
    "list mle": ("ListMLELoss", "lists", {"respect_input_order": False}),
    "plist mle": ("PListMLELoss", "lists", {"respect_input_order": False}),
    "rank net": ("RankNetLoss", "lists", {}),
    "adr mse": ("ADRMSELoss", "lists", {}),
}
"""Name of the loss, data and further arguments, by case."""


def labels_of(case: str) -> int:
    """Scores that the model of a case gives."""
    return 3 if CASES[case][1] == "class" else 1


def checkpoint_of(case: str, folder: str | Path) -> str:
    """Save the model that a case starts from; it has no dropout."""
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return str(tiny_classifier("bert", folder, labels_of(case), **quiet))


def trained(case: str, folder: Path) -> Any:
    """Run a case with the library that is installed.

    Returns:
        The trainer, when it is done.
    """
    from datasets import Dataset

    from sentence_transformers import CrossEncoder
    from sentence_transformers.cross_encoder import (
        CrossEncoderTrainer,
        CrossEncoderTrainingArguments,
        losses,
    )

    name, kind, options = CASES[case]
    model = CrossEncoder(checkpoint_of(case, folder / "start"), device="cpu")
    arguments = CrossEncoderTrainingArguments(
        output_dir=str(folder / "run"),
        max_steps=STEPS,
        per_device_train_batch_size=ROWS,
        learning_rate=1e-3,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        prompts="Find: " if case == "squared error" else None,
    )
    trainer = CrossEncoderTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict(rows_of(kind)),
        loss=getattr(losses, name)(model, **options) if name else None,
    )
    trainer.train()
    return trainer


def outcome(trainer: Any) -> dict[str, Any]:
    """What a run is compared by: the loss of each step, and scores of the trained model."""
    pairs = list(zip(sample_texts()[:4], sample_texts()[40:44]))
    return {
        "losses": [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry],
        "scores": trainer.model.predict(pairs, show_progress_bar=False).tolist(),
    }
