"""Models that write text: found by name, made from an encoder, and asked to write about passages.

Any encoder-decoder or causal model of transformers will do. Nothing here trains one (`query_generator.py`), or
knows what becomes of the texts (`generation.py`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from sentence_transformers.recipes.training import load
from sentence_transformers.storage.folder import read_json
from sentence_transformers.storage.hub import find_model

OWNER = "sentence-transformers"
HAVE_CROSS_ATTENTION = ("bert", "roberta", "xlm-roberta", "camembert", "electra")
"""Encoders whose layers transformers can also run as those of a decoder that looks at an encoder."""

HEADS = ("cls.predictions.transform.dense", "lm_head.dense", "generator_predictions.dense")
"""What these have between the last layer and the words."""
LINEAR = 4.0
"""From here on a GELU is nearly the identity; the layer norm behind it takes what all entries share away again."""

CAUSAL_PROMPT = "Passage: {passage}\nQuestion that this passage answers:"
"""What a causal model reads, unless it is told otherwise."""


@dataclass(frozen=True)
class Writer:
    """A model that writes, and its tokenizer."""

    model: Any
    tokenizer: Any

    @property
    def has_encoder(self) -> bool:
        """Whether an encoder reads what the decoder then writes about; otherwise it goes on with the text."""
        return bool(self.model.config.is_encoder_decoder)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a text is drawn from a writer."""

    texts: int = 1
    """Of each passage."""
    max_tokens: int = 32
    top_p: float = 0.95
    temperature: float = 1.0
    """0 takes the likeliest token each time."""


def writer_named(name: str, device: str | None = None) -> Writer:
    """An encoder-decoder or causal model, ready to write.

    Args:
        name: A folder, or a name on the hub.
        device: Such as cpu or cuda:0; the best there is if none is named.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    from sentence_transformers.storage.environment import get_device_name

    folder = str(find_model(name))
    is_pair = AutoConfig.from_pretrained(folder).is_encoder_decoder
    kind: Any = AutoModelForSeq2SeqLM if is_pair else AutoModelForCausalLM
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    # A causal model goes on with the last token, which must therefore be that of the text.
    tokenizer.padding_side = "right" if is_pair else "left"
    return Writer(kind.from_pretrained(folder).to(device or get_device_name()).eval(), tokenizer)


def writer_to_train(name: str, config: Any, *, encoder_layers: int, decoder_layers: int) -> Writer:
    """An encoder-decoder as it stands in its folder, or one that is made from an encoder (`warm_started`)."""
    described = find_model(name, organization=OWNER) / "config.json"
    if described.is_file() and read_json(described).get("is_encoder_decoder"):
        return writer_named(name, config.device)
    start = load(name, config)
    model = warm_started(start[0].auto_model, start.tokenizer, encoder_layers, decoder_layers)
    return Writer(model.to(start.device), start.tokenizer)


def warm_started(encoder: Any, tokenizer: Any, encoder_layers: int, decoder_layers: int) -> Any:
    """An encoder-decoder whose two halves begin as the first layers of an encoder.

    After Rothe, Narayan, Severyn (2020), "Leveraging Pre-trained Checkpoints for Sequence Generation Tasks",
    https://arxiv.org/abs/1907.12461. What has no weights there begins such that copying a rare word is soon learned:
    the layers with which the decoder looks at the encoder compare tokens as those do with which it looks at
    itself, and hand on what they find unchanged; so does the layer before the words.

    Args:
        encoder: A transformers encoder of a kind in `HAVE_CROSS_ATTENTION`.
        tokenizer: Its tokenizer; what it has around a text begins and ends what is written.
        encoder_layers: Layers of the encoder that are kept, from the first on.
        decoder_layers: Layers of the decoder.

    Raises:
        ValueError: If the encoder is of another kind.
    """
    from transformers import EncoderDecoderModel

    config = encoder.config
    if config.model_type not in HAVE_CROSS_ATTENTION:
        raise ValueError(
            f"A decoder cannot be made from an encoder of the kind {config.model_type!r}. Pass as model an "
            f"encoder-decoder, or an encoder of one of the kinds {', '.join(HAVE_CROSS_ATTENTION)}."
        )
    layers = config.num_hidden_layers
    with tempfile.TemporaryDirectory() as folder, quiet_loading():
        encoder.save_pretrained(folder)
        model = EncoderDecoderModel.from_encoder_decoder_pretrained(
            folder,
            folder,
            encoder_num_hidden_layers=min(encoder_layers, layers),
            decoder_num_hidden_layers=min(decoder_layers, layers),
        )
    for half in (model.config.encoder, model.config.decoder):
        half._name_or_path = ""  # that folder has gone, and would be saved
    for module in list(model.decoder.modules()):
        if hasattr(module, "crossattention"):
            copy_weights(module.attention, module.crossattention)
            pass_through(module.crossattention.self.value)
            pass_through(module.crossattention.output.dense)
    for name, module in model.decoder.named_modules():
        if name in HEADS:
            pass_through(module, shift=LINEAR)
    first = tokenizer.cls_token_id if tokenizer.cls_token_id is not None else tokenizer.bos_token_id
    last = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    for settings in (model.config, model.generation_config):
        settings.decoder_start_token_id = first
        settings.eos_token_id = last
        settings.pad_token_id = tokenizer.pad_token_id
    model.config.vocab_size = config.vocab_size
    return model


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keep transformers from listing the weights that a decoder made from an encoder lacks."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def freeze(model: Any, what: str) -> None:
    """Keep the embeddings of an encoder-decoder as they are, or its whole encoder too, or nothing."""
    halves = (model.get_encoder(), model.get_decoder())
    if what in ("embeddings", "encoder"):
        for half in halves:
            half.get_input_embeddings().weight.requires_grad_(False)
    if what == "encoder":
        halves[0].requires_grad_(False)


def pass_through(layer: Any, shift: float = 0.0) -> None:
    """Let a linear layer give what it is given, plus `shift`; one that changes the width stays as it is."""
    if layer.weight.shape[0] == layer.weight.shape[1]:
        with torch.no_grad():
            torch.nn.init.eye_(layer.weight)
            layer.bias.fill_(shift)


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy the weights that two modules have in common."""
    weights = dict(source.named_parameters())
    with torch.no_grad():
        for name, weight in target.named_parameters():
            if name in weights:
                weight.copy_(weights[name])


