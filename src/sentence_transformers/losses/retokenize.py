"""Read texts back out of features, for a second model that cuts text into other tokens.

A loss is handed token ids, not texts. Where a guide or a decoder reads the same tokens it takes the
features as they are; otherwise the text is spelled out again, without special tokens and as the first
tokenizer normalised it, and tokenised anew.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sentence_transformers.losses.features import Features, token_rows

PROBE = ["Straße", "naïve CAFÉ", "1,024:  (x)", "東京", "re-tokenised!"]
"""Texts in which tokenizers differ: capitals, accents, signs, figures, spaces, rare letters, and padding. They
are short, so that a limit cuts none of them."""


def reads_the_same(model: Any, other: Any) -> bool:
    """Whether another model can be given the features that a model makes of texts.

    So it is if both know the same tokens, put the same ones around a text, and if the other reads at least
    as many of them.
    """
    if model is other:
        return True
    own, others = prepared(model, PROBE), prepared(other, PROBE)
    limits = [limit_of(model), limit_of(other)]
    return (
        vocabulary(model.tokenizer) == vocabulary(other.tokenizer)
        and own.keys() == others.keys()
        and all(equal(own[name], others[name]) for name in own)
        and limits[0] <= limits[1]
    )


def retokenized(model: Any, other: Any, features: Features) -> Features:
    """Features for another model, of the texts that a model's features hold; on the other model's device."""
    return on_device(prepared(other, texts_of(model.tokenizer, features)), other.device)


def texts_of(tokenizer: Any, features: Features) -> list[str]:
    """The texts of features, spelled by the tokenizer that made them.

    Raises:
        ValueError: If there are no token ids, or the tokenizer cannot turn them into text.
    """
    # By the name it has in transformers, and in tokenizers.
    decode = getattr(tokenizer, "batch_decode", None) or getattr(tokenizer, "decode_batch", None)
    rows = token_rows(features)
    if decode is None or rows is None:
        raise ValueError(
            f"{type(tokenizer).__name__} made features with the entries {sorted(features)}, which cannot be turned "
            "back into text for a model with another tokenizer. Choose one that reads the same tokens."
        )
    return list(decode(rows, skip_special_tokens=True))


def prepared(model: Any, texts: Sequence[Any], **options: Any) -> Features:
    """Features of texts, or pairs of texts, as the model itself makes them; `options` are those of its method."""
    prepare = getattr(model, "preprocess", None) or model.tokenize
    return dict(prepare(texts, **options))


def on_device(features: Features, device: torch.device) -> Features:
    """The same features with their tensors on a device."""
    return {
        name: value.to(device) if isinstance(value, Tensor) else value for name, value in features.items()
    }


def vocabulary(tokenizer: Any) -> Any:
    """What tokens a tokenizer knows; itself where it does not say."""
    return tokenizer.get_vocab() if hasattr(tokenizer, "get_vocab") else tokenizer


def limit_of(model: Any) -> float:
    """Tokens that a model reads of each text; infinity for no limit."""
    limit = getattr(model, "max_seq_length", None)
    return math.inf if limit is None else limit


def equal(a: Any, b: Any) -> bool:
    """Whether two entries of features are the same."""
    return a.equal(b) if isinstance(a, Tensor) and isinstance(b, Tensor) else bool(a == b)
