"""Training models that make one vector of each input: what differs from the trainer of all kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from sentence_transformers.model_card.callbacks import SentenceTransformerModelCardCallback
from sentence_transformers.training.arguments import BaseTrainingArguments
from sentence_transformers.training.collator import BaseDataCollator
from sentence_transformers.training.trainer import BaseTrainer


@dataclass
class SentenceTransformerTrainingArguments(BaseTrainingArguments):
    """Arguments of a training run; see `BaseTrainingArguments`."""


class SentenceTransformerDataCollator(BaseDataCollator):
    """Collates rows for a trainer; see `BaseDataCollator`.

    Args:
        tokenize_fn: Older name of `preprocess_fn`.
        valid_label_columns: See there, as for what follows.
        router_mapping: See there.
        prompts: See there.
        max_length: See there.
        preprocess_fn: See there.

    Raises:
        TypeError: If neither or both of `preprocess_fn` and `tokenize_fn` are given.
    """

    def __init__(
        self,
        tokenize_fn: Callable[..., Mapping[str, Any]] | None = None,
        valid_label_columns: list[str] | None = None,
        router_mapping: dict[str, str] | dict[str, dict[str, str]] | None = None,
        prompts: str | dict[str, str] | dict[str, dict[str, str]] | None = None,
        max_length: int | dict[str, int] | None = None,
        *,
        preprocess_fn: Callable[..., Mapping[str, Any]] | None = None,
    ) -> None:
        given = [function for function in (preprocess_fn, tokenize_fn) if function is not None]
        if len(given) != 1:
            raise TypeError(
                f"{type(self).__name__} needs one function that prepares inputs, such as model.preprocess, and "
                f"was given {len(given)}: pass preprocess_fn, or tokenize_fn, its older name."
            )
        super().__init__(given[0], valid_label_columns, router_mapping, prompts, max_length)


class SentenceTransformerTrainer(BaseTrainer):
    """Trains a `SentenceTransformer`; arguments as in `BaseTrainer`. The default loss is `CoSENTLoss`."""

    arguments_class = SentenceTransformerTrainingArguments
    collator_class = SentenceTransformerDataCollator
    card_callback_class = SentenceTransformerModelCardCallback

    def default_loss(self, model: Any) -> nn.Module:
        """CoSENT, which takes pairs with a score."""
        from sentence_transformers.losses.cosent import CoSENTLoss

        return CoSENTLoss(model)
