"""Attention of short rows of many lengths on the CPU, written out as a few batched products.

Each call costs as much as attention within some sentences does, and processors are slow at short and odd numbers of
keys: PyTorch's softmax computes fewer than a whole register of them one by one, and products of 15 take twice as
long as those of 16. So neighbouring rows of like length are laid side by side, the heads of each as matrices of
their own, and padded: the queries to the longest row, the keys to a multiple of eight. What is padding gets no
weight. PyTorch's fused kernel, which works through one row and head at a time in blocks much longer than such rows,
takes two to three times as long.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sentence_transformers.inputs.packing import PackedLayout

SHORT_ROW = 64
"""Tokens up to which a row counts as short."""

MOST_PADDING = 0.1
"""Share of padding, beyond that to a row's own number of keys, up to which rows are computed together."""

KEYS_STEP = 8
"""Numbers of keys are multiples of this."""


@dataclass(frozen=True)
class Stretch:
    """Neighbouring rows that are computed together.

    `rows` of `queries` and `keys` each for one head stand side by side; `mask` (rows, 1, keys) is added to the scores,
    None where nothing is padding. They begin at `first_query` and `first_key` of those of all stretches.
    """

    rows: int
    queries: int
    keys: int
    mask: Tensor | None
    first_query: int
    first_key: int


@dataclass(frozen=True)
class Plan:
    """Where everything goes, for one layout: numbers of single heads' vectors, and the stretches.

    `queries` and `keys` say which vectors of the input stand side by side, `back` where those of the output come
    from, one for each token and head of short rows. `tokens` are the short rows' tokens; None for all there are.
    """

    queries: Tensor
    keys: Tensor
    back: Tensor
    tokens: Tensor | None
    stretches: tuple[Stretch, ...]


def takes(query: Tensor, layout: PackedLayout) -> bool:
    """Whether there are short rows to compute in this way."""
    return (
        query.device.type == "cpu"
        and query.dtype == torch.float32
        and any(0 < length <= SHORT_ROW for length in {length for _, _, length in layout.groups})
    )


def attend_short_rows(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: PackedLayout,
    out: Tensor,
    *,
    scale: float | None,
    bias: Tensor | None = None,
    is_causal: bool = False,
) -> None:
    """Attention within the short rows of a layout; the others' places in `out` stay as they are.

    Args:
        query: (1, H, T, D).
        key: As the queries.
        value: As the queries.
        layout: Where the rows lie.
        out: (T, H, D).
        scale: Factor on the scores; None for 1 / sqrt(D).
        bias: Added to the scores, (1, H, L, L) with L at least the longest short row; its corner serves shorter rows.
        is_causal: Whether a token sees only itself and those before it.
    """
    heads, size = query.shape[1], query.shape[3]
    asking, asked, given = (table_of(states) for states in (query, key, value))
    steps = (asking[1], asked[1], given[1])
    if len(set(steps)) > 1:
        asking, asked, given = ((rows_of(states), heads) for states in (query, key, value))
    plan = plan_of(layout, heads, asking[1])
    queries = asking[0].index_select(0, plan.queries)
    keys, values = (table.index_select(0, plan.keys) for table, _ in (asked, given))
    seen = torch.empty_like(queries)
    factor = size**-0.5 if scale is None else scale
    for part, added in zip(plan.stretches, added_to_each(plan, layout, heads, bias, is_causal)):
        stop, stop_key = part.first_query + part.rows * part.queries, part.first_key + part.rows * part.keys
        attend(
            queries[part.first_query : stop].view(part.rows, part.queries, size),
            keys[part.first_key : stop_key].view(part.rows, part.keys, size),
            values[part.first_key : stop_key].view(part.rows, part.keys, size),
            added,
            scale=factor,
            out=seen[part.first_query : stop].view(part.rows, part.queries, size),
        )
    if plan.tokens is None:
        torch.index_select(seen, 0, plan.back, out=out.view(-1, size)[: len(plan.back)])
    else:
        out.index_copy_(0, plan.tokens, seen.index_select(0, plan.back).view(-1, heads, size))


def attend_equal_rows(query: Tensor, key: Tensor, value: Tensor, *, scale: float | None = None) -> Tensor:
    """Attention within short rows of one length; (B, H, T, D) each, and the result."""
    length, size = query.shape[2:]
    asking, asked, given = (states.reshape(-1, length, size) for states in (query, key, value))
    missing, mask = keys_of(length) - length, None
    if missing:
        asked, given = (F.pad(states, (0, 0, 0, missing)) for states in (asked, given))
        mask = F.pad(query.new_zeros(1, 1, length), (0, missing), value=-torch.inf)
    out = torch.empty_like(asking)
    attend(asking, asked, given, mask, scale=size**-0.5 if scale is None else scale, out=out)
    return out.view(query.shape)


def attend(
    query: Tensor, key: Tensor, value: Tensor, added: Tensor | None, *, scale: float, out: Tensor
) -> None:
    """Attention as its formula has it, (B, T, D) each, with what is added to the scores of `query` and `key`."""
    if added is None:
        scores = torch.baddbmm(query.new_empty(1, 1, 1), query, key.transpose(1, 2), beta=0, alpha=scale)
    else:
        scores = torch.baddbmm(added, query, key.transpose(1, 2), alpha=scale)
    torch.bmm(scores.softmax(-1), value, out=out)


