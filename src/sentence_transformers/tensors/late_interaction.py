"""Scores between inputs that have one vector per token.

MaxSim: each token of the query finds its best token in the document, and these best dot products are added
up. Khattab and Zaharia 2020, "ColBERT: Efficient and Effective Passage Search via Contextualized Late
Interaction over BERT". Queries are kept as one flat run of tokens, documents are padded in groups of like
length; no more than `chunk_elements` token scores exist at a time. Nothing here knows about models.

`a` holds the queries and `b` the documents: each a list of token embeddings (T, D) of any lengths (tensors,
arrays or lists), one padded tensor (B, T, D), or a single (T, D). Masks, (B, T), are true where a token
counts. Half precision and integers are computed in float32. Gradients flow to both.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sentence_transformers.tensors.vectors import as_floats, as_tensor, full_precision

logger = logging.getLogger(__name__)

CHUNK_ELEMENTS = 2**24
"""Token scores computed at a time if the caller names no other number: 64 MiB in float32."""

SCORE_OF_EMPTY_DOCUMENT = -1e9
"""Score of a document without tokens: below every real one, and still finite."""


def maxsim(
    a: list | np.ndarray | Tensor,
    b: list | np.ndarray | Tensor,
    a_mask: Tensor | None = None,
    b_mask: Tensor | None = None,
    chunk_elements: int | None = None,
    length_normalize: bool = False,
    device: str | torch.device | None = None,
) -> Tensor:
    """MaxSim of every query in `a` with every document in `b`.

    Args:
        a: Token embeddings of Q queries: a list of (T, D), a padded (Q, T, D), or a single (T, D).
        b: Token embeddings of N documents, in the same forms.
        a_mask: Which tokens of `a` count, (Q, T); None for all. For a list, T may exceed a row's length.
        b_mask: Which tokens of `b` count, (N, T); None for all.
        chunk_elements: How many token scores may exist at a time, at the least those of one query with one
            document; None for 2**24.
        length_normalize: Divide by the number of tokens in the query.
        device: Where to compute; documents are moved there group by group. None: where `a` is.

    Returns:
        Scores, (Q, N). A query without tokens scores 0; a document without tokens -1e9 (before any
        normalisation).

    Raises:
        ValueError: If the embeddings have different widths, or are not token embeddings.
    """
    queries, documents = token_runs(a, b, a_mask, b_mask, device)
    limit = CHUNK_ELEMENTS if chunk_elements is None else max(1, chunk_elements)
    parts: list[Tensor] = []  # (Q, n) each
    order: list[int] = []
    with full_precision(queries.values):
        for group in groups_of_like_length(
            documents.lengths, max_tokens=document_token_budget(queries.lengths, limit)
        ):
            tokens, kept = documents.padded(group, queries.values.device)  # (n, T, D), (n, T)
            group_tokens = max(1, tokens.shape[0] * tokens.shape[1])
            parts.append(
                torch.cat(
                    [queries.values.new_zeros((0, len(group)))]
                    + [
                        maxsim_block(queries.slice(first, last), tokens, kept)
                        for first, last in query_blocks(queries.lengths, max_tokens=limit // group_tokens)
                    ]
                )
            )
            order.extend(group)
    scores = restore_order(parts, order) if parts else queries.values.new_zeros((len(queries), 0))
    scores = mark_empty(scores, documents)
    return scores / queries.counts(scores).unsqueeze(1) if length_normalize else scores


def maxsim_pairwise(
    a: list | np.ndarray | Tensor,
    b: list | np.ndarray | Tensor,
    a_mask: Tensor | None = None,
    b_mask: Tensor | None = None,
    chunk_elements: int | None = None,
    length_normalize: bool = False,
    device: str | torch.device | None = None,
) -> Tensor:
    """MaxSim of each query in `a` with the document at the same place in `b`; arguments as in `maxsim`.

    Returns:
        Scores, (Q,).

    Raises:
        ValueError: If there are not as many documents as queries.
    """
    queries, documents = token_runs(a, b, a_mask, b_mask, device)
    if len(queries) != len(documents):
        raise ValueError(
            f"Pairs need as many queries as documents, but `a` holds {len(queries)} and `b` "
            f"{len(documents)}. "
            "Use maxsim to score every query with every document."
        )
    limit = CHUNK_ELEMENTS if chunk_elements is None else max(1, chunk_elements)
    longest_query = max(queries.lengths, default=1)
    parts: list[Tensor] = []  # (n,) each
    order: list[int] = []
    with full_precision(queries.values):
        for group in groups_of_like_length(documents.lengths, max_tokens=limit // max(1, longest_query)):
            query_tokens, query_kept = queries.padded(group, queries.values.device)  # (n, S, D), (n, S)
            tokens, kept = documents.padded(group, queries.values.device)  # (n, T, D), (n, T)
            kept = None if kept is None else kept.unsqueeze(1)
            best = best_of_each_token(query_tokens @ tokens.mT, kept)  # (n, S)
            parts.append((best if query_kept is None else best.masked_fill(~query_kept, 0.0)).sum(dim=1))
            order.extend(group)
    scores = restore_order(parts, order) if parts else queries.values.new_zeros(0)
    scores = mark_empty(scores, documents)
    return scores / queries.counts(scores) if length_normalize else scores


def mean_maxsim(
    a: list | np.ndarray | Tensor,
    b: list | np.ndarray | Tensor,
    a_mask: Tensor | None = None,
    b_mask: Tensor | None = None,
    chunk_elements: int | None = None,
    length_normalize: bool = True,
    device: str | torch.device | None = None,
) -> Tensor:
    """`maxsim` divided by the number of query tokens, so that long and short queries score alike."""
    return maxsim(a, b, a_mask, b_mask, chunk_elements, length_normalize, device)


def mean_maxsim_pairwise(
    a: list | np.ndarray | Tensor,
    b: list | np.ndarray | Tensor,
    a_mask: Tensor | None = None,
    b_mask: Tensor | None = None,
    chunk_elements: int | None = None,
    length_normalize: bool = True,
    device: str | torch.device | None = None,
) -> Tensor:
    """`maxsim_pairwise` divided by the number of query tokens."""
    return maxsim_pairwise(a, b, a_mask, b_mask, chunk_elements, length_normalize, device)


@dataclass(frozen=True)
class TokenRun:
    """The tokens of several inputs, one input after another without padding.

    `values` are the tokens, (sum of T, D); `lengths[i]` counts the tokens of input i.
    """

    values: Tensor
    lengths: list[int]

    @classmethod
    def read(cls, embeddings: Any, mask: Any, name: str) -> TokenRun:
        """Take a caller's token embeddings, less the tokens that the mask leaves out.

        Raises:
            ValueError: If they are not token embeddings.
        """
        if isinstance(embeddings, (list, tuple)) and not is_one_matrix(embeddings):
            rows = [as_floats(row) for row in embeddings]
            if mask is not None:
                kept = as_tensor(mask).bool()
                rows = [row[kept[number, : len(row)].to(row.device)] for number, row in enumerate(rows)]
            if any(row.dim() != 2 for row in rows):
                shapes = sorted({tuple(row.shape) for row in rows if row.dim() != 2})
                raise ValueError(
                    f"`{name}` must hold token embeddings of shape (T, D), but holds some of shape "
                    f"{shapes[0]}."
                )
            return cls(torch.cat(rows) if rows else torch.zeros(0, 0), [len(row) for row in rows])
        padded = as_floats(embeddings)
        padded = padded.unsqueeze(0) if padded.dim() == 2 else padded
        if padded.dim() != 3:
            raise ValueError(
                f"`{name}` must be token embeddings of shape (B, T, D) or (T, D), or a list of (T, D), "
                f"but has shape {tuple(padded.shape)}."
            )
        rows_count, tokens, width = padded.shape
        if mask is None:
            return cls(padded.reshape(rows_count * tokens, width), [tokens] * rows_count)
        kept = as_tensor(mask).bool().reshape(rows_count, tokens).to(padded.device)
        return cls(padded[kept], kept.sum(dim=1).tolist())

    def __len__(self) -> int:
        return len(self.lengths)

    @functools.cached_property
    def starts(self) -> list[int]:
        """Where each input begins, and at last where the run ends."""
        return [0, *np.cumsum(self.lengths, dtype=np.int64).tolist()]

    def slice(self, first: int, last: int) -> TokenRun:
        """The inputs from number `first` up to `last`."""
        return TokenRun(self.values[self.starts[first] : self.starts[last]], self.lengths[first:last])

    def padded(self, numbers: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor | None]:
        """The inputs with the given numbers, (n, T, D), and where they have a token, (n, T).

        The second is None where all of them have the same length.
        """
        lengths = torch.tensor([self.lengths[number] for number in numbers])
        starts = torch.tensor([self.starts[number] for number in numbers])
        position = torch.arange(int(lengths.max()))
        kept = position < lengths.unsqueeze(1)  # (n, T)
        # A place without a token repeats some other token; the mask leaves it out again.
        index = (starts.unsqueeze(1) + position).clamp(max=len(self.values) - 1)
        tokens = self.values[index.to(self.values.device)].to(device)
        return tokens, None if bool(kept.all()) else kept.to(device)

    def counts(self, like: Tensor) -> Tensor:
        """Tokens of each input, at least 1, as a tensor of the same type as `like`."""
        return torch.tensor(self.lengths, dtype=like.dtype, device=like.device).clamp(min=1)


def token_runs(
    a: Any, b: Any, a_mask: Any, b_mask: Any, device: str | torch.device | None
) -> tuple[TokenRun, TokenRun]:
    """Both sides in a common number type, the queries on the device that computes."""
    queries, documents = TokenRun.read(a, a_mask, "a"), TokenRun.read(b, b_mask, "b")
    widths = [run.values.shape[-1] for run in (queries, documents)]
    if len(queries) and len(documents) and widths[0] != widths[1]:
        raise ValueError(
            f"`a` has token embeddings of width {widths[0]} and `b` of width {widths[1]}. "
            "Encode both with the same model and the same truncate_dim."
        )
    dtype = torch.promote_types(queries.values.dtype, documents.values.dtype)
    return (
        TokenRun(queries.values.to(device=device, dtype=dtype), queries.lengths),
        TokenRun(documents.values.to(dtype=dtype), documents.lengths),
    )


def is_one_matrix(rows: Sequence[Any]) -> bool:
    """Whether nested lists are one (T, D) rather than a list of them."""
    first = rows[0] if len(rows) else None
    if isinstance(first, (Tensor, np.ndarray)):
        return False
    return isinstance(first, (list, tuple)) and len(first) > 0 and not hasattr(first[0], "__len__")


def groups_of_like_length(lengths: Sequence[int], *, max_tokens: int) -> Iterator[list[int]]:
    """Numbers of inputs with tokens, longest first, so that a padded group has at most `max_tokens`."""
    group: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        if group and (len(group) + 1) * max(1, lengths[group[0]]) > max_tokens:
            yield group
            group = []
        group.append(number)
    if group:
        yield group


def query_blocks(lengths: Sequence[int], *, max_tokens: int) -> Iterator[tuple[int, int]]:
    """Ranges of queries that together have at most `max_tokens` tokens, one query at the least."""
    first, tokens = 0, 0
    for number, length in enumerate(lengths):
        if number > first and tokens + length > max_tokens:
            yield first, number
            first, tokens = number, 0
        tokens += length
    if lengths:
        yield first, len(lengths)


def document_token_budget(query_lengths: Sequence[int], limit: int) -> int:
    """Document tokens to score at a time: with all queries if that is much, and never too many with one."""
    with_all, with_longest = (
        limit // max(1, tokens) for tokens in (sum(query_lengths), max(query_lengths, default=1))
    )
    return min(with_longest, max(with_all, math.isqrt(limit)))


def maxsim_block(queries: TokenRun, tokens: Tensor, kept: Tensor | None) -> Tensor:
    """MaxSim (q, n) of q queries with n padded documents: (n, T, D), (n, T)."""
    documents, positions, width = tokens.shape
    token_scores = queries.values @ tokens.reshape(documents * positions, width).mT  # (sum of S, n * T)
    token_scores = token_scores.view(len(queries.values), documents, positions)
    best = best_of_each_token(token_scores, kept)  # (sum of S, n)
    if len(set(queries.lengths)) == 1:
        return best.view(len(queries), queries.lengths[0], documents).sum(dim=1)
    owner = np.repeat(np.arange(len(queries)), queries.lengths)  # (sum of S,)
    place = np.arange(len(owner)) - np.array(queries.starts)[owner]
    # Put in place and added up, rather than added in place, which is not deterministic on a GPU.
    padded = best.new_zeros((len(queries), max(queries.lengths), documents))
    where = (torch.from_numpy(owner).to(best.device), torch.from_numpy(place).to(best.device))
    return padded.index_put(where, best).sum(dim=1)


def best_of_each_token(token_scores: Tensor, kept: Tensor | None) -> Tensor:
    """Largest score over the last dimension among the tokens that are kept; 0 where there are none."""
    if token_scores.shape[-1] == 0:
        return token_scores.new_zeros(token_scores.shape[:-1])
    if kept is None:
        # `max` remembers only which token won; `amax` would keep all token scores for the gradient.
        return token_scores.max(dim=-1).values
    best = token_scores.masked_fill(~kept, -torch.inf).max(dim=-1).values
    return best.masked_fill(~kept.any(dim=-1), 0.0)


def restore_order(parts: list[Tensor], order: list[int]) -> Tensor:
    """Join parts along the last dimension, whose places hold the inputs with the numbers in `order`."""
    joined = torch.cat(parts, dim=-1)
    return joined.index_select(-1, torch.from_numpy(np.argsort(order)).to(joined.device))


def mark_empty(scores: Tensor, documents: TokenRun) -> Tensor:
    """Give documents without tokens, along the last dimension, the score that ranks them last."""
    if all(documents.lengths):
        return scores
    warn_about_empty_documents()
    empty = torch.tensor([length == 0 for length in documents.lengths], device=scores.device)
    return scores.masked_fill(empty, SCORE_OF_EMPTY_DOCUMENT)


@functools.cache
def warn_about_empty_documents() -> None:
    logger.warning(
        "Some documents have no token that counts, because of the mask or because they are empty. They score "
        "%g, "
        "below every other document. This is said once.",
        SCORE_OF_EMPTY_DOCUMENT,
    )
