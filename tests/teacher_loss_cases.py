"""Losses with a teacher, a guide or a decoder, and wrappers, for which another release's results are recorded.

They stand in `data/losses_teachers.json`. Read by the test that compares, and by
`tools/record_losses_teachers.py`, which records; so nothing here imports the package. The models that both
measure with hold the same weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tiny import WIDTH, sample_texts, tiny_checkpoint

RECORDED = Path(__file__).parent / "data" / "losses_teachers.json"

ROWS = 6
WATCHED = (
    "word_embeddings.weight",
    "layer.0.attention.self.query.weight",
    "layer.1.output.dense.weight",
    "projection.weight",
    "crossattention.output.dense.weight",
)
"""Endings of the parameters whose gradients are compared."""


@dataclass(frozen=True)
class Case:
    """A loss, and what it is given."""

    loss: str
    """Name of the class."""

    columns: int
    """Text columns."""

    label_shape: tuple[int, ...] = ()
    """Of the label of each row."""

    has_labels: bool = False
    """Whether there are labels."""

    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments."""

    guide: str | None = None
    """A key of the models a guide is chosen from."""

    inner: Case | None = None
    """The loss inside, for a wrapper."""


def checkpoints(folder: Path) -> dict[str, Path]:
    """Make the checkpoints of the models that are measured with."""
    return {
        "model": tiny_checkpoint("bert", folder / "model"),
        "guide": tiny_checkpoint("bert", folder / "guide", seed=5),
        "guide with another tokenizer": tiny_checkpoint("roberta", folder / "other"),
    }


def labelled(loss: str, columns: int, *shape: int, **arguments: Any) -> Case:
    return Case(loss, columns, shape, True, arguments)


def guided(loss: str, columns: int, guide: str = "guide", **arguments: Any) -> Case:
    return Case(loss, columns, arguments={"temperature": 0.05, **arguments}, guide=guide)


def around(loss: str, inner: Case, **arguments: Any) -> Case:
    return Case(loss, inner.columns, inner.label_shape, inner.has_labels, arguments, inner=inner)


RANKING = Case("MultipleNegativesRankingLoss", 2)
CACHED = Case("CachedMultipleNegativesRankingLoss", 3, arguments={"mini_batch_size": 4})
GIST = ("GISTEmbedLoss", "CachedGISTEmbedLoss")
EVERY_LAYER = {"n_layers_per_step": -1}

CASES = [
    *(guided(loss, columns) for loss in GIST for columns in (2, 3)),
    *(guided(loss, 3, margin=0.05) for loss in GIST),
    *(guided(loss, 3, margin=0.03, margin_strategy="relative") for loss in GIST),
    guided("GISTEmbedLoss", 2, margin=-0.02),
    guided("GISTEmbedLoss", 3, contrast_anchors=False),
    guided("GISTEmbedLoss", 3, contrast_positives=False),
    guided("GISTEmbedLoss", 2, contrast_anchors=False, contrast_positives=False),
    guided("CachedGISTEmbedLoss", 4, mini_batch_size=2),
    guided("GISTEmbedLoss", 3, "guide with another tokenizer"),
    *(
        labelled("EmbedDistillLoss", columns, WIDTH, distance_metric=metric)
        for metric in ("cosine", "l2", "mse")
        for columns in (1, 3)
    ),
    labelled("EmbedDistillLoss", 2, 2, WIDTH),
    labelled("EmbedDistillLoss", 2, 16, projection_dim=16),
    labelled("MSELoss", 1, WIDTH),
    labelled("MSELoss", 3, WIDTH),
    labelled("MSELoss", 2, 48, projection_dim=48),
    labelled("MarginMSELoss", 3),
    labelled("MarginMSELoss", 3, 1),
    labelled("MarginMSELoss", 3, 2),
    labelled("MarginMSELoss", 5, 3),
    labelled("MarginMSELoss", 5, 4),
    labelled("DistillKLDivLoss", 3, 2),
    labelled("DistillKLDivLoss", 5, 4, temperature=2.0),
    labelled("DistillKLDivLoss", 4, 3, temperature=3.0, student_temperature=2.0),
    labelled("DistillKLDivLoss", 4, 3, student_temperature=2.0, teacher_temperature=0.5),
    Case("GlobalOrthogonalRegularizationLoss", 1),
    Case(
        "GlobalOrthogonalRegularizationLoss", 3, arguments={"mean_weight": 2.0, "second_moment_weight": 0.5}
    ),
    Case("GlobalOrthogonalRegularizationLoss", 2, arguments={"mean_weight": None, "aggregation": "sum"}),
    Case("GlobalOrthogonalRegularizationLoss", 2, arguments={"second_moment_weight": 0}),
    around("MatryoshkaLoss", RANKING, matryoshka_dims=[WIDTH, 16, 8]),
    around("MatryoshkaLoss", CACHED, matryoshka_dims=[8, WIDTH], matryoshka_weights=[0.5, 2]),
    around("MatryoshkaLoss", Case("TripletLoss", 3), matryoshka_dims=[WIDTH]),
    around("MatryoshkaLoss", labelled("MSELoss", 2, WIDTH), matryoshka_dims=[WIDTH, 16]),
    around("MatryoshkaLoss", labelled("EmbedDistillLoss", 2, 2, WIDTH), matryoshka_dims=[WIDTH, 16]),
    around("MatryoshkaLoss", labelled("MarginMSELoss", 3, 2), matryoshka_dims=[WIDTH, 2]),
    around("MatryoshkaLoss", guided("GISTEmbedLoss", 2), matryoshka_dims=[WIDTH, 16]),
    around("AdaptiveLayerLoss", RANKING, **EVERY_LAYER),
    around("AdaptiveLayerLoss", labelled("CosineSimilarityLoss", 2), layer_weighting="log", **EVERY_LAYER),
    around("AdaptiveLayerLoss", RANKING, layer_weighting="linear", prior_layers_weight=3.0, **EVERY_LAYER),
    around(
        "AdaptiveLayerLoss",
        RANKING,
        kl_div_weight=0.5,
        kl_temperature=2.0,
        last_layer_weight=0.1,
        **EVERY_LAYER,
    ),
    around("AdaptiveLayerLoss", RANKING, kl_temperature=0, **EVERY_LAYER),
    around("Matryoshka2dLoss", RANKING, matryoshka_dims=[WIDTH, 16, 8], n_dims_per_step=-1, **EVERY_LAYER),
    Case("DenoisingAutoEncoderLoss", 2),
    Case(
        "DenoisingAutoEncoderLoss",
        2,
        arguments={"decoder_name_or_path": "model", "tie_encoder_decoder": False},
    ),
]


