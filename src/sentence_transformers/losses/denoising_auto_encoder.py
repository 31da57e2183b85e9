"""Learn from bare texts: rebuild a text from the embedding of a damaged copy of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sentence_transformers.losses.base import EmbeddingLoss, LossPart
from sentence_transformers.losses.features import Features
from sentence_transformers.losses.matryoshka import width_of
from sentence_transformers.losses.papers import bibtex
from sentence_transformers.losses.retokenize import texts_of, vocabulary
from sentence_transformers.tensors.embeddings import Embeddings

logger = logging.getLogger(__name__)

NOT_A_TOKEN = -100
"""Label of the places that are padding."""


class DenoisingAutoEncoderLoss(EmbeddingLoss):
    """How well a decoder rebuilds a text from the embedding of a damaged copy of it (TSDAE).

    After Wang et al. 2021, "TSDAE: Using Transformer-based Sequential Denoising Auto-Encoder for Unsupervised
    Sentence Embedding Learning" (https://arxiv.org/abs/2104.06979). Columns: the damaged texts and the texts;
    `DenoisingAutoEncoderDataset` makes such pairs. The decoder writes the text token by token and sees of the
    encoder only the embedding, by cross attention. The loss is the mean cross entropy over all tokens after
    the first.

    Args:
        model: The encoder. Its embeddings have to be as wide as the decoder's cross attention reads.
        decoder_name_or_path: Folder or hub name of the decoder's checkpoint, of an architecture with cross
            attention, such as BERT's or RoBERTa's. None for the one that the encoder came from.
        tie_encoder_decoder: Whether the decoder shares all weights that the encoder has; then it is always
            made from the encoder's checkpoint.

    Raises:
        ValueError: If there is no decoder for the encoder's architecture, if it cannot read the embedding, or
            if neither a name is given nor weights are shared.
    """

    min_columns: ClassVar[int] = 2
    max_columns: ClassVar[int | None] = 2

    def __init__(
        self, model: Any, decoder_name_or_path: str | None = None, tie_encoder_decoder: bool = True
    ) -> None:
        super().__init__(model)
        transformer = transformer_of(model)
        if tie_encoder_decoder:
            if transformer is None:
                raise ValueError(
                    "tie_encoder_decoder=True shares the weights of the encoder's transformer, and this model has "
                    "none. Pass tie_encoder_decoder=False and the decoder_name_or_path of a transformer."
                )
            if decoder_name_or_path:
                logger.warning(
                    "decoder_name_or_path=%r is not used: with tie_encoder_decoder=True the decoder has the "
                    "encoder's weights.",
                    decoder_name_or_path,
                )
            decoder_name_or_path = transformer.name_or_path
        elif not decoder_name_or_path:
            raise ValueError(
                "tie_encoder_decoder=False needs a decoder of its own. Pass decoder_name_or_path, such as "
                "'bert-base-uncased'."
            )
        self.decoder_name_or_path = decoder_name_or_path
        self.tie_encoder_decoder = tie_encoder_decoder
        if tie_encoder_decoder:
            self.decoder = decoder_like(transformer)
            share_weights(transformer, self.decoder)
        else:
            self.decoder = loaded_decoder(str(decoder_name_or_path), model)
        self.tokenizer_encoder = model.tokenizer
        self.tokenizer_decoder = (
            model.tokenizer if tie_encoder_decoder else loaded_tokenizer(str(decoder_name_or_path))
        )
        self.need_retokenization = not tie_encoder_decoder and (
            vocabulary(self.tokenizer_encoder) != vocabulary(self.tokenizer_decoder)
        )
        self.width = width_of(model)
        check_reads_embeddings(self.decoder, self.width)

    def embedded_columns(self, columns: Sequence[Features]) -> Sequence[Features]:
        return columns[:1]

    def context(self, columns: Sequence[Features]) -> Any:
        """Token ids of the texts for the decoder, and which of them count, (B, T) each, padded on the right."""
        features = columns[1]
        if self.need_retokenization or "attention_mask" not in features:
            features = self.retokenize(features)
        return padded_right(features["input_ids"], features["attention_mask"])

    def retokenize(self, sentence_features: Features) -> Features:
        """`input_ids` and `attention_mask` for the decoder, of the texts that the encoder's tokens spell."""
        positions = getattr(
            self.decoder.config, "max_position_embeddings", self.tokenizer_decoder.model_max_length
        )
        tokens = self.tokenizer_decoder(
            texts_of(self.tokenizer_encoder, sentence_features),
            padding=True,
            truncation=True,
            max_length=min(positions, self.tokenizer_decoder.model_max_length),
            return_tensors="pt",
        )
        device = sentence_features["input_ids"].device
        return {name: tokens[name].to(device) for name in ("input_ids", "attention_mask")}

    def parts(
        self,
        embeddings: Sequence[Embeddings],
        labels: Tensor | None,
        *,
        rows: slice | None = None,
        context: Any = None,
    ) -> Iterator[LossPart]:
        vectors = embeddings[0].values  # (B, D)
        if vectors.shape[-1] != self.width:
            raise ValueError(
                f"The decoder reads embeddings of {self.width} dimensions and was given {vectors.shape[-1]}. "
                "DenoisingAutoEncoderLoss cannot be combined with MatryoshkaLoss, which shortens them."
            )
        ids, mask = context
        outputs = self.decoder(
            input_ids=ids[:, :-1],
            attention_mask=mask[:, :-1],
            encoder_hidden_states=vectors[:, None].to(self.decoder.dtype),
            encoder_attention_mask=mask.new_ones(len(vectors), 1),
            use_cache=False,
        )
        targets = ids[:, 1:].masked_fill(mask[:, 1:] == 0, NOT_A_TOKEN)
        logits = outputs["logits"].flatten(0, 1).float()  # (B × (T - 1), V)
        yield LossPart("loss", F.cross_entropy(logits, targets.flatten(), ignore_index=NOT_A_TOKEN))

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card; of a folder only its name, as others do not have it."""
        decoder = Path(self.decoder_name_or_path)
        return {
            "decoder_name_or_path": decoder.name if decoder.is_dir() else self.decoder_name_or_path,
            "need_retokenization": self.need_retokenization,
        }

    @property
    def citation(self) -> str:
        """BibTeX of the paper."""
        return bibtex(
            "inproceedings",
            "wang-2021-TSDAE",
            title="TSDAE: Using Transformer-based Sequential Denoising Auto-Encoder for Unsupervised Sentence Embedding Learning",
            author=["Wang, Kexin", "Reimers, Nils", "Gurevych, Iryna"],
            year=2021,
            booktitle="Findings of the Association for Computational Linguistics: EMNLP 2021",
            month=11,
            address="Punta Cana, Dominican Republic",
            publisher="Association for Computational Linguistics",
            pages="671--688",
            url="https://arxiv.org/abs/2104.06979",
        )


def transformer_of(model: Any) -> Any:
    """The transformers model inside a model; None if there is none."""
    if hasattr(model, "transformers_model"):
        return model.transformers_model
    return next((part.auto_model for part in model.modules() if hasattr(part, "auto_model")), None)


def decoder_like(transformer: Any) -> Any:
    """A decoder of an encoder's architecture and size, made from the same checkpoint where it is at hand.

    The checkpoint may have what the encoder does not use, such as the layer before the vocabulary.
    """
    import transformers

    config = decoder_config(type(transformer.config).from_dict(transformer.config.to_dict()))
    options = {"config": config, "dtype": transformer.dtype}
    with quiet():
        if transformer.name_or_path:
            try:
                decoder = transformers.AutoModelForCausalLM.from_pretrained(
                    transformer.name_or_path, **options
                )
            except OSError:  # the folder has gone, or there is no network
                decoder = transformers.AutoModelForCausalLM.from_config(**options)
        else:
            decoder = transformers.AutoModelForCausalLM.from_config(**options)
    return decoder.to(transformer.device).eval()


def loaded_decoder(name: str, model: Any) -> Any:
    """A decoder from a checkpoint, on the model's device."""
    import transformers

    config = decoder_config(transformers.AutoConfig.from_pretrained(name))
    with quiet():
        decoder = transformers.AutoModelForCausalLM.from_pretrained(name, config=config)
    return decoder.to(model.device).eval()


