"""TSDAE: words are deleted from a sentence, and a decoder writes the whole sentence from the vector of the rest.

Wang, Reimers, Gurevych (2021), "TSDAE: Using Transformer-based Sequential Denoising Auto-Encoder for Unsupervised
Sentence Embedding Learning", https://arxiv.org/abs/2104.06979. How a text is damaged stands in `noise.py`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Literal

from sentence_transformers.losses.denoising_auto_encoder import DenoisingAutoEncoderLoss, decoder_config
from sentence_transformers.recipes.config import UnlabelledConfig, option
from sentence_transformers.recipes.judging import dev_judge, judged, judges
from sentence_transformers.recipes.noise import noisy
from sentence_transformers.recipes.passes import Columns, InOrder, Passes, shuffled
from sentence_transformers.recipes.report import Report
from sentence_transformers.recipes.running import only_run
from sentence_transformers.recipes.tables import read_texts, some_of
from sentence_transformers.recipes.training import load, repooled, trained

CROSS_ATTENTION = r"(^|\.)decoder\..*(cross_?att|encoder_attn|EncDecAttention)"
"""Names of the parameters with which decoders read the embedding; an encoder's checkpoint has none of them."""


@dataclass(kw_only=True)
class Config(UnlabelledConfig):
    """What TSDAE is told."""

    noise: Literal["delete", "swap", "repeat"] = option("delete", help="How sentences are damaged.")
    noise_ratio: float = option(0.6, help="Share of the words that it strikes.", least=0)
    tie_encoder_decoder: bool = option(True, help="Let the decoder share the encoder's weights.")
    decoder: str | None = option(
        None, help="Checkpoint of a decoder that shares nothing; with --no-tie-encoder-decoder."
    )
    pooling: Literal["cls", "mean", "max"] = option("cls", help="How a sentence becomes one vector.")
    batch_size: int = option(8, help="Rows in a batch.", least=1)
    learning_rate: float = option(3e-5, help="Highest learning rate.", least=0)
    cross_attention_learning_rate: float | None = option(
        None,
        help="Another rate for what reads the vector, which is new; learning_rate if none is given.",
        least=0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.noise_ratio > 1:
            raise ValueError(f"noise_ratio={self.noise_ratio} is no share of the words. Pass 0 to 1.")
        if self.tie_encoder_decoder and self.decoder is not None:
            raise ValueError(
                f"decoder={self.decoder!r} would not be used: a decoder that shares the encoder's weights is made "
                "from the encoder. Pass tie_encoder_decoder=False, or no decoder."
            )
        if not self.tie_encoder_decoder and self.decoder is None:
            raise ValueError(
                "tie_encoder_decoder=False needs a decoder of its own. Pass decoder, such as 'bert-base-uncased'."
            )


def run(config: Config) -> Report:
    """Train on bare sentences: delete words, and rebuild the sentence from its vector (TSDAE)."""
    if config.decoder is not None:
        check_decoder(config.decoder)
    all_judges = judges(config.dev, config.test)
    texts = some_of(read_texts(config.texts, config.column), config.limit, config.seed)
    with only_run("tsdae", config) as run:

        def start() -> dict[str, float]:
            model = load(config.model, config)
            if config.tie_encoder_decoder:  # refused here, before anything is measured
                decoder_config(copy.deepcopy(model[0].auto_model.config))
            return judged(model, all_judges)

        run.measure("start", start)

        def make() -> tuple[Any, Any, Any]:
            model = repooled(load(config.model, config), config.pooling)
            loss = DenoisingAutoEncoderLoss(
                model, config.decoder, tie_encoder_decoder=config.tie_encoder_decoder
            )
            return model, Passes(lambda number: damaged(texts, config, number)), loss

        arguments: dict[str, Any] = {"batch_sampler": InOrder}
        if config.cross_attention_learning_rate is not None:
            arguments["learning_rate_mapping"] = {CROSS_ATTENTION: config.cross_attention_learning_rate}
        model = trained(run, make, config=config, judge=dev_judge(all_judges), arguments=arguments)
        run.measure("TSDAE", lambda: judged(model, all_judges))
        return run.finish(model)


def damaged(texts: list[str], config: Config, number: int) -> Columns:
    """The rows of a pass: each text behind a damaged copy of it."""
    copies = noisy(texts, kind=config.noise, ratio=config.noise_ratio, seed=config.seed, number=number)
    return shuffled({"damaged": copies, "text": texts}, seed=config.seed, number=number)


def check_decoder(name: str) -> None:
    """Stop if there is no such checkpoint, or none that can decode.

    Raises:
        ValueError: With what is wrong.
    """
    from transformers import AutoConfig

    try:
        found = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ValueError(f"decoder={name!r} is no checkpoint that transformers can load: {error}") from error
    decoder_config(found)
