"""Contrastive tension: two copies of a model, trained apart, must agree on a text and on no other.

Carlsson, Gyllensten, Gogoulou, Hellqvist, Sahlgren (2021), "Semantic Re-tuning with Contrastive Tension",
https://openreview.net/forum?id=Ov_sMNau-PF. Either as in the paper, with pairs of a text with itself and with seven
others, or with all other texts of the batch as negatives. The copy that is kept is the one called `model2` in the
loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sentence_transformers.losses.contrastive_tension import (
    ContrastiveTensionLoss,
    ContrastiveTensionLossInBatchNegatives,
)
from sentence_transformers.recipes.config import UnlabelledConfig, option
from sentence_transformers.recipes.judging import dev_judge, judged, judges
from sentence_transformers.recipes.passes import Columns, InOrder, Passes
from sentence_transformers.recipes.report import Report
from sentence_transformers.recipes.running import only_run
from sentence_transformers.recipes.tables import read_texts, some_of
from sentence_transformers.recipes.training import load, repooled, trained


@dataclass(kw_only=True)
class Config(UnlabelledConfig):
    """What contrastive tension is told."""

    in_batch_negatives: bool = option(
        False, help="Take all other texts of the batch as negatives, instead of pairs."
    )
    negatives: int = option(7, help="Pairs of two texts for each pair of a text with itself.", least=1)
    scale: float = option(20.0, help="What cosines are multiplied by at first, with negatives in the batch.")
    optimizer: str = option("rmsprop", help="As `optim` of transformers; the paper's is rmsprop.")
    batch_size: int = option(16, help="Rows in a batch: pairs, or texts.", least=2)
    learning_rate: float = option(1e-5, help="Highest learning rate; it falls to 0.", least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale <= 0:
            raise ValueError(
                f"scale={self.scale} would not bring equal texts together. Pass a positive number."
            )
        if not self.in_batch_negatives and self.batch_size % (self.negatives + 1):
            raise ValueError(
                f"batch_size={self.batch_size} cannot be divided into a text with itself and {self.negatives} "
                f"negatives. Pass a multiple of {self.negatives + 1}."
            )


def run(config: Config) -> Report:
    """Train on bare sentences: two copies of the model agree on a sentence, and on no other (CT)."""
    check_optimizer(config.optimizer)
    all_judges = judges(config.dev, config.test)
    texts = some_of(read_texts(config.texts, config.column), config.limit, config.seed)
    if not config.in_batch_negatives:
        check_enough(texts, config.negatives)
    with only_run("ct", config) as run:
        run.measure("start", lambda: judged(load(config.model, config), all_judges))

        def make() -> tuple[Any, Any, Any]:
            model = repooled(load(config.model, config), config.pooling)
            if config.in_batch_negatives:
                loss: Any = ContrastiveTensionLossInBatchNegatives(model, scale=config.scale)
                return model, {"text": texts}, loss
            rows = Passes(lambda number: pairs(texts, config.negatives, seed=config.seed, number=number))
            return model, rows, ContrastiveTensionLoss(model)

        arguments: dict[str, Any] = {"optim": config.optimizer}
        if not config.in_batch_negatives:
            arguments["batch_sampler"] = InOrder
        model = trained(run, make, config=config, judge=dev_judge(all_judges), arguments=arguments)
        name = "CT in-batch" if config.in_batch_negatives else "CT"
        run.measure(name, lambda: judged(model, all_judges))
        return run.finish(model)


def pairs(texts: list[str], negatives: int, *, seed: int, number: int) -> Columns:
    """The pairs of a pass: a text with itself (label 1), then as many pairs of two texts (label 0), and again.

    Args:
        texts: The texts; each occurs in one pair at most, and the last few of the random order in none.
        negatives: Pairs of two texts for each pair of a text with itself.
        seed: Of the order.
        number: Of the pass.

    Raises:
        ValueError: If there are too few texts.
    """
    needed = check_enough(texts, negatives)
    order = iter(np.random.default_rng((seed, number)).permutation(len(texts)).tolist())
    rows: list[tuple[str, str, int]] = []
    for _ in range(len(texts) // needed):
        first = texts[next(order)]
        rows.append((first, first, 1))
        rows += [(texts[next(order)], texts[next(order)], 0) for _ in range(negatives)]
    firsts, seconds, labels = map(list, zip(*rows, strict=True))
    return {"first": firsts, "second": seconds, "label": labels}


def check_enough(texts: list[str], negatives: int) -> int:
    """How many texts it takes for a text with itself and so many pairs of two others.

    Raises:
        ValueError: If there are fewer.
    """
    needed = 2 * negatives + 1
    if len(texts) < needed:
        raise ValueError(
            f"{len(texts)} texts are too few: a text with itself and {negatives} pairs of two others need {needed}. "
            "Pass more texts, or fewer negatives."
        )
    return needed


def check_optimizer(name: str) -> None:
    """Stop if transformers has no such optimizer.

    Raises:
        ValueError: With those it has.
    """
    from transformers.training_args import OptimizerNames

    known = [one.value for one in OptimizerNames]
    if name not in known:
        raise ValueError(f"optimizer={name!r} is not known. Known: {', '.join(known)}.")