def texts_about(
    writer: Writer,
    passages: Sequence[str],
    sampling: Sampling,
    *,
    passage_tokens: int,
    prompt: str | None,
    seed: tuple[int, ...],
) -> list[list[str]]:
    """Texts drawn for each passage of one batch: the same ones for the same batch and seed.

    Args:
        writer: The model.
        passages: The batch.
        sampling: How many texts, and how they are drawn.
        passage_tokens: Tokens of a passage that are read at most.
        prompt: What is read, with {passage} in the place of the passage; None for the passage alone, or for
            `CAUSAL_PROMPT` with a causal model.
        seed: Of the draws.

    Returns:
        For each passage `sampling.texts` texts on one line each; some may be empty or equal.
    """
    from transformers import GenerationConfig

    tokenizer, model = writer.tokenizer, writer.model
    read = prompted(writer, passages, passage_tokens, prompt)
    inputs = tokenizer(
        read,
        padding=True,
        truncation=prompt is None and writer.has_encoder,
        max_length=passage_tokens if prompt is None and writer.has_encoder else None,
        return_tensors="pt",
        return_token_type_ids=False,
    ).to(model.device)
    drawn = sampling.temperature > 0
    own = model.generation_config
    settings = GenerationConfig(
        do_sample=drawn,
        num_return_sequences=sampling.texts if drawn else 1,
        max_new_tokens=sampling.max_tokens,
        decoder_start_token_id=own.decoder_start_token_id,
        bos_token_id=own.bos_token_id,
        eos_token_id=own.eos_token_id if own.eos_token_id is not None else tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **({"top_p": sampling.top_p, "top_k": 0, "temperature": sampling.temperature} if drawn else {}),
    )
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.inference_mode(), torch.random.fork_rng(devices):
        torch.manual_seed(number_of(seed))
        written = model.generate(**inputs, generation_config=settings)
    if not writer.has_encoder:
        written = written[:, inputs["input_ids"].shape[1] :]
    texts = [one_line(text) for text in tokenizer.batch_decode(written, skip_special_tokens=True)]
    each = len(texts) // len(passages)
    return [texts[start : start + each] for start in range(0, len(texts), each)]


def prompted(writer: Writer, passages: Sequence[str], passage_tokens: int, prompt: str | None) -> list[str]:
    """What the model is to read of each passage."""
    if prompt is None and writer.has_encoder:
        return list(passages)
    tokenizer = writer.tokenizer
    rows = tokenizer(
        list(passages), add_special_tokens=False, truncation=True, max_length=passage_tokens
    ).input_ids
    template = CAUSAL_PROMPT if prompt is None else prompt
    return [
        template.replace("{passage}", tokenizer.decode(row, skip_special_tokens=True).strip()) for row in rows
    ]


def number_of(seed: tuple[int, ...]) -> int:
    """One number for several, other ones for others."""
    return int(np.random.SeedSequence(seed).generate_state(1)[0])


def one_line(text: str) -> str:
    """The first line that says something, with single spaces."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return next((line for line in lines if line), "")