def added_to_each(
    plan: Plan, layout: PackedLayout, heads: int, bias: Tensor | None, is_causal: bool
) -> list[Tensor | None]:
    """What is added to the scores of each stretch. With more than masks it is kept with the layout, for all layers."""
    if bias is None and not is_causal:
        return [part.mask for part in plan.stretches]
    name = ("added to scores", heads, is_causal)
    of, kept = layout.derived.get(name, (None, None))
    if kept is None or of is not bias:
        kept = [added_to_scores(part, heads, bias, is_causal) for part in plan.stretches]
        layout.derived[name] = (bias, kept)
    return kept


def added_to_scores(part: Stretch, heads: int, bias: Tensor | None, is_causal: bool) -> Tensor | None:
    """What is added to the scores of a stretch, (its rows or 1, its queries or 1, its keys)."""
    if is_causal:
        # Padding comes after all that a token of the row may see.
        seen = torch.ones(part.queries, part.keys, dtype=torch.bool).tril()
        mask: Tensor | None = torch.zeros(1, part.queries, part.keys).masked_fill_(~seen, -torch.inf)
    else:
        mask = part.mask
    if bias is None:
        return mask
    length = min(part.keys, bias.shape[-1])
    corner = bias.new_zeros(heads, part.queries, part.keys)
    corner[:, :, :length] = bias[0, :, : part.queries, :length]
    if mask is None:
        return corner.repeat(part.rows // heads, 1, 1)
    if len(mask) == 1:
        return (corner + mask).repeat(part.rows // heads, 1, 1)
    return (corner[None] + mask.view(-1, heads, *mask.shape[1:])).flatten(0, 1)


def table_of(states: Tensor) -> tuple[Tensor, int]:
    """Heads' vectors (1, H, T, D) as rows of a table, with the number of its rows from one token to the next."""
    heads, tokens, size = states.shape[1:]
    between_heads, between_tokens, within = states.stride()[1:]
    if (
        within == 1
        and between_heads == size
        and between_tokens % size == 0
        and between_tokens >= heads * size
    ):
        step = between_tokens // size
        return states.as_strided(((tokens - 1) * step + heads, size), (size, 1)), step
    return rows_of(states), heads


def rows_of(states: Tensor) -> Tensor:
    """Heads' vectors (1, H, T, D) one after the other, token by token, (T × H, D)."""
    return states[0].transpose(0, 1).reshape(-1, states.shape[3])


# -- planning ---------------------------------------------------------------------------------------------


def plan_of(layout: PackedLayout, heads: int, step: int) -> Plan:
    """The plan for a layout, kept with it; those of single rows are kept for all."""
    if len(layout.lengths) == 1:
        return plan_of_row(layout.lengths[0], heads, step)
    name = ("short rows", heads, step)
    plan = layout.derived.get(name)
    if plan is None:
        plan = layout.derived[name] = made_plan(layout.lengths, heads, step)
    return plan


@lru_cache(maxsize=4 * SHORT_ROW)
def plan_of_row(length: int, heads: int, step: int) -> Plan:
    return made_plan((length,), heads, step)


def made_plan(lengths: tuple[int, ...], heads: int, step: int) -> Plan:
    queries, keys, back, tokens, stretches = [], [], [], [], []
    first_query = first_key = 0
    for first, rows in stretches_of(lengths):
        length = np.array(rows)
        count, longest, total = len(rows), max(rows), sum(rows)
        width = keys_of(longest)
        start = first + np.cumsum(length) - length
        # (rows, heads, places); what is padding repeats the row's last token, which is as good as any number.
        places = [
            (
                np.minimum(start[:, None] + np.arange(stop), (start + length - 1)[:, None])[:, None] * step
                + np.arange(heads)[:, None]
            ).ravel()
            for stop in (longest, width)
        ]
        queries.append(places[0])
        keys.append(places[1])
        row = np.repeat(np.arange(count), length)
        token = np.arange(first, first + total)
        place = first_query + row * heads * longest + token - np.repeat(start, length)
        back.append((place[:, None] + np.arange(heads) * longest).ravel())
        tokens.append(token)
        mask = None
        if min(rows) < width:
            unseen = np.where(np.arange(width) < length[:, None], 0.0, -np.inf).astype(np.float32)
            mask = torch.from_numpy(unseen).repeat_interleave(heads, dim=0)[:, None]
        stretches.append(Stretch(count * heads, longest, width, mask, first_query, first_key))
        first_query, first_key = first_query + len(places[0]), first_key + len(places[1])
    everything = sum(map(len, tokens)) == sum(lengths)
    return Plan(
        queries=joined(queries, np.int32),
        keys=joined(keys, np.int32),
        back=joined(back, np.int32),
        tokens=None if everything else joined(tokens, np.int64),
        stretches=tuple(stretches),
    )


def joined(parts: list[np.ndarray], kind: type) -> Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(kind))


def stretches_of(lengths: tuple[int, ...]) -> Iterator[tuple[int, list[int]]]:
    """Neighbouring short rows to compute together: the first token, and their lengths."""
    rows: list[int] = []
    first = start = width = alone = 0
    for length in lengths:
        keys = keys_of(length)
        if rows and length:
            size = (len(rows) + 1) * max(width, keys)
            if length > SHORT_ROW or size - alone - keys > MOST_PADDING * size:
                yield first, rows
                rows = []
        if 0 < length <= SHORT_ROW:
            if not rows:
                first, width, alone = start, 0, 0
            width, alone = max(width, keys), alone + keys
            rows.append(length)
        start += length
    if rows:
        yield first, rows


def keys_of(length: int) -> int:
    """So many keys stand for a row of this length."""
    return max(register_width(), -(-length // KEYS_STEP) * KEYS_STEP)


@cache
def register_width() -> int:
    """Numbers of float32 in a register, as PyTorch uses them."""
    return 16 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 8
