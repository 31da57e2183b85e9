"""The trainer of models that make one vector of each input: what differs from `training/trainer.py`."""

from __future__ import annotations

from typing import Any

from torch import nn

from sentence_transformers.model_card.callbacks import SentenceTransformerModelCardCallback
from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator
from sentence_transformers.sentence_transformer.training_args import SentenceTransformerTrainingArguments
from sentence_transformers.training.trainer import BaseTrainer


class SentenceTransformerTrainer(BaseTrainer):
    """Trains a `SentenceTransformer`; arguments as in `BaseTrainer`. The default loss is `CoSENTLoss`."""

    arguments_class = SentenceTransformerTrainingArguments
    collator_class = SentenceTransformerDataCollator
    card_callback_class = SentenceTransformerModelCardCallback

    def default_loss(self, model: Any) -> nn.Module:
        """CoSENT, which takes pairs with a score."""
        from sentence_transformers.losses.cosent import CoSENTLoss

        return CoSENTLoss(model)
