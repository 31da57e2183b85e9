"""Order pairs by their scores: every pair against every other pair of the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

from torch import Tensor

from sentence_transformers.losses.base import EmbeddingLoss, LossPart
from sentence_transformers.losses.functional import ordered_pairs_loss
from sentence_transformers.losses.papers import bibtex, proceedings
from sentence_transformers.losses.scores import score
from sentence_transformers.storage.importing import similarity_fct_name
from sentence_transformers.tensors.embeddings import Embeddings
from sentence_transformers.tensors.similarity import pairwise_angle_sim, pairwise_cos_sim


class CoSENTLoss(EmbeddingLoss):
    """log(1 + sum of exp(s · (similarity_i - similarity_j)) over the pairs with label_i < label_j).

    Takes two text columns and a label, a number: only the order of the labels counts, not their size. After
    Su 2022, "CoSENT: A more efficient sentence vector scheme than Sentence-BERT"
    (https://kexue.fm/archives/8847); Huang et al. 2024, "CoSENT: Consistent Sentence Embedding via Similarity
    Ranking".

    Args:
        model: The model.
        scale: What similarities are multiplied by, the inverse of a temperature.
        similarity_fct: Similarity of row i of one column with row i of the other, (B,).
    """

    min_columns: ClassVar[int] = 2
    max_columns: ClassVar[int | None] = 2
    labels: ClassVar[str] = "score"

    def __init__(
        self,
        model: Any,
        scale: float = 20.0,
        similarity_fct: Callable[..., Tensor] = pairwise_cos_sim,
    ) -> None:
        super().__init__(model)
        self.scale = scale
        self.similarity_fct = similarity_fct

    def parts(
        self,
        embeddings: Sequence[Embeddings],
        labels: Tensor | None,
        *,
        rows: slice | None = None,
        context: Any = None,
    ) -> Iterator[LossPart]:
        assert labels is not None, "checked before"
        scores = score(self.similarity_fct, *embeddings) * self.scale
        yield LossPart("loss", ordered_pairs_loss(scores, labels.flatten()))

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        return {"scale": self.scale, "similarity_fct": similarity_fct_name(self.similarity_fct)}

    @property
    def citation(self) -> str:
        """BibTeX of the paper."""
        return bibtex(
            "article",
            "huang2024cosent",
            title="CoSENT: Consistent Sentence Embedding via Similarity Ranking",
            author=[
                "Huang, Xiang",
                "Peng, Hao",
                "Zou, Dongcheng",
                "Liu, Zhiwei",
                "Li, Jianxin",
                "Liu, Kay",
                "Wu, Jia",
                "Su, Jianlin",
                "Yu, Philip S.",
            ],
            year=2024,
            journal="IEEE/ACM Transactions on Audio, Speech, and Language Processing",
            volume=32,
            pages="2800--2813",
            doi="10.1109/TASLP.2024.3402087",
        )


class AnglELoss(CoSENTLoss):
    """`CoSENTLoss` over the angle of embeddings read as complex vectors, whose gradients do not vanish.

    Where a cosine is near 1 or -1 it hardly changes; the angle does. See `pairwise_angle_sim`, which needs an
    even width. After Li and Li 2024, "AoE: Angle-optimized Embeddings for Semantic Textual Similarity", first
    published as "AnglE-optimized Text Embeddings" (https://arxiv.org/abs/2309.12871).

    Args:
        model: The model.
        scale: What similarities are multiplied by, the inverse of a temperature.
    """

    def __init__(self, model: Any, scale: float = 20.0) -> None:
        super().__init__(model, scale, pairwise_angle_sim)

    @property
    def citation(self) -> str:
        """BibTeX of the paper."""
        return bibtex(
            "inproceedings",
            "li-li-2024-aoe",
            title="{A}o{E}: Angle-optimized Embeddings for Semantic Textual Similarity",
            author=["Li, Xianming", "Li, Jing"],
            year=2024,
            booktitle=proceedings(
                "62nd Annual Meeting of the Association for Computational Linguistics (Volume 1: Long Papers)"
            ),
            pages="1825--1839",
            doi="10.18653/v1/2024.acl-long.101",
        )
