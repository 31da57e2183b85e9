"""Find the rows of the corpus that are nearest to each anchor, and score them.

Only the best rows of some anchors at a time are kept, never a score for every pair of texts. Which of the
candidates become negatives is not decided here.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sentence_transformers.search.hard_negatives.selection import in_order
from sentence_transformers.search.hard_negatives.texts import MiningTexts
from sentence_transformers.tensors.similarity import SimilarityFunction
from sentence_transformers.tensors.topk import Best, ranges, top_k
from sentence_transformers.tensors.vectors import as_floats, as_tensor, unit_vectors

ROWS_AT_ONCE = 2**14
"""Rows of embeddings that are copied at once."""

PAIRS_AT_ONCE = 2**18
"""Pairs of texts that a cross-encoder gets at once."""

Find = Callable[[np.ndarray, int], Best]
"""The best k rows of the corpus for some embedded anchors, (a, D)."""


class PairScorer(Protocol):
    """What a cross-encoder must be able to do."""

    def predict(
        self, sentences: Any, *, batch_size: int, show_progress_bar: bool, convert_to_tensor: bool
    ) -> Any:
        """One score for each pair of texts."""


def check_faiss(similarity: SimilarityFunction) -> None:
    """Check that faiss can search by a similarity.

    Raises:
        ValueError: If it cannot.
        ImportError: If it is not installed.
    """
    if similarity is not SimilarityFunction.COSINE:
        raise ValueError(
            f"use_faiss=True searches by the cosine, but the model's similarity is {similarity.value!r}. Pass "
            "use_faiss=False."
        )
    if importlib.util.find_spec("faiss") is None:
        raise ImportError(
            'use_faiss=True needs faiss. Install it with: pip install "sentence-transformers[search]". Without it '
            "the search is exact as well."
        )


@dataclass(frozen=True)
class EmbeddedTexts:
    """The texts of a dataset, and their embeddings."""

    texts: MiningTexts
    queries: np.ndarray
    """Of the anchors, (A, D), of length one."""

    corpus: np.ndarray
    """Of the corpus, (N, D), of length one."""

    similarity: SimilarityFunction

    def find_with_top_k(self, device: torch.device | None) -> Find:
        """Exact search on a device; None for the CPU."""
        function = SimilarityFunction.to_similarity_fn(self.similarity)

        def find(queries: np.ndarray, k: int) -> Best:
            best = top_k(queries, self.corpus, k, similarity=function, device=device or "cpu")
            return Best(best.scores.cpu(), best.rows.cpu())

        return find

    def find_with_faiss(self, batch_size: int) -> Find:
        """Exact search with faiss, on its GPUs if it has some; so many anchors at a time."""
        import faiss

        index: Any = faiss.IndexFlatIP(self.corpus.shape[1])
        if hasattr(faiss, "get_num_gpus") and faiss.get_num_gpus() > 0:
            index = faiss.index_cpu_to_all_gpus(index)
        for rows in ranges(len(self.corpus), ROWS_AT_ONCE):
            index.add(unit_rows(self.corpus[rows.start : rows.stop]))

        def find(queries: np.ndarray, k: int) -> Best:
            found = [
                index.search(unit_rows(queries[some.start : some.stop]), min(k, len(self.corpus)))
                for some in ranges(len(queries), batch_size)
            ]
            scores, rows = (torch.from_numpy(np.concatenate(arrays)) for arrays in zip(*found, strict=True))
            return Best(scores.masked_fill(rows < 0, -torch.inf), rows)

        return find

    def candidates_of(self, anchors: range, count: int, find: Find) -> Best:
        """The nearest rows for some anchors, (a, `count`) or fewer; the anchor's own text is left out."""
        own = self.texts.own_rows[anchors.start : anchors.stop].unsqueeze(1)  # (a, 1)
        more = int((own >= 0).any())
        best = find(self.queries[anchors.start : anchors.stop], count + more)
        if not more:
            return best
        is_own = (best.rows == own) & (own >= 0)
        best = in_order(Best(best.scores.masked_fill(is_own, -torch.inf), best.rows.masked_fill(is_own, -1)))
        return Best(best.scores[:, :count], best.rows[:, :count])

    def scores_of_positives(self, anchors: range) -> Tensor:
        """How alike the two texts of each pair of some anchors are, (p,)."""
        pairs = self.texts.pairs_of(anchors)
        pairwise = SimilarityFunction.to_similarity_pairwise_fn(self.similarity)
        queries, positives = self.texts.pair_anchors[pairs], self.texts.pair_positives[pairs]
        scores = [
            as_floats(
                pairwise(
                    as_tensor(self.queries[queries[some.start : some.stop].numpy()]),
                    as_tensor(self.corpus[positives[some.start : some.stop].numpy()]),
                )
            )
            for some in ranges(len(queries), ROWS_AT_ONCE)
        ]
        return torch.cat(scores)


@dataclass(frozen=True)
class Rescorer:
    """Scores pairs of texts with a cross-encoder."""

    cross_encoder: PairScorer
    batch_size: int
    show_progress_bar: bool

    def rescored(self, texts: MiningTexts, anchors: range, candidates: Best, wanted: Tensor) -> Best:
        """Some anchors' candidates with new scores and in their order; those that are not wanted stay at the end."""
        where, _ = wanted.nonzero(as_tuple=True)
        scores = torch.full_like(candidates.scores, -torch.inf)
        scores[wanted] = self.scores(texts, where + anchors.start, candidates.rows[wanted]).to(scores)
        return in_order(Best(scores, candidates.rows))

    def scores_of_positives(self, texts: MiningTexts, anchors: range) -> Tensor:
        """The score of each pair of some anchors, (p,)."""
        pairs = texts.pairs_of(anchors)
        return self.scores(texts, texts.pair_anchors[pairs], texts.pair_positives[pairs])

    def scores(self, texts: MiningTexts, anchors: Tensor, rows: Tensor) -> Tensor:
        """Scores of anchors with rows of the corpus, (n,)."""
        parts = [torch.empty(0)]
        for some in ranges(len(anchors), PAIRS_AT_ONCE):
            part = slice(some.start, some.stop)
            numbers = zip(anchors[part].tolist(), rows[part].tolist(), strict=True)
            pairs = [[texts.anchors[anchor], texts.corpus[row]] for anchor, row in numbers]
            parts.append(self.predicted(pairs))
        return torch.cat(parts)

    def predicted(self, pairs: Sequence[Sequence[str]]) -> Tensor:
        scores = self.cross_encoder.predict(
            pairs,
            batch_size=self.batch_size,
            show_progress_bar=self.show_progress_bar,
            convert_to_tensor=True,
        )
        scores = as_floats(scores).detach().cpu()
        if scores.dim() == 2 and scores.shape[1] == 1:
            scores = scores[:, 0]
        if scores.shape != (len(pairs),):
            raise ValueError(
                f"The cross_encoder gave scores of shape {tuple(scores.shape)} for {len(pairs)} pairs. Pass one "
                "that gives one score for each pair (num_labels=1)."
            )
        return scores


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Rows as faiss takes them: float32, of length one."""
    return unit_vectors(as_floats(rows)).float().numpy()
