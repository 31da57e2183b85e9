"""The indexes of faiss and usearch behind one interface: built, searched, and read back.

How a search goes stands in `engines.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch

from sentence_transformers.search.quantized.codes import FORMS, TOP_BIT, Scale, in_one_form
from sentence_transformers.search.quantized.integers import rounded_weights
from sentence_transformers.tensors.topk import Best

GRAPH_NEIGHBOURS = 16
"""Neighbours of each row in the graph of an approximate search."""


class EngineIndex(ABC):
    """An index of one of the packages: how codes go into it and come out, and what its scores mean.

    Args:
        index: The package's own.
        precision: What the codes in it are.
    """

    precisions: ClassVar[tuple[str, ...]]

    def __init__(self, index: Any, precision: str) -> None:
        self.index = index
        self.precision = precision

    @property
    def is_packed(self) -> bool:
        return self.precision != "float32" and FORMS[self.precision].is_packed

    @classmethod
    @abstractmethod
    def built(cls, rows: np.ndarray, precision: str, *, exact: bool) -> EngineIndex:
        """An index of codes, or of float32 embeddings, (N, B)."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Numbers of a row: dimensions, or bytes for the binary precisions."""

    @abstractmethod
    def __len__(self) -> int:
        """How many rows are in the index."""

    @abstractmethod
    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """The codes in some rows."""

    @abstractmethod
    def search(self, rows: np.ndarray, k: int, *, exact: bool) -> Best:
        """The engine's scores and rows for each query, codes or floats (Q, B), its best first."""

    @abstractmethod
    def search_steps(self, queries: np.ndarray, scale: Scale, k: int, *, exact: bool) -> Best:
        """Dot products of float queries (Q, D) and what the steps in the index stand for."""


class FaissIndex(EngineIndex):
    """Embeddings and steps as floats, compared by inner product; signs as bits."""

    precisions = ("float32", "uint8", "ubinary")

    @classmethod
    def built(cls, rows: np.ndarray, precision: str, *, exact: bool) -> FaissIndex:
        faiss = imported_faiss()
        width = rows.shape[1]
        if precision == "ubinary":
            bits = 8 * width
            index = faiss.IndexBinaryFlat(bits) if exact else faiss.IndexBinaryHNSW(bits, GRAPH_NEIGHBOURS)
            index.add(rows)
            return cls(index, precision)
        if exact:
            index = faiss.IndexFlatIP(width)
        else:
            index = faiss.IndexHNSWFlat(width, GRAPH_NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        index.add(rows.astype(np.float32, copy=False))
        return cls(index, precision)

    @property
    def width(self) -> int:
        return self.index.code_size if self.is_packed else self.index.d

    def __len__(self) -> int:
        return self.index.ntotal

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        try:
            if self.is_packed:
                return np.stack([self.index.reconstruct(int(row)) for row in rows])
            return self.index.reconstruct_batch(rows).astype(np.uint8)
        except RuntimeError as error:
            raise ValueError(
                f"The index ({type(self.index).__name__}) does not give back what is in it, which rescoring needs. Pass "
                "rescore=False, or call its `make_direct_map` if it has one."
            ) from error

    def search(self, rows: np.ndarray, k: int, *, exact: bool) -> Best:
        rows = np.ascontiguousarray(rows if self.is_packed else rows.astype(np.float32, copy=False))
        scores, found = self.index.search(rows, k)
        return Best(torch.from_numpy(scores.astype(np.float32)), torch.from_numpy(found))

    def search_steps(self, queries: np.ndarray, scale: Scale, k: int, *, exact: bool) -> Best:
        found = self.search(queries * scale.step, k, exact=exact)
        constant = torch.from_numpy(queries @ scale.least).float()  # (Q,)
        return Best(found.scores + constant.unsqueeze(1), found.rows)


class UsearchIndex(EngineIndex):
    """Embeddings compared by cosine, steps by inner product, signs by how many differ."""

    precisions = ("float32", "int8", "ubinary", "binary")

    @classmethod
    def built(cls, rows: np.ndarray, precision: str, *, exact: bool) -> UsearchIndex:
        usearch_index = imported_usearch_index()
        metric, dtype = {"float32": ("cos", "f32"), "int8": ("ip", "i8")}.get(precision, ("hamming", "b1"))
        width = rows.shape[1] * (8 if metric == "hamming" else 1)
        index = cls(usearch_index.Index(ndim=width, metric=metric, dtype=dtype), precision)
        if len(rows):
            index.index.add(np.arange(len(rows)), index.as_stored(rows))
        return index

    def as_stored(self, rows: np.ndarray) -> np.ndarray:
        """Rows as usearch takes them, which reads packed bits from unsigned bytes."""
        return np.ascontiguousarray(in_one_form(rows, self.precision) if self.is_packed else rows)

    @property
    def width(self) -> int:
        return self.index.ndim // 8 if self.is_packed else self.index.ndim

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        codes = np.stack(list(self.index.get(rows.astype(np.uint64))))
        if not self.is_packed:
            return codes
        packed = codes.view(np.uint8)
        return (packed ^ TOP_BIT).view(np.int8) if self.precision == "binary" else packed

    def search(self, rows: np.ndarray, k: int, *, exact: bool) -> Best:
        matches = self.index.search(self.as_stored(rows), k, exact=exact)
        keys, distances = (np.atleast_2d(values) for values in (matches.keys, matches.distances))
        counts = getattr(matches, "counts", np.full(len(rows), keys.shape[1]))
        is_missing = np.arange(keys.shape[1]) >= np.asarray(counts).reshape(-1, 1)
        found = np.where(is_missing, -1, keys.astype(np.int64))
        return Best(torch.from_numpy(distances.astype(np.float32)), torch.from_numpy(found))

    def search_steps(self, queries: np.ndarray, scale: Scale, k: int, *, exact: bool) -> Best:
        weights, step = rounded_weights(torch.from_numpy((queries * scale.step).astype(np.float32)))
        found = self.search(weights.numpy(), k, exact=exact)
        constant = torch.from_numpy(queries @ scale.zero).float()  # (Q,)
        # The distance of usearch is one less the inner product.
        return Best((1 - found.scores) * step + constant.unsqueeze(1), found.rows)


def imported_faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            "semantic_search_faiss needs faiss. Install it with: pip install faiss-cpu"
        ) from error
    return faiss


def imported_usearch_index() -> Any:
    try:
        import usearch.index
    except ImportError as error:
        raise ImportError(
            "semantic_search_usearch needs usearch. Install it with: pip install usearch"
        ) from error
    return usearch.index
