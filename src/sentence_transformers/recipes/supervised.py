"""Tables with examples to learn from, and the loss that suits each.

| a row of the table | kind | loss, unless another is named |
| --- | --- | --- |
| two texts and a `score` | scored pairs | `cosent` |
| two texts that belong together | pairs | `ranking`, with the batch as negatives |
| the same, and one text or more that do not belong to them | triplets | `ranking` |
| two texts and a `label` 0 or 1 | judged pairs | `online-contrastive` |
| two texts and a `label` of several classes | classed pairs | `softmax` |
| one text and a `label` | classed texts | `batch-hard-soft-margin` |

Recipes that change how a supervised model is trained (`finetune`, `matryoshka`, `prompts`, `peft`,
`hyperparameter-search`) share this. Nothing here trains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from sentence_transformers.losses.batch_triplet import (
    BatchAllTripletLoss,
    BatchHardSoftMarginTripletLoss,
    BatchHardTripletLoss,
    BatchSemiHardTripletLoss,
)
from sentence_transformers.losses.contrastive import ContrastiveLoss, OnlineContrastiveLoss
from sentence_transformers.losses.cosent import AnglELoss, CoSENTLoss
from sentence_transformers.losses.cosine_similarity import CosineSimilarityLoss
from sentence_transformers.losses.multiple_negatives_ranking import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)
from sentence_transformers.losses.softmax import SoftmaxLoss
from sentence_transformers.losses.triplet import TripletLoss
from sentence_transformers.recipes.config import TrainedConfig, option
from sentence_transformers.recipes.tables import read_rows, some_of
from sentence_transformers.training.batch_samplers import BatchSamplers
from sentence_transformers.training.columns import ROLES

SCORE, LABEL = "score", "label"

USUAL: Mapping[str, str] = {
    "scored pairs": "cosent",
    "pairs": "ranking",
    "triplets": "ranking",
    "judged pairs": "online-contrastive",
    "classed pairs": "softmax",
    "classed texts": "batch-hard-soft-margin",
}
"""The loss for each kind of table, unless another is named."""


@dataclass(frozen=True)
class Teaching:
    """A loss that can be named."""

    kinds: tuple[str, ...]
    """Kinds of tables it takes."""

    make: Callable[..., nn.Module]
    """Makes it of a model, and of `num_labels` where it is a classifier."""

    batches: BatchSamplers = BatchSamplers.BATCH_SAMPLER
    """What it needs of a batch."""


LOSSES: Mapping[str, Teaching] = {
    "cosent": Teaching(("scored pairs",), CoSENTLoss),
    "angle": Teaching(("scored pairs",), AnglELoss),
    "cosine": Teaching(("scored pairs",), CosineSimilarityLoss),
    "ranking": Teaching(("pairs", "triplets"), MultipleNegativesRankingLoss, BatchSamplers.NO_DUPLICATES),
    "triplet": Teaching(("triplets",), TripletLoss),
    "online-contrastive": Teaching(("judged pairs",), OnlineContrastiveLoss),
    "contrastive": Teaching(("judged pairs",), ContrastiveLoss),
    "softmax": Teaching(("classed pairs", "judged pairs"), SoftmaxLoss),
    "batch-hard-soft-margin": Teaching(
        ("classed texts",), BatchHardSoftMarginTripletLoss, BatchSamplers.GROUP_BY_LABEL
    ),
    "batch-hard": Teaching(("classed texts",), BatchHardTripletLoss, BatchSamplers.GROUP_BY_LABEL),
    "batch-semi-hard": Teaching(("classed texts",), BatchSemiHardTripletLoss, BatchSamplers.GROUP_BY_LABEL),
    "batch-all": Teaching(("classed texts",), BatchAllTripletLoss, BatchSamplers.GROUP_BY_LABEL),
}
"""The losses, by name."""


@dataclass(kw_only=True)
class TableConfig(TrainedConfig):
    """Where examples are."""

    data: Path = option(
        help="Table of examples: pairs with a score or a label, pairs, triplets, or texts with a label."
    )
    columns: list[str] = option(
        [], help="Columns with the texts, in order; found by their names if none are given."
    )
    label: str | None = option(
        None, help="Column with the score or the label; `score` or `label` if none is given."
    )


@dataclass(kw_only=True)
class SupervisedConfig(TableConfig):
    """What is learned from, and how."""

    loss: str | None = option(
        None, help=f"The one that suits the table if none is given; or one of {', '.join(LOSSES)}."
    )
    mini_batch_size: int | None = option(
        None, help="For `ranking`: embed so many rows at a time, so that large batches fit.", least=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss is not None and self.loss not in LOSSES:
            raise ValueError(f"There is no loss {self.loss!r}. There are: {', '.join(LOSSES)}.")


@dataclass(kw_only=True)
class PromptedConfig(SupervisedConfig):
    """What a model learns from that may have prompts of its own, such as "query: " and "passage: "."""

    query_columns: list[str] = option(
        [],
        help="Columns with queries, which get the model's own prompt for queries; the others get that for documents. "
        "If none are given, texts get no prompts, though retrieval is judged with those that the model has.",
    )


@dataclass(frozen=True)
class Examples:
    """What a table holds."""

    kind: str
    """One of the kinds above."""

    columns: dict[str, list[Any]]
    """Texts by column, in order, and "score" or "label" behind them if there are such."""

    @property
    def text_columns(self) -> list[str]:
        """Names of the columns with texts."""
        return [name for name in self.columns if name not in (SCORE, LABEL)]


@dataclass(frozen=True)
class Lesson(Examples):
    """Examples, and the loss that learns from them."""

    loss_name: str
    mini_batch_size: int | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """What the loss needs of the training."""
        return {"batch_sampler": LOSSES[self.loss_name].batches}

    def loss(self, model: Any) -> nn.Module:
        """The loss for a model."""
        if self.loss_name == "softmax":
            width = model.get_sentence_embedding_dimension()
            return SoftmaxLoss(model, width, num_labels=len(set(self.columns[LABEL])))
        if self.loss_name == "ranking" and self.mini_batch_size is not None:
            return CachedMultipleNegativesRankingLoss(model, mini_batch_size=self.mini_batch_size)
        return LOSSES[self.loss_name].make(model)


def lesson_of(config: SupervisedConfig) -> Lesson:
    """What a config's table teaches.

    Raises:
        ValueError: If its columns make no sense, or the loss does not suit them.
    """
    found = examples_of(config)
    loss = config.loss or USUAL[found.kind]
    if found.kind not in LOSSES[loss].kinds:
        suiting = ", ".join(name for name, teaching in LOSSES.items() if found.kind in teaching.kinds)
        raise ValueError(
            f"The loss {loss!r} does not take {found.kind}, which {config.data} holds. Pass {suiting}."
        )
    if config.mini_batch_size is not None and loss != "ranking":
        raise ValueError(
            f"mini_batch_size={config.mini_batch_size} belongs to the loss 'ranking', and here it is {loss!r}. Leave it "
            "out."
        )
    return Lesson(found.kind, found.columns, loss, config.mini_batch_size)


def roles_of(config: PromptedConfig, found: Examples) -> dict[str, str]:
    """What the columns of texts hold, "query" or "document"; empty if it was not said.

    Raises:
        ValueError: If there is no such column of texts.
    """
    unknown = [name for name in config.query_columns if name not in found.text_columns]
    if unknown:
        raise ValueError(
            f"query_columns: there is no column of texts {unknown[0]!r}. There are: {', '.join(found.text_columns)}."
        )
    if not config.query_columns:
        return {}
    return {name: "query" if name in config.query_columns else "document" for name in found.text_columns}


def examples_of(config: TableConfig) -> Examples:
    """What a config's table holds: `limit` of its rows, of those that have all texts and the label.

    Raises:
        ValueError: If its columns make no sense, or no row has them all.
    """
    rows = read_rows(config.data, [*config.columns, *([config.label] if config.label else [])])
    names = list(rows[0])
    label = config.label or next((name for name in (SCORE, LABEL) if name in names), None)
    texts = config.columns or text_columns(
        [name for name in names if name not in (label, SCORE, LABEL)], config.data
    )
    if label in texts:
        raise ValueError(f"The column {label!r} cannot be a text and the label. Pass others as columns.")
    whole = [row for row in rows if all(row[name] for name in texts)]
    if label is not None:
        whole = [row for row in whole if row[label] not in (None, "")]
    if not whole:
        wanted = [*texts, *([label] if label is not None else [])]
        raise ValueError(f"No row of {config.data} has something in each of {', '.join(map(repr, wanted))}.")
    rows = some_of(whole, config.limit, config.seed)
    columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in texts}
    values = [row[label] for row in rows] if label is not None else []
    scored = label == SCORE or (bool(values) and are_fractions(values))
    kind = kind_of(len(texts), values, is_score=scored, path=config.data)
    if kind == "scored pairs":
        columns[SCORE] = between_0_and_1([float(value) for value in values])
    elif values:
        columns[LABEL] = numbered(values)
    return Examples(kind, columns)


def text_columns(names: Sequence[str], path: Path) -> list[str]:
    """The columns with texts: those whose names say what they are, or else all, if they are few.

    Raises:
        ValueError: If it cannot be told.
    """
    known = [next((name for name in names if name.lower() in role), None) for role in ROLES]
    if known[0] is not None and known[1] is not None:
        further = [name for name in names if name.startswith("negative") and name not in known]
        return [*(name for name in known if name is not None), *further]
    if not 1 <= len(names) <= 3:
        raise ValueError(
            f"Cannot tell which columns of {path} are the texts: {', '.join(map(repr, names)) or 'there are none'}. "
            "Pass columns, such as --columns question --columns answer."
        )
    return list(names)


def kind_of(texts: int, values: Sequence[Any], *, is_score: bool, path: Path) -> str:
    """What a table holds, from how many columns of texts and what labels it has."""
    if not values and texts >= 2:
        return "pairs" if texts == 2 else "triplets"
    if values and texts == 1 and not is_score:
        return "classed texts"
    if values and texts == 2:
        if is_score:
            return "scored pairs"
        return "judged pairs" if set(map(label_name, values)) <= {"0", "1"} else "classed pairs"
    raise ValueError(
        f"{path} has {texts} column{'s' * (texts != 1)} of texts and {'a' if values else 'no'} score or label. "
        "There can be two texts with or without one, one text with a label, or three texts and more without."
    )


def are_fractions(values: Sequence[Any]) -> bool:
    """Whether all values are numbers, and some of them no whole ones, so that they cannot be classes."""
    try:
        return any(float(value) % 1 for value in values)
    except ValueError:
        return False


def between_0_and_1(scores: list[float]) -> list[float]:
    """Scores as they are if none is above 1, or else as shares of the highest."""
    highest = max(scores)
    return [score / highest for score in scores] if highest > 1 else scores


def numbered(labels: Sequence[Any]) -> list[int]:
    """Labels as numbers: 0 and 1 as they are, others in the order of their names."""
    found = [label_name(label) for label in labels]
    if set(found) <= {"0", "1"}:
        return [int(name) for name in found]
    numbers = {name: number for number, name in enumerate(sorted(set(found)))}
    return [numbers[name] for name in found]


def label_name(label: Any) -> str:
    """A label as text; a truth and a whole number with a point are the number."""
    return str(int(label) if isinstance(label, bool) else label).removesuffix(".0")
