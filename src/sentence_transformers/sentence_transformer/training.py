"""Training models that make one vector of each input: what differs from the trainer of all kinds."""

from __future__ import annotations

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
    """Collates rows for a trainer; see `BaseDataCollator`."""


class SentenceTransformerTrainer(BaseTrainer):
    """Trains a `SentenceTransformer`; arguments as in `BaseTrainer`. The default loss is `CoSENTLoss`."""

    arguments_class = SentenceTransformerTrainingArguments
    collator_class = SentenceTransformerDataCollator
    card_callback_class = SentenceTransformerModelCardCallback

    def default_loss(self, model: Any) -> nn.Module:
        """CoSENT, which takes pairs with a score."""
        from sentence_transformers.losses.cosent import CoSENTLoss

        return CoSENTLoss(model)
