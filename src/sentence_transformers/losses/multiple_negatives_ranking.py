"""Rank each query's own document above everybody else's: in-batch negatives, plain, symmetric and cached.

One loss, parameterised; the other classes only choose. What is computed here is which similarities a query's
own document competes with. Columns are the query, its document, and any number of hard negatives.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from sentence_transformers.losses.base import EmbeddingLoss, LossPart
from sentence_transformers.losses.cached import CachedLossMixin
from sentence_transformers.losses.functional import info_nce
from sentence_transformers.losses.papers import bibtex
from sentence_transformers.losses.scores import score
from sentence_transformers.storage.importing import similarity_fct_name
from sentence_transformers.tensors.embeddings import Embeddings
from sentence_transformers.tensors.similarity import cos_sim

logger = logging.getLogger(__name__)

Direction = Literal["query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc"]
PartitionMode = Literal["joint", "per_direction"]
HardnessMode = Literal["in_batch_negatives", "hard_negatives", "all_negatives"]

Similar = Callable[[Embeddings, Embeddings], Tensor]
"""Similarities (A, B) of every row of one column with every row of another."""

Candidates = Callable[[Similar, Embeddings, Sequence[Embeddings], slice], list[Tensor]]

DIRECTIONS: Mapping[str, Candidates] = {
    # R of the B rows are asked about, by their query or by their document; each entry is (R, B).
    "query_to_doc": lambda similar, queries, documents, rows: [
        similar(queries[rows], column) for column in documents
    ],
    "query_to_query": lambda similar, queries, documents, rows: [similar(queries[rows], queries)],
    # The query comes first also here: not every similarity is symmetric.
    "doc_to_query": lambda similar, queries, documents, rows: [similar(queries, documents[0][rows]).T],
    "doc_to_doc": lambda similar, queries, documents, rows: [
        similar(column, documents[0][rows]).T for column in documents
    ],
}
"""What a row's own document competes with, by name: similarities with all rows, column by column."""

WITHOUT_OWN = ("query_to_query", "doc_to_doc")
"""Directions in which the texts of a row itself are out."""

HARDNESS: Mapping[str, Callable[[Tensor, bool], Tensor]] = {
    "in_batch_negatives": lambda is_own, is_positive: ~is_own,
    "hard_negatives": lambda is_own, is_positive: is_own & (not is_positive),
    "all_negatives": lambda is_own, is_positive: ~is_own | (not is_positive),
}
"""Which documents of a column are weighted by hardness: given which are a row's own, (R, B), and whether the
column is that of the positives."""


