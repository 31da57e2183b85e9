"""SimCSE: a text is paired with itself, and dropout alone makes the two vectors differ.

Gao, Yao, Chen (2021), "SimCSE: Simple Contrastive Learning of Sentence Embeddings",
https://arxiv.org/abs/2104.08821. The other texts of the batch are the negatives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sentence_transformers.losses.features import run as embed
from sentence_transformers.losses.multiple_negatives_ranking import MultipleNegativesRankingLoss
from sentence_transformers.recipes.config import UnlabelledConfig, option
from sentence_transformers.recipes.judging import dev_judge, judged, judges
from sentence_transformers.recipes.report import Report
from sentence_transformers.recipes.running import only_run
from sentence_transformers.recipes.tables import read_texts, some_of
from sentence_transformers.recipes.training import load, repooled, trained


@dataclass(kw_only=True)
class Config(UnlabelledConfig):
    """What SimCSE is told."""

    scale: float = option(20.0, help="What cosines are multiplied by: 1 / temperature.")
    dropout: float | None = option(
        None,
        help="Share that dropout takes out while training; as in the checkpoint if none is given.",
        least=0,
    )
    batch_size: int = option(64, help="Rows in a batch: a text has the others as negatives.", least=2)
    learning_rate: float = option(3e-5, help="Highest learning rate.", least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale <= 0:
            raise ValueError(
                f"scale={self.scale} would not bring equal texts together. Pass a positive number."
            )
        if self.dropout is not None and self.dropout >= 1:
            raise ValueError(
                f"dropout={self.dropout} leaves nothing of a text. Pass less than 1, such as 0.1."
            )


def run(config: Config) -> Report:
    """Train on bare sentences: pair each with itself under dropout, against the others of the batch (SimCSE)."""
    all_judges = judges(config.dev, config.test)
    texts = some_of(read_texts(config.texts, config.column), config.limit, config.seed)
    with only_run("simcse", config) as run:

        def begin() -> Any:
            model = repooled(load(config.model, config), config.pooling)
            if config.dropout is not None:
                set_dropout(model, config.dropout)
            check_dropout(model, texts[0])
            return model

        def start() -> dict[str, float]:
            begin()  # refused here, before anything is measured
            return judged(load(config.model, config), all_judges)

        run.measure("start", start)

        def make() -> tuple[Any, Any, Any]:
            model = begin()
            data = {"text": texts, "again": texts}
            return model, data, MultipleNegativesRankingLoss(model, scale=config.scale)

        model = trained(run, make, config=config, judge=dev_judge(all_judges))
        run.measure("SimCSE", lambda: judged(model, all_judges))
        return run.finish(model)


def set_dropout(model: nn.Module, share: float) -> None:
    """Let every dropout layer of a model take out this share; what is saved of the model is not changed."""
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = share


def check_dropout(model: Any, text: str) -> None:
    """Stop if a model in training gives a text the same vector twice, so that there is nothing to learn.

    Raises:
        ValueError: If it does.
    """
    was_training = model.training
    model.train()
    features = {
        name: value.to(model.device) if isinstance(value, torch.Tensor) else value
        for name, value in model.preprocess([text, text]).items()
    }
    first, second = embed(model, features).values.detach()
    model.train(was_training)
    if first.equal(second):
        raise ValueError(
            "This model has no dropout, or a share of 0, so both copies of a text have the same vector and SimCSE "
            "has nothing to learn from. Pass dropout=0.1, or choose a checkpoint with dropout layers."
        )
