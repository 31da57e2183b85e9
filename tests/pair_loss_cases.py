"""Losses over pairs, triplets and labelled texts, for which another release's results are recorded.

They stand in `data/losses_pairs.json`. Read by the test that compares, and by
`tools/record_losses_pairs.py`, which records; so nothing here imports the package. The models that both
measure with hold the same weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tiny import sample_texts

RECORDED = Path(__file__).parent / "data" / "losses_pairs.json"

ROWS = 8
LABELS: dict[str, list[float] | list[int]] = {
    "score": [0.1, 0.9, 0.4, 0.4, 0.7, 0.0, 1.0, 0.3],
    "alike": [1, 0, 1, 1, 0, 0, 1, 0],
    "class": [0, 1, 2, 0, 1, 2, 0, 3],
    "one class": [0] * ROWS,
    "all different": list(range(ROWS)),
    "one apart": [0] * (ROWS - 1) + [1],
}

WATCHED = (
    "word_embeddings.weight",
    "layer.0.attention.self.query.weight",
    "layer.1.output.dense.weight",
    "classifier.weight",
    "classifier.bias",
    "logit_scale",
)
"""Endings of the parameters whose gradients are compared."""


@dataclass(frozen=True)
class Case:
    """A loss, and what it is given."""

    loss: str
    """Name of the class."""

    columns: int
    """Text columns."""

    labels: str | None = None
    """A key of `LABELS`."""

    arguments: Callable[[Any], dict[str, Any]] = lambda losses: {}
    """Further arguments, made with the module that holds the losses."""


def siamese(name: str, **further: Any) -> Callable[[Any], dict[str, Any]]:
    return lambda losses: {"distance_metric": getattr(losses.SiameseDistanceMetric, name), **further}


def triplet(name: str, **further: Any) -> Callable[[Any], dict[str, Any]]:
    return lambda losses: {"distance_metric": getattr(losses.TripletDistanceMetric, name), **further}


def batch_cosine(losses: Any) -> dict[str, Any]:
    return {"distance_metric": losses.BatchHardTripletLossDistanceFunction.cosine_distance}


def given(**arguments: Any) -> Callable[[Any], dict[str, Any]]:
    return lambda losses: arguments


BATCH_LOSSES = (
    "BatchAllTripletLoss",
    "BatchHardTripletLoss",
    "BatchHardSoftMarginTripletLoss",
    "BatchSemiHardTripletLoss",
)

CASES = [
    Case("ContrastiveLoss", 2, "alike"),
    Case("ContrastiveLoss", 2, "alike", siamese("EUCLIDEAN", margin=4.0, size_average=False)),
    Case("ContrastiveLoss", 2, "score", siamese("MANHATTAN", margin=20.0)),
    Case("OnlineContrastiveLoss", 2, "alike", given(margin=1.2)),
    Case("OnlineContrastiveLoss", 2, "one apart", siamese("EUCLIDEAN", margin=6.0)),
    Case("OnlineContrastiveLoss", 2, "one class", given(margin=1.2)),
    Case("CoSENTLoss", 2, "score"),
    Case("CoSENTLoss", 2, "one class"),
    Case("AnglELoss", 2, "score", given(scale=5.0)),
    Case("CosineSimilarityLoss", 2, "score"),
    Case(
        "CosineSimilarityLoss",
        2,
        "score",
        given(loss_fct=nn.L1Loss(), cos_score_transformation=nn.Sigmoid()),
    ),
    Case("TripletLoss", 3),
    Case("TripletLoss", 3, None, triplet("COSINE", triplet_margin=0.2)),
    Case("TripletLoss", 3, None, triplet("MANHATTAN", triplet_margin=3)),
    *(Case(loss, 1, labels) for loss in BATCH_LOSSES for labels in LABELS if labels != "score"),
    *(Case(loss, 1, "class", batch_cosine) for loss in BATCH_LOSSES),
    Case("BatchAllTripletLoss", 1, "class", given(margin=0.3)),
    Case("BatchHardTripletLoss", 1, "class", given(margin=0.3)),
    Case("BatchSemiHardTripletLoss", 1, "class", given(margin=0.3)),
    Case("SoftmaxLoss", 2, "class", given(sentence_embedding_dimension=32, num_labels=4)),
    Case(
        "SoftmaxLoss",
        2,
        "alike",
        given(
            sentence_embedding_dimension=32,
            num_labels=2,
            concatenation_sent_rep=False,
            concatenation_sent_multiplication=True,
        ),
    ),
    Case("MegaBatchMarginLoss", 2, None, given(mini_batch_size=3)),
    Case("MegaBatchMarginLoss", 2, None, given(use_mini_batched_version=False, positive_margin=0.9)),
    Case("ContrastiveTensionLoss", 2, "alike"),
    Case("ContrastiveTensionLoss", 2),
    Case("ContrastiveTensionLossInBatchNegatives", 1),
    Case("ContrastiveTensionLossInBatchNegatives", 2, None, given(scale=3.0)),
]


def measured(case: Case, losses: Any, model: Any) -> dict[str, Any]:
    """Value, gradient norms and settings of a loss.

    Args:
        case: The loss.
        losses: The module that holds the losses.
        model: A model in eval mode.
    """
    torch.manual_seed(0)
    loss = getattr(losses, case.loss)(model, **case.arguments(losses)).eval()
    inside = {id(parameter) for parameter in model.parameters()}
    own = [parameter for parameter in loss.parameters() if id(parameter) not in inside]
    with torch.no_grad():
        for parameter in own:
            # A second copy of the model is not the same as the first after some training.
            parameter.mul_(0.9)
    texts = [text[:60] for text in sample_texts()]
    columns = [texts[column * ROWS : (column + 1) * ROWS] for column in range(case.columns)]
    if case.columns > 1:
        # Some pairs are of the same text.
        columns[-1] = [columns[0][row] if row % 3 == 0 else text for row, text in enumerate(columns[-1])]
    labels = None if case.labels is None else torch.tensor(LABELS[case.labels])
    model.zero_grad()
    value = loss([model.tokenize(column) for column in columns], labels)
    value.backward()
    named = [
        *(("model", name, parameter) for name, parameter in model.named_parameters()),
        *(
            ("loss", name, parameter)
            for name, parameter in loss.named_parameters()
            if id(parameter) not in inside
        ),
    ]
    return {
        "value": value.item(),
        "gradients": {
            f"{place}: {ending}": 0.0 if parameter.grad is None else parameter.grad.norm().item()
            for ending in WATCHED
            for place, name, parameter in named
            if name.endswith(ending)
        },
        "settings": loss.get_config_dict() if hasattr(loss, "get_config_dict") else {},
    }
