"""Learn from bare texts: two copies of a model agree on a text, and on no other.

After Carlsson et al. 2021, "Semantic Re-tuning with Contrastive Tension". The second copy is `model1`; it
drifts away from the model in training and is thrown away afterwards.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sentence_transformers.losses.base import EmbeddingLoss, LossPart
from sentence_transformers.losses.features import Features, token_rows
from sentence_transformers.losses.functional import info_nce
from sentence_transformers.losses.papers import bibtex
from sentence_transformers.losses.scores import score
from sentence_transformers.storage.importing import similarity_fct_name
from sentence_transformers.tensors.embeddings import Embeddings
from sentence_transformers.tensors.similarity import cos_sim, pairwise_dot_score


class TwoModelLoss(EmbeddingLoss):
    """What the losses of this file share: the first column goes through a copy of the model.

    Args:
        model: The model that is to be trained. It is copied as it is now.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.model1 = copy.deepcopy(model)

    @property
    def model2(self) -> Any:
        """The model that is trained; the same as `model`."""
        return self.model

    def encoder(self, column: int) -> nn.Module:
        return self.model1 if column == 0 else self.model

    @property
    def citation(self) -> str:
        """BibTeX of the paper."""
        return bibtex(
            "inproceedings",
            "carlsson2021semantic",
            title="Semantic Re-tuning with Contrastive Tension",
            author=[
                "Fredrik Carlsson",
                "Amaru Cuba Gyllensten",
                "Evangelia Gogoulou",
                'Erik Ylip{\\\\"a}{\\\\"a} Hellqvist',
                "Magnus Sahlgren",
            ],
            year=2021,
            booktitle="International Conference on Learning Representations",
            url="https://openreview.net/forum?id=Ov_sMNau-PF",
        )


class ContrastiveTensionLoss(TwoModelLoss):
    """Binary cross entropy, added up, of the dot products that the two copies give for pairs of texts.

    Takes two text columns and a label: 1 where both are the same text, 0 where they are not. Without labels a
    pair counts as the same text if its tokens are the same. `ContrastiveTensionDataLoader` makes such pairs.

    Args:
        model: The model that is to be trained. It is copied as it is now.
    """

    min_columns: ClassVar[int] = 2
    max_columns: ClassVar[int | None] = 2
    labels: ClassVar[str] = "score"

    def context(self, columns: Sequence[Features]) -> Tensor | None:
        """Whether the texts of each pair have the same tokens, (B,); None where there are no tokens to see."""
        tokens = [token_rows(column) for column in columns]
        if any(rows is None for rows in tokens):
            return None
        return torch.tensor([first == second for first, second in zip(*tokens)])

    def parts(
        self,
        embeddings: Sequence[Embeddings],
        labels: Tensor | None,
        *,
        rows: slice | None = None,
        context: Any = None,
    ) -> Iterator[LossPart]:
        labels = context if labels is None else labels.flatten()
        if labels is None:
            super().check_labels(None)
        scores = score(pairwise_dot_score, *embeddings)
        targets = labels.to(scores)
        yield LossPart("loss", F.binary_cross_entropy_with_logits(scores, targets, reduction="sum"))

    def check_labels(self, labels: Any) -> None:
        """Stop if labels are given and are not one number for each pair."""
        if labels is not None:
            super().check_labels(labels)


class ContrastiveTensionLossInBatchNegatives(TwoModelLoss):
    """Each copy finds among the batch the text that the other embedded: mean of both cross entropies.

    Takes one text column, which goes through both copies; further columns are not looked at, so that data of
    `ContrastiveTensionLoss`, where the second column mostly holds other texts, will do too. No label.

    Args:
        model: The model that is to be trained. It is copied as it is now.
        scale: What similarities are multiplied by at first. The factor is learned: `logit_scale` is its
            logarithm.
        similarity_fct: Similarity of every row of one column with every row of the other, (B, B).
    """

    def __init__(
        self, model: Any, scale: float = 20.0, similarity_fct: Callable[..., Tensor] = cos_sim
    ) -> None:
        super().__init__(model)
        self.similarity_fct = similarity_fct
        self.logit_scale = nn.Parameter(torch.tensor(math.log(scale)))

    def embedded_columns(self, columns: Sequence[Features]) -> Sequence[Features]:
        return [columns[0], columns[0]]

    def parts(
        self,
        embeddings: Sequence[Embeddings],
        labels: Tensor | None,
        *,
        rows: slice | None = None,
        context: Any = None,
    ) -> Iterator[LossPart]:
        scores = score(self.similarity_fct, *embeddings) * self.logit_scale.exp()  # (B, B)
        own = torch.arange(len(scores), device=scores.device)
        yield LossPart("loss", (info_nce(scores, own) + info_nce(scores.t(), own)) / 2)

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card; the scale is the one learned so far."""
        return {
            "scale": self.logit_scale.exp().item(),
            "similarity_fct": similarity_fct_name(self.similarity_fct),
        }
