"""Tiny random cross-encoders and the pairs they score: what the tests and `tools/record_cross_encoder.py` share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny import sample_texts, tiny_checkpoint

RECORDED = Path(__file__).parent / "data" / "cross_encoder.json"

FAMILIES = (
    "bert",
    "roberta",
    "xlm-roberta",
    "distilbert",
    "electra",
    "mpnet",
    "albert",
    "modernbert",
    "nomic-bert",
    "deberta-v2",
)
LABELS = (1, 3)
MAX_LENGTH = 24
PROMPT = "Question: "


def tiny_classifier(family: str, folder: str | Path, labels: int, *, seed: int = 0, **settings: Any) -> Path:
    """Save a tiny checkpoint with random weights and a head for sequence classification.

    Args:
        family: A key of `tiny.FAMILIES`.
        folder: Where to save it; made when missing.
        labels: Scores of each row.
        seed: Of the random weights.
        **settings: Arguments of the configuration.
    """
    import torch
    import transformers

    folder = tiny_checkpoint(family, folder)
    config = transformers.AutoConfig.from_pretrained(folder, num_labels=labels, **settings)
    torch.manual_seed(seed)
    transformers.AutoModelForSequenceClassification.from_config(config).eval().save_pretrained(folder)
    return folder


def sample_pairs() -> list[tuple[str, str]]:
    """Pairs of a few and of more tokens than the models read, also empty ones, and white space at the ends."""
    texts = sample_texts()
    return [
        *zip(texts[:6], texts[30:36]),
        (texts[0], " ".join(texts[20:40])),
        (" ".join(texts[:12]), texts[1]),
        (" ".join(texts[:20]), " ".join(texts[20:40])),
        (" a question ", "an answer\n"),
        ("", "an answer"),
        ("a question", ""),
        ("Über Größe", "naïve café 東京"),
        (texts[0], texts[30]),
    ]