class MultipleNegativesRankingLoss(EmbeddingLoss):
    """Cross entropy of picking each query's own document out of all documents of the batch.

    For query i with document i, over the similarities s, and the candidates c that the settings name:
    the mean over i of -log(exp(scale s(q_i, d_i)) / sum over c of exp(scale s(c))). After van den Oord et al.
    2018, "Representation Learning with Contrastive Predictive Coding" (https://arxiv.org/abs/1807.03748); the
    further directions after Li et al. 2023, "Towards General Text Embeddings with Multi-stage Contrastive
    Learning" (https://arxiv.org/abs/2308.03281); hardness after Lan et al. 2025, "LLaVE: Large Language and
    Vision Embedding Models with Hardness-Weighted Contrastive Learning" (https://arxiv.org/abs/2503.04812).

    Takes two text columns or more and no label: query, document, and hard negatives, of which each counts as a
    negative for every query. A batch should hold no text twice.

    Args:
        model: The model.
        scale: What similarities are multiplied with, the inverse of the temperature. About 20 suits cosine
            similarity, and 1 the dot product.
        similarity_fct: Similarity of all rows of one column with all of another, such as `util.cos_sim`.
        gather_across_devices: Whether the documents of all processes are candidates.
        directions: What the own document competes with: "query_to_doc", all documents, which must be among
            them; "query_to_query", the similarities of the query with the other queries; "doc_to_query", those
            of the document with all queries; "doc_to_doc", those of the document with the documents of other
            rows.
        partition_mode: "joint" puts the candidates of all directions into one sum; "per_direction" takes the
            mean of one cross entropy for each direction, and so allows only "query_to_doc" and "doc_to_query".
        hardness_mode: Which documents are weighted by how similar they are to the query, which makes the
            similar ones count more: "in_batch_negatives", those of other rows; "hard_negatives", those of
            the row itself; "all_negatives", both; None for none.
        hardness_strength: What is added to the score of those documents, times their similarity, through which
            no gradient flows.

    Raises:
        ValueError: If a setting is none of these, or directions and partition_mode do not go together.
    """

    min_columns: ClassVar[int] = 2
    splits_rows = True

    def __init__(
        self,
        model: Any,
        scale: float = 20.0,
        similarity_fct: Callable[[Any, Any], Tensor] = cos_sim,
        gather_across_devices: bool = False,
        directions: tuple[Direction, ...] = ("query_to_doc",),
        partition_mode: PartitionMode = "joint",
        hardness_mode: HardnessMode | None = None,
        hardness_strength: float = 0.0,
    ) -> None:
        super().__init__(model)
        check_directions(directions, partition_mode)
        check_hardness(hardness_mode, hardness_strength)
        self.scale = scale
        self.similarity_fct = similarity_fct
        self.gather_across_devices = gather_across_devices
        self.directions = tuple(directions)
        self.partition_mode = partition_mode
        self.hardness_mode = hardness_mode
        self.hardness_strength = hardness_strength

    def parts(
        self,
        embeddings: Sequence[Embeddings],
        labels: Tensor | None,
        *,
        rows: slice | None = None,
        context: Any = None,
    ) -> Iterator[LossPart]:
        chosen = slice(None) if rows is None else rows
        own = torch.arange(len(embeddings[0]), device=embeddings[0].values.device)[chosen]  # (R,)
        # The own document comes first among the candidates of "query_to_doc", and these before all others.
        logits = [
            self.logits(direction, embeddings, chosen, own)
            for direction in DIRECTIONS
            if direction in self.directions
        ]
        if self.partition_mode == "joint":
            yield LossPart("loss", info_nce(torch.cat(logits, dim=1), own))
        else:
            yield LossPart("loss", torch.stack([info_nce(each, own) for each in logits]).mean())

    def logits(self, direction: str, embeddings: Sequence[Embeddings], rows: slice, own: Tensor) -> Tensor:
        """Scores of the candidates of one direction, (R, N), for the rows with the numbers `own`, (R,)."""
        queries, *documents = embeddings
        is_own = own[:, None] == torch.arange(len(queries), device=own.device)  # (R, B)
        blocks: list[Tensor] = []  # (R, B) each
        for column, similarities in enumerate(DIRECTIONS[direction](self.similar, queries, documents, rows)):
            block = similarities * self.scale
            if direction in WITHOUT_OWN:
                block = block.masked_fill(is_own, -torch.inf)
            elif direction == "query_to_doc" and self.hardness_mode is not None:
                is_weighted = HARDNESS[self.hardness_mode](is_own, column == 0)
                block = block + self.hardness_strength * similarities.detach() * is_weighted
            blocks.append(block)
        return torch.cat(blocks, dim=1)

    def similar(self, a: Embeddings, b: Embeddings) -> Tensor:
        """Similarity of every row of `a` with every row of `b`, (A, B)."""
        return score(self.similarity_fct, a, b)

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        caching = {
            "mini_batch_size": self.mini_batch_size,
            "mini_batch_num_tokens": self.mini_batch_num_tokens,
        }
        return {
            "scale": self.scale,
            "similarity_fct": similarity_fct_name(self.similarity_fct),
            **(caching if self.is_cached else {}),
            "gather_across_devices": self.gather_across_devices,
            "directions": self.directions,
            "partition_mode": self.partition_mode,
            "hardness_mode": self.hardness_mode,
            "hardness_strength": self.hardness_strength,
        }

    @property
    def citation(self) -> str:
        """BibTeX of the paper."""
        return bibtex(
            "misc",
            "oord2018representation",
            title="Representation Learning with Contrastive Predictive Coding",
            author=["Aaron van den Oord", "Yazhe Li", "Oriol Vinyals"],
            year=2018,
            arxiv="1807.03748 cs.LG",
        )


class MultipleNegativesSymmetricRankingLoss(MultipleNegativesRankingLoss):
    """`MultipleNegativesRankingLoss` in both directions: to each query its document, and to each document its query.

    The mean of both. Hard negatives are candidates for queries only.

    Args:
        model: The model.
        scale: As there.
        similarity_fct: As there.
        gather_across_devices: As there.
    """

    def __init__(
        self,
        model: Any,
        scale: float = 20.0,
        similarity_fct: Callable[[Any, Any], Tensor] = cos_sim,
        gather_across_devices: bool = False,
    ) -> None:
        super().__init__(
            model,
            scale=scale,
            similarity_fct=similarity_fct,
            gather_across_devices=gather_across_devices,
            directions=("query_to_doc", "doc_to_query"),
            partition_mode="per_direction",
        )


