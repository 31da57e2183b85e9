"""Losses over the scores of pairs, for which another release's results are recorded.

They stand in `data/losses_scores.json`. Read by the test that compares, and by `tools/record_losses_scores.py`,
which records; so nothing here imports the package. The models that both measure with hold the same weights.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tiny import FAMILIES, VOCABULARY_SIZE, sample_texts, special_token_ids, tiny_tokenizer

RECORDED = Path(__file__).parent / "data" / "losses_scores.json"

TEXTS = [text[:60] for text in sample_texts()]
ROWS = 6
SIZES = (3, 1, 4, 2, 5, 3)
"""Documents of each query."""

GRADES = (2, 0, 1, 1, 3, 0, 0, 2, 1, 0, 2, 2, 0, 1, 3, 0, 1, 2)
"""Labels of those documents, one list after another; some equal ones."""


def lists(values: Any) -> list[Any]:
    """Values of all documents as one list for each query."""
    ends = [sum(SIZES[: row + 1]) for row in range(ROWS)]
    return [values[end - size : end] for end, size in zip(ends, SIZES)]


COLUMNS: dict[str, list[Any]] = {
    "pairs": [TEXTS[:ROWS], TEXTS[ROWS : 2 * ROWS]],
    "triplets": [TEXTS[:ROWS], TEXTS[ROWS : 2 * ROWS], TEXTS[2 * ROWS : 3 * ROWS]],
    "two negatives": [TEXTS[number * ROWS : (number + 1) * ROWS] for number in range(4)],
    "lists": [TEXTS[:ROWS], lists(TEXTS[ROWS : ROWS + sum(SIZES)])],
}

LABELS: dict[str | None, Any] = {
    None: None,
    "score": torch.tensor([0.1, 0.9, 0.4, 1.0, 0.0, 0.7]),
    "class": torch.tensor([0, 2, 1, 1, 0, 2]),
    "margin": torch.tensor([1.0, -0.5, 2.0, 0.3, 0.0, 1.5]),
    "two scores": torch.arange(12.0).sin().reshape(ROWS, 2),
    "three scores": torch.arange(18.0).cos().reshape(ROWS, 3),
    "grades": lists(torch.tensor(GRADES, dtype=torch.float32)),
    "below zero": lists(torch.tensor(GRADES, dtype=torch.float32) - 1),
}

WATCHED = ("word_embeddings.weight", "layer.1.output.dense.weight", "classifier.weight", "classifier.bias")
"""Endings of the parameters whose gradients are compared."""


@dataclass(frozen=True)
class Case:
    """A loss, and what it is given."""

    loss: str
    """Name of the class."""

    columns: str
    """A key of `COLUMNS`."""

    labels: str | None = None
    """A key of `LABELS`."""

    arguments: Callable[[Any], dict[str, Any]] = lambda losses: {}
    """Further arguments, made with the module that holds the losses."""

    num_labels: int = 1
    """Scores of the model."""


def given(**arguments: Any) -> Callable[[Any], dict[str, Any]]:
    return lambda losses: arguments


def scheme(name: str, **further: Any) -> Callable[[Any], dict[str, Any]]:
    return lambda losses: {"weighting_scheme": getattr(losses, name)(), **further}


SCHEMES = (
    "NoWeightingScheme",
    "NDCGLoss1Scheme",
    "NDCGLoss2Scheme",
    "LambdaRankScheme",
    "NDCGLoss2PPScheme",
)
LISTWISE = ("ListNetLoss", "ListMLELoss", "PListMLELoss", "LambdaLoss", "RankNetLoss", "ADRMSELoss")

CASES = [
    Case("BinaryCrossEntropyLoss", "pairs", "score"),
    Case(
        "BinaryCrossEntropyLoss",
        "pairs",
        "score",
        given(pos_weight=torch.tensor(3.0), activation_fn=nn.Tanh()),
    ),
    Case("CrossEntropyLoss", "pairs", "class", num_labels=3),
    Case("CrossEntropyLoss", "pairs", "class", given(label_smoothing=0.1), num_labels=3),
    Case("MSELoss", "pairs", "score"),
    Case("MSELoss", "pairs", "score", given(activation_fn=nn.Sigmoid(), reduction="sum")),
    Case("MarginMSELoss", "triplets", "margin"),
    Case("MarginMSELoss", "triplets", "two scores", given(activation_fn=nn.Sigmoid())),
    Case("MarginMSELoss", "two negatives", "two scores"),
    Case("MarginMSELoss", "two negatives", "three scores"),
    Case("MultipleNegativesRankingLoss", "pairs", None, given(num_negatives=None)),
    Case("MultipleNegativesRankingLoss", "triplets", None, given(num_negatives=None, scale=3.0)),
    Case("MultipleNegativesRankingLoss", "pairs", None, given(num_negatives=5, activation_fn=nn.Tanh())),
    Case(
        "CachedMultipleNegativesRankingLoss",
        "triplets",
        None,
        given(num_negatives=None, mini_batch_size=4),
    ),
    *(Case(loss, "lists", "grades") for loss in LISTWISE),
    *(Case(loss, "lists", "below zero", given(activation_fn=nn.Sigmoid())) for loss in LISTWISE),
    *(Case(loss, "lists", "grades", given(mini_batch_size=4)) for loss in LISTWISE),
    Case("ListMLELoss", "lists", "grades", given(respect_input_order=False)),
    Case("PListMLELoss", "lists", "grades", given(respect_input_order=False)),
    Case("PListMLELoss", "lists", "grades", given(lambda_weight=None)),
    Case(
        "PListMLELoss",
        "lists",
        "grades",
        lambda losses: {"lambda_weight": losses.PListMLELambdaWeight(lambda mask: mask / mask.cumsum(1))},
    ),
    Case("ADRMSELoss", "lists", "grades", given(alpha=0.3)),
    Case("RankNetLoss", "lists", "grades", given(k=2, sigma=2.0, reduction_log="natural")),
    *(Case("LambdaLoss", "lists", "grades", scheme(name)) for name in SCHEMES),
    *(Case("LambdaLoss", "lists", "grades", scheme(name, k=2)) for name in SCHEMES),
    *(
        Case("LambdaLoss", "lists", "below zero", scheme(name, sigma=0.5, reduction_log="natural"))
        for name in SCHEMES
    ),
    Case("LambdaLoss", "lists", "grades", given(weighting_scheme=None)),
]


def tiny_cross_encoder(folder: str | Path, num_labels: int) -> Path:
    """Save a tiny BERT with random weights and a head of some labels, as a plain transformers checkpoint."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    folder = Path(folder)
    config = AutoConfig.for_model(
        "bert",
        **{
            "vocab_size": VOCABULARY_SIZE,
            **special_token_ids("bert"),
            **FAMILIES["bert"].settings,
            "num_labels": num_labels,
        },
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tiny_tokenizer("bert").save_pretrained(folder)
    # Under this name every release of transformers reads tokenizer.json as it stands.
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(settings, indent=2), encoding="utf-8")
    return folder


def measured(case: Case, losses: Any, model: Any) -> dict[str, Any]:
    """Value, gradient norms and settings of a loss.

    Args:
        case: The loss.
        losses: The module that holds the losses.
        model: A model in eval mode.
    """
    loss = getattr(losses, case.loss)(model, **case.arguments(losses))
    model.zero_grad()
    value = loss(COLUMNS[case.columns], LABELS[case.labels])
    value.backward()
    return {
        "value": value.item(),
        "gradients": {
            ending: parameter.grad.norm().item()
            for ending in WATCHED
            for name, parameter in model.named_parameters()
            if name.endswith(ending)
        },
        "settings": loss.get_config_dict() if hasattr(loss, "get_config_dict") else {},
    }
