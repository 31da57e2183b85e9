"""What the two processes of `losses/test_distributed.py` do; a new process can import this file only.

Each process computes losses on its half of a batch with a model in `DistributedDataParallel`, and notes the
value and the averaged gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from tokenizers import Tokenizer
from torch import Tensor, nn

from sentence_transformers import SentenceTransformer, losses
from sentence_transformers.losses import cached
from sentence_transformers.losses.base import EmbeddingLoss, LossPart
from sentence_transformers.models import Dense, StaticEmbedding
from tiny import built_tokenizer, sample_texts

PROCESSES = 2
TEXTS = [text[:40] for text in sample_texts()]
EVEN, UNEVEN = (slice(0, 4), slice(4, 8)), (slice(0, 2), slice(2, 8))
"""Rows of each process."""

ALL_DIRECTIONS = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")


def tiny_static_model(seed: int = 0) -> SentenceTransformer:
    """Token vectors, averaged and mixed, in float64."""
    torch.manual_seed(seed)
    table = StaticEmbedding(Tokenizer.from_str(built_tokenizer("bert")), embedding_dim=8)
    dense = Dense(8, 6)
    # Buffers are sent around before a forward pass, of which processes may have different numbers.
    dense.register_buffer("statistics", torch.zeros(1))
    return SentenceTransformer(modules=[table, dense], device="cpu").double()


class SharingWeights(EmbeddingLoss):
    """Uses a weight of the model itself, beside the embeddings."""

    def parts(self, embeddings, labels, *, rows=None, context=None):
        inner = getattr(self.model, "module", self.model)
        yield LossPart("loss", (embeddings[0].values @ inner[1].linear.weight).square().sum(dim=1).mean())


@dataclass(frozen=True)
class Case:
    """A loss that is to give the same in two processes as in one."""

    loss: Callable[[Any], EmbeddingLoss]
    """Makes the loss with a model; it gathers the rows of all processes, or needs only its own."""

    columns: int = 3
    rows: tuple[slice, slice] = EVEN
    scores_at_once: int = cached.SCORES_AT_ONCE


def gathering(loss: Callable[..., EmbeddingLoss], **settings: Any) -> Callable[[Any], EmbeddingLoss]:
    return lambda model: loss(model, gather_across_devices=True, **settings)


CACHED = {"mini_batch_size": 3}

CASES: dict[str, Case] = {
    "MultipleNegativesRankingLoss": Case(gathering(losses.MultipleNegativesRankingLoss)),
    "MultipleNegativesRankingLoss, everything": Case(
        gathering(
            losses.MultipleNegativesRankingLoss,
            directions=ALL_DIRECTIONS,
            hardness_mode="all_negatives",
            hardness_strength=2.0,
        )
    ),
    "MultipleNegativesSymmetricRankingLoss": Case(
        gathering(losses.MultipleNegativesSymmetricRankingLoss), columns=2
    ),
    "CachedMultipleNegativesRankingLoss": Case(
        gathering(losses.CachedMultipleNegativesRankingLoss, **CACHED)
    ),
    "CachedMultipleNegativesRankingLoss, everything": Case(
        gathering(losses.CachedMultipleNegativesRankingLoss, directions=ALL_DIRECTIONS, **CACHED)
    ),
    "CachedMultipleNegativesSymmetricRankingLoss": Case(
        gathering(losses.CachedMultipleNegativesSymmetricRankingLoss, **CACHED), columns=2
    ),
    "MatryoshkaLoss": Case(
        lambda model: losses.MatryoshkaLoss(
            model, gathering(losses.CachedMultipleNegativesRankingLoss, **CACHED)(model), [6, 2]
        )
    ),
    "GISTEmbedLoss": Case(
        lambda model: losses.GISTEmbedLoss(model, tiny_static_model(1), gather_across_devices=True)
    ),
    "CachedGISTEmbedLoss": Case(
        lambda model: losses.CachedGISTEmbedLoss(
            model, tiny_static_model(1), gather_across_devices=True, **CACHED
        )
    ),
    "different numbers of rows": Case(gathering(losses.MultipleNegativesRankingLoss), rows=UNEVEN),
    "different numbers of rows, pieces and stretches": Case(
        gathering(losses.CachedMultipleNegativesRankingLoss, **CACHED), rows=UNEVEN, scores_at_once=48
    ),
    "weights that the loss and the model share": Case(SharingWeights),
    "weights that the loss and the model share, cached": Case(
        lambda model: with_mini_batch_size(SharingWeights(model), 3)
    ),
}


def with_mini_batch_size(loss: EmbeddingLoss, rows: int) -> EmbeddingLoss:
    loss.mini_batch_size = rows
    return loss


def columns_of(case: Case, model: Any, rows: slice) -> list[dict[str, Any]]:
    return [model.preprocess(TEXTS[column * 8 : column * 8 + 8][rows]) for column in range(case.columns)]


def averaged_over_processes(rank: int, folder: Path) -> None:
    """One of the processes: compute every case, and write what it found."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'meeting'}",
        rank=rank,
        world_size=PROCESSES,
        # A process that waits for the other in vain shall fail, and not hang.
        timeout=timedelta(seconds=60),
    )
    found: dict[str, tuple[Tensor, dict[str, Tensor]]] = {}
    for name, case in CASES.items():
        cached.SCORES_AT_ONCE = case.scores_at_once
        model = tiny_static_model()
        loss = case.loss(model)
        columns = columns_of(case, model, case.rows[rank])
        holders = [part for part in loss.modules() if isinstance(part, EmbeddingLoss)]
        distributed = nn.parallel.DistributedDataParallel(model)
        for part in holders:
            part._modules["model"] = distributed
        value = loss(columns)
        value.backward()
        found[name] = value.detach(), {key: part.grad for key, part in model.named_parameters()}
    torch.save(found, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()
