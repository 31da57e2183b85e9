"""What the programs here share: their options, the model they start from, one run of training, and its report."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import nn

from sentence_transformers import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.recipes.layers import evenly_spaced, layers_of, with_layers


def training_options(description: str | None, *, rows: int | None, epochs: float) -> argparse.ArgumentParser:
    """A parser of the options that all of these programs have.

    Args:
        description: The docstring of the program.
        rows: Rows to train on if nothing else is asked for; None for all.
        epochs: Passes over them.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data, see examples/README.md")
    parser.add_argument("--out", type=Path, default=Path("out/cross_encoder"), help="where the model goes")
    parser.add_argument("--start", default="all-MiniLM-L6-v2", help="checkpoint to start from")
    parser.add_argument("--layers", type=int, default=None, help="keep only so many of its layers")
    parser.add_argument("--max-length", type=int, default=128, help="tokens of a pair (128)")
    parser.add_argument("--rows", type=int, default=rows, help=f"rows to train on ({rows or 'all'})")
    parser.add_argument("--epochs", type=float, default=epochs, help=f"passes over them ({epochs})")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser


def starting_model(options: argparse.Namespace, num_labels: int = 1) -> CrossEncoder:
    """The encoder to start from with a new head; a model that is saved as a cross-encoder keeps its own."""
    torch.manual_seed(options.seed)
    model = CrossEncoder(options.start, num_labels=num_labels, max_length=options.max_length)
    if options.layers is not None:
        # Spread over all of them: without the last layers, nothing speaks to the head any more.
        with_layers(model, evenly_spaced(options.layers, of=len(layers_of(model))))
    return model


def train(
    model: CrossEncoder,
    loss: nn.Module,
    data: Dataset,
    evaluator: Any,
    options: argparse.Namespace,
    *,
    best_by: str,
) -> dict[str, Any]:
    """Train a model, keep the best one of the epochs by a metric of the evaluator, and save it.

    Returns:
        How it was trained, for the report.
    """
    data = data.shuffle(seed=options.seed)
    data = data.select(range(min(options.rows or len(data), len(data))))
    arguments = CrossEncoderTrainingArguments(
        output_dir=str(options.out / "checkpoints"),
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        warmup_ratio=0.1,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model=best_by,
        logging_steps=0.1,
        seed=options.seed,
        report_to="none",
        disable_tqdm=options.quiet,
    )
    started = time.perf_counter()
    CrossEncoderTrainer(model, arguments, data, loss=loss, evaluator=evaluator).train()
    minutes = (time.perf_counter() - started) / 60
    model.save_pretrained(str(options.out / "model"))
    return {
        "start": options.start,
        "layers": model.model.config.num_hidden_layers,
        "loss": type(loss).__name__,
        "rows": len(data),
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "learning_rate": options.learning_rate,
        "max_length": options.max_length,
        "seed": options.seed,
        "minutes": round(minutes, 1),
    }


def write_report(options: argparse.Namespace, report: dict[str, Any]) -> None:
    """Write what was measured beside the model, and print it."""
    text = json.dumps(report, indent=2)
    (options.out / "report.json").write_text(text + "\n", encoding="utf-8")
    print(text)


def percent(value: float) -> float:
    """A share as a percentage with two digits."""
    return round(100 * value, 2)