def loaded_tokenizer(name: str) -> Any:
    """The tokenizer of a checkpoint."""
    import transformers

    return transformers.AutoTokenizer.from_pretrained(name)


def decoder_config(config: Any) -> Any:
    """A configuration, changed to that of a decoder with cross attention.

    Raises:
        ValueError: If transformers has no decoder for the architecture.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ValueError(
            f"transformers has no decoder for the architecture {config.model_type!r}. Pass "
            "tie_encoder_decoder=False and the decoder_name_or_path of a checkpoint with one, such as "
            "'bert-base-uncased'."
        )
    config.is_decoder = True
    config.add_cross_attention = True
    return config


def share_weights(encoder: nn.Module, decoder: Any) -> None:
    """Make a decoder's body use an encoder's parameters, wherever both have one of the same name and shape.

    What the decoder itself shares, such as the table of tokens with the layer before the vocabulary, it still
    shares afterwards.
    """
    inputs, outputs = decoder.get_input_embeddings(), decoder.get_output_embeddings()
    is_tied = outputs is not None and outputs.weight is inputs.weight
    body = decoder.base_model
    places = dict(body.named_parameters())
    for name, parameter in encoder.named_parameters():
        if name in places and places[name].shape == parameter.shape:
            path, _, last = name.rpartition(".")
            setattr(body.get_submodule(path), last, parameter)
    if is_tied:
        outputs.weight = decoder.get_input_embeddings().weight


def check_reads_embeddings(decoder: Any, width: int | None) -> None:
    """Stop if what a decoder writes does not depend on the embedding it is given.

    Raises:
        ValueError: If the embedding has another width than the cross attention reads, or if there is none.
    """
    config = decoder.config
    reads = getattr(config, "cross_attention_hidden_size", None) or config.hidden_size
    if width != reads:
        raise ValueError(
            f"The model's embeddings have {width} dimensions, and the decoder reads {reads}. Choose a decoder of the "
            "embedding's width, or train a model without a part that changes it."
        )
    with torch.enable_grad():
        vector = torch.ones(1, 1, width, dtype=decoder.dtype, device=decoder.device, requires_grad=True)
        tokens = torch.ones(1, 2, dtype=torch.long, device=decoder.device)
        logits = decoder(
            input_ids=tokens,
            attention_mask=tokens,
            encoder_hidden_states=vector,
            encoder_attention_mask=tokens[:, :1],
            use_cache=False,
        )["logits"]
        (gradient,) = torch.autograd.grad(logits.sum(), vector, allow_unused=True)
    if gradient is None:
        raise ValueError(
            f"{type(decoder).__name__} has no cross attention, so it cannot see the embedding it is to decode. Pass "
            "tie_encoder_decoder=False and the decoder_name_or_path of a checkpoint with cross attention, such as "
            "'bert-base-uncased'."
        )


def padded_right(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Token ids and mask (B, T) with the tokens of each row first, in their order, and padding behind."""
    order = mask.argsort(dim=1, descending=True, stable=True)
    return ids.gather(1, order), mask.gather(1, order)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from telling that a decoder has more parts than the checkpoint of an encoder."""
    from transformers.utils import logging as transformers_logging

    level, shows_progress = (
        transformers_logging.get_verbosity(),
        transformers_logging.is_progress_bar_enabled(),
    )
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if shows_progress:
            transformers_logging.enable_progress_bar()
