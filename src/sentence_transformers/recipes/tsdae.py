"""TSDAE: words are deleted from a sentence, and a decoder writes the whole sentence from the vector of the rest.

Wang, Reimers, Gurevych (2021), "TSDAE: Using Transformer-based Sequential Denoising Auto-Encoder for Unsupervised
Sentence Embedding Learning", https://arxiv.org/abs/2104.06979. How a text is damaged stands in `noise.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sentence_transformers.losses.denoising_auto_encoder import DenoisingAutoEncoderLoss
from sentence_transformers.recipes.config import TrainedConfig, option
from sentence_transformers.recipes.judging import judged, judges
from sentence_transformers.recipes.noise import noisy
from sentence_transformers.recipes.report import Report
from sentence_transformers.recipes.running import Run
from sentence_transformers.recipes.tables import read_texts, some_of
from sentence_transformers.recipes.training import load, repooled, trained


@dataclass(kw_only=True)
class Config(TrainedConfig):
    """What TSDAE is told."""

    texts: Path = option(help="Sentences: lines of a .txt, or a column of a table (also .gz).")
    column: str | None = option(None, help="Column of a table; `text` where there are several.")
    noise: Literal["delete", "swap", "repeat"] = option("delete", help="How sentences are damaged.")
    noise_ratio: float = option(0.6, help="Share of the words that it strikes.", least=0)
    tie_encoder_decoder: bool = option(True, help="Let the decoder share the encoder's weights.")
    decoder: str | None = option(None, help="Checkpoint of a decoder that shares nothing.")
    pooling: Literal["cls", "mean", "max"] = option("cls", help="How a sentence becomes one vector.")
    batch_size: int = option(8, help="Rows in a batch.", least=1)
    learning_rate: float = option(3e-5, help="Highest learning rate.", least=0)


def run(config: Config) -> Report:
    """Train on bare sentences: delete words, and rebuild the sentence from its vector (TSDAE)."""
    run = Run("tsdae", config)
    all_judges = judges(config.dev, config.test)
    run.measure("start", lambda: judged(load(config.model, config), all_judges))

    def make() -> tuple[Any, Any, Any]:
        model = repooled(load(config.model, config), config.pooling)
        texts = some_of(read_texts(config.texts, config.column), config.limit, config.seed)
        data = {
            "damaged": noisy(texts, kind=config.noise, ratio=config.noise_ratio, seed=config.seed),
            "text": texts,
        }
        loss = DenoisingAutoEncoderLoss(model, config.decoder, tie_encoder_decoder=config.tie_encoder_decoder)
        return model, data, loss

    model = trained(run, make, config=config, judge=all_judges[0] if config.dev else None)
    run.measure("TSDAE", lambda: judged(model, all_judges))
    return run.finish(model)