class CachedMultipleNegativesRankingLoss(CachedLossMixin, MultipleNegativesRankingLoss):
    """`MultipleNegativesRankingLoss` with cached gradients: any batch size in the memory of `mini_batch_size`.

    Value and gradients are the same; texts are embedded twice. See `losses/cached.py`.

    Args:
        model: The model.
        scale: As in `MultipleNegativesRankingLoss`, like all that are not named here.
        similarity_fct: As there.
        mini_batch_size: Rows that are embedded at once.
        show_progress_bar: Whether to show how far embedding is.
        mini_batch_num_tokens: Tokens that are embedded at once, instead of a number of rows.
        gather_across_devices: As there.
        directions: As there.
        partition_mode: As there.
        hardness_mode: As there.
        hardness_strength: As there.
    """

    def __init__(
        self,
        model: Any,
        scale: float = 20.0,
        similarity_fct: Callable[[Any, Any], Tensor] = cos_sim,
        mini_batch_size: int = 32,
        show_progress_bar: bool = False,
        mini_batch_num_tokens: int | None = None,
        gather_across_devices: bool = False,
        directions: tuple[Direction, ...] = ("query_to_doc",),
        partition_mode: PartitionMode = "joint",
        hardness_mode: HardnessMode | None = None,
        hardness_strength: float = 0.0,
    ) -> None:
        super().__init__(
            model,
            scale=scale,
            similarity_fct=similarity_fct,
            gather_across_devices=gather_across_devices,
            directions=directions,
            partition_mode=partition_mode,
            hardness_mode=hardness_mode,
            hardness_strength=hardness_strength,
        )
        self.cache_gradients(mini_batch_size, mini_batch_num_tokens, show_progress_bar)

    @property
    def citation(self) -> str:
        """BibTeX of the paper."""
        return bibtex(
            "misc",
            "gao2021scaling",
            title="Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup",
            author=["Luyu Gao", "Yunyi Zhang", "Jiawei Han", "Jamie Callan"],
            year=2021,
            arxiv="2101.06983 cs.LG",
        )


class CachedMultipleNegativesSymmetricRankingLoss(CachedMultipleNegativesRankingLoss):
    """`MultipleNegativesSymmetricRankingLoss` with cached gradients.

    Args:
        model: The model.
        scale: As in `MultipleNegativesRankingLoss`.
        similarity_fct: As there.
        mini_batch_size: As in `CachedMultipleNegativesRankingLoss`.
        show_progress_bar: As there.
        mini_batch_num_tokens: As there.
        gather_across_devices: As there.
    """

    def __init__(
        self,
        model: Any,
        scale: float = 20.0,
        similarity_fct: Callable[[Any, Any], Tensor] = cos_sim,
        mini_batch_size: int = 32,
        show_progress_bar: bool = False,
        mini_batch_num_tokens: int | None = None,
        gather_across_devices: bool = False,
    ) -> None:
        super().__init__(
            model,
            scale=scale,
            similarity_fct=similarity_fct,
            mini_batch_size=mini_batch_size,
            show_progress_bar=show_progress_bar,
            mini_batch_num_tokens=mini_batch_num_tokens,
            gather_across_devices=gather_across_devices,
            directions=("query_to_doc", "doc_to_query"),
            partition_mode="per_direction",
        )


def check_directions(directions: Sequence[str], partition_mode: str) -> None:
    """Stop if the directions are none, or do not go with the partition mode."""
    known = ", ".join(map(repr, DIRECTIONS))
    if isinstance(directions, str) or not directions or not set(directions) <= set(DIRECTIONS):
        raise ValueError(f"directions={directions!r} must be a tuple of one or more of {known}.")
    if "query_to_doc" not in directions:
        raise ValueError(
            f"directions={directions!r} lacks 'query_to_doc', without which a query's own document is not "
            "among the candidates. Add it."
        )
    if partition_mode not in ("joint", "per_direction"):
        raise ValueError(f"partition_mode={partition_mode!r} must be 'joint' or 'per_direction'.")
    alone = [direction for direction in directions if direction in WITHOUT_OWN]
    if partition_mode == "per_direction" and alone:
        raise ValueError(
            f"partition_mode='per_direction' takes a cross entropy over each direction, but the candidates of "
            f"{', '.join(map(repr, alone))} do not include the query's own document. Use 'joint', or only "
            "'query_to_doc' and 'doc_to_query'."
        )


def check_hardness(mode: str | None, strength: float) -> None:
    """Stop if hardness is given in a way that is not known; say so if it has no effect."""
    if mode is not None and mode not in HARDNESS:
        raise ValueError(f"hardness_mode={mode!r} must be one of {', '.join(map(repr, HARDNESS))}, or None.")
    if strength < 0:
        raise ValueError(f"hardness_strength={strength} would favour easy negatives. Pass 0 or more.")
    if mode is not None and strength == 0:
        logger.warning("hardness_mode=%r has no effect while hardness_strength is 0.", mode)