def numbers(*shape: int) -> torch.Tensor:
    """Numbers between -1 and 1 that every release of torch gives alike."""
    count = torch.Size(shape).numel()
    return torch.sin(torch.arange(1, count + 1, dtype=torch.float64) * 1.7).float().reshape(shape)


def measured(
    case: Case, losses: Any, models: Mapping[str, Any], folders: Mapping[str, Any]
) -> dict[str, Any]:
    """Value, gradient norms and settings of a loss.

    Args:
        case: The loss.
        losses: The module that holds the losses.
        models: Models in eval mode: "model" to be trained, and guides.
        folders: Checkpoints of the models.
    """
    model = models["model"]
    loss = made(case, losses, models, folders).eval()
    known = {id(parameter) for other in models.values() for parameter in other.parameters()}
    own = [(name, parameter) for name, parameter in loss.named_parameters() if id(parameter) not in known]
    with torch.no_grad():
        for _, parameter in own:
            parameter.copy_(0.2 * numbers(*parameter.shape))
    texts = [text[:60] for text in sample_texts()]
    columns = [texts[column * ROWS : (column + 1) * ROWS] for column in range(case.columns)]
    labels = numbers(ROWS, *case.label_shape) if case.has_labels else None
    model.zero_grad()
    result = loss([model.tokenize(column) for column in columns], labels)
    parts = result if isinstance(result, dict) else {"loss": result}
    sum(parts.values()).backward()
    named = [*(("model", *pair) for pair in model.named_parameters()), *(("loss", *pair) for pair in own)]
    gradients: dict[str, float] = {}
    for place, name, parameter in named:
        for ending in WATCHED:
            if name.endswith(ending):
                key = f"{place}: {ending}"
                norm = 0.0 if parameter.grad is None else float(parameter.grad.norm())
                gradients[key] = gradients.get(key, 0.0) + norm
    settings = loss.get_config_dict()
    return {
        "loss": case.loss,
        "value": {name: value.item() for name, value in parts.items()},
        "gradients": gradients,
        "settings": {
            name: value
            for name, value in settings.items()
            if name
            not in ("guide", "decoder_name_or_path")  # an object of each release, a place of each machine
        },
    }


def made(case: Case, losses: Any, models: Mapping[str, Any], folders: Mapping[str, Any]) -> nn.Module:
    """The loss of a case."""
    arguments = dict(case.arguments)
    if case.inner is not None:
        arguments["loss"] = made(case.inner, losses, models, folders)
    if case.guide is not None:
        arguments["guide"] = models[case.guide]
    if "decoder_name_or_path" in arguments:
        arguments["decoder_name_or_path"] = str(folders[arguments["decoder_name_or_path"]])
    return getattr(losses, case.loss)(models["model"], **arguments)
