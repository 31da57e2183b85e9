"""A positive above one score, the hardest of very many negatives below another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from sentence_transformers.losses.base import EmbeddingLoss, LossPart
from sentence_transformers.losses.cached import CachedLossMixin
from sentence_transformers.losses.functional import hardest_negative_margins
from sentence_transformers.losses.papers import bibtex, proceedings
from sentence_transformers.losses.scores import score
from sentence_transformers.tensors.embeddings import Embeddings
from sentence_transformers.tensors.similarity import cos_sim


class MegaBatchMarginLoss(CachedLossMixin, EmbeddingLoss):
    """max(0, m₊ - cos(anchor, positive)) + max(0, cos(anchor, hardest negative) - m₋), mean over rows.

    Takes two text columns: anchor and positive. The hardest negative is the most similar of the other rows'
    positives, so the larger the batch (500 and more) the harder it is; gradients are cached, so that the size
    costs little memory. After Wieting and Gimpel 2018, "ParaNMT-50M: Pushing the Limits of Paraphrastic
    Sentence Embeddings with Millions of Machine Translations".

    Args:
        model: The model.
        positive_margin: The cosine that a positive should reach.
        negative_margin: The cosine that no negative should exceed.
        use_mini_batched_version: Whether to cache gradients. The value is the same without.
        mini_batch_size: Rows embedded at once while they are cached.
        mini_batch_num_tokens: Tokens embedded at once while they are cached, instead of a number of rows.
        show_progress_bar: Whether to show how far the embedding of a batch has come.
    """

    min_columns: ClassVar[int] = 2
    max_columns: ClassVar[int | None] = 2
    splits_rows = True

    def __init__(
        self,
        model: Any,
        positive_margin: float = 0.8,
        negative_margin: float = 0.3,
        use_mini_batched_version: bool = True,
        mini_batch_size: int = 50,
        mini_batch_num_tokens: int | None = None,
        show_progress_bar: bool = False,
    ) -> None:
        super().__init__(model)
        self.positive_margin = positive_margin
        self.negative_margin = negative_margin
        if use_mini_batched_version:
            self.cache_gradients(mini_batch_size, mini_batch_num_tokens, show_progress_bar)

    def parts(
        self,
        embeddings: Sequence[Embeddings],
        labels: Tensor | None,
        *,
        rows: slice | None = None,
        context: Any = None,
    ) -> Iterator[LossPart]:
        anchors, positives = embeddings
        chosen = torch.arange(len(anchors), device=anchors.values.device)[rows or slice(None)]
        scores = score(cos_sim, anchors[chosen], positives)  # (rows, B)
        value = hardest_negative_margins(scores, chosen, self.positive_margin, self.negative_margin)
        yield LossPart("loss", value)

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        return {
            "positive_margin": self.positive_margin,
            "negative_margin": self.negative_margin,
            "mini_batch_size": self.mini_batch_size,
            "mini_batch_num_tokens": self.mini_batch_num_tokens,
        }

    @property
    def citation(self) -> str:
        """BibTeX of the paper."""
        return bibtex(
            "inproceedings",
            "wieting-gimpel-2018-paranmt",
            title="{P}ara{NMT}-50{M}: Pushing the Limits of Paraphrastic Sentence Embeddings with Millions of Machine Translations",
            author=["Wieting, John", "Gimpel, Kevin"],
            year=2018,
            booktitle=proceedings(
                "56th Annual Meeting of the Association for Computational Linguistics (Volume 1: Long Papers)"
            ),
            pages="451--462",
            doi="10.18653/v1/P18-1042",
        )
