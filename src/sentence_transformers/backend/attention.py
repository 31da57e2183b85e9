"""Attention over packed rows.

An attention implementation for transformers under which rows that lie one after another do not see each
other, so that nothing is computed for padding. It is registered under its own name. While no packed batch
is being computed it does exactly what "sdpa" does, so a model that carries it behaves as usual.

On CUDA in half precision the rows go through one variable-length kernel; on the CPU short rows have a way of their
own (`short_rows.py`). Everywhere else neighbouring rows of equal length form an ordinary batch that needs no mask; the
engine sorts rows by length, so there are few such groups.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sentence_transformers.backend import fixed_shapes, short_rows
from sentence_transformers.backend.near_attention import attention_within_window
from sentence_transformers.backend.short_rows import SHORT_ROW
from sentence_transformers.inputs.packing import PackedLayout

NAME = "sentence_transformers_packed"
"""Name of the attention implementation in transformers' registry."""

MOST_PADDING = 0.25
"""Share of padding up to which rows of different lengths are attended together in training."""

_current = threading.local()
_registration = threading.Lock()


@contextmanager
def packed(layout: PackedLayout) -> Iterator[None]:
    """Compute attention in this thread over packed rows while the block runs."""
    previous = getattr(_current, "layout", None)
    _current.layout = layout
    try:
        yield
    finally:
        _current.layout = previous


@lru_cache(maxsize=1)
def register() -> None:
    """Make the implementation known to transformers."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface

    sdpa, sdpa_mask = ALL_ATTENTION_FUNCTIONS["sdpa"], ALL_MASK_ATTENTION_FUNCTIONS["sdpa"]

    def attention(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        layout = getattr(_current, "layout", None)
        if layout is None:
            return sdpa(module, query, key, value, attention_mask, **kwargs)
        return packed_attention(
            query,
            key,
            value,
            layout,
            scale=kwargs.get("scaling"),
            dropout=kwargs.get("dropout") or 0.0,
            window=kwargs.get("sliding_window"),
            is_causal=bool(
                getattr(module, "is_causal", False)
                if kwargs.get("is_causal") is None
                else kwargs["is_causal"]
            ),
        ), None

    def mask(*args: Any, **kwargs: Any) -> Tensor | None:
        return sdpa_mask(*args, **kwargs) if getattr(_current, "layout", None) is None else None

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, mask)


def adopt(model: nn.Module) -> None:
    """Let a transformers model that runs with "sdpa" compute packed rows too."""
    register()
    with _registration:
        if model.config._attn_implementation == "sdpa":
            model.set_attn_implementation(NAME)


def packed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: PackedLayout,
    *,
    scale: float | None = None,
    window: int | None = None,
    is_causal: bool = False,
    bias: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Scaled dot-product attention in which every token sees the tokens of its own row only.

    Args:
        query: Packed queries, (1, H, T, D).
        key: Packed keys, (1, H or fewer, T, D); fewer heads are shared by groups of queries.
        value: Packed values, as the keys.
        layout: Where the rows lie; what stands behind the last of them gets zeros.
        scale: Factor on the scores; None for 1 / sqrt(D).
        window: A token sees those less than this many positions away; None for the whole row.
        is_causal: Whether a token sees only itself and those before it.
        bias: Added to the scores, (1, H, L, L) with L at least the longest row; its corner serves shorter rows.
        dropout: Probability with which a token is not seen, as training has it.

    Returns:
        (1, T, H, D).
    """
    kernel = varlen_kernel() if bias is None and dropout == 0 and kernel_takes(query) else None
    if kernel is not None:
        return _by_kernel(kernel, query, key, value, layout, scale, window, is_causal)
    heads, total, size = query.shape[1:]
    if key.shape[1] != heads:
        share = heads // key.shape[1]
        key, value = key.repeat_interleave(share, dim=1), value.repeat_interleave(share, dim=1)
    learns = any(part is not None and part.requires_grad for part in (query, key, value, bias))
    if (torch.is_grad_enabled() and learns) or dropout > 0:
        return _with_gradient(query, key, value, layout, scale, window, is_causal, bias, dropout)
    output = query.new_empty(total, heads, size)
    short_rows_apart = (
        not fixed_shapes.wanted()
        and (window is None or window >= SHORT_ROW)
        and short_rows.takes(query, layout)
    )
    if short_rows_apart:
        short_rows.attend_short_rows(
            query, key, value, layout, output, scale=scale, bias=bias, is_causal=is_causal
        )
    for start, count, length in layout.groups:
        stop = start + count * length

        def rows(states: Tensor, start: int = start, stop: int = stop, count: int = count) -> Tensor:
            return states[0, :, start:stop].unflatten(1, (count, -1)).transpose(0, 1)  # (rows, H, length, D)

        if length == 0 or (short_rows_apart and length <= SHORT_ROW):
            continue
        mask = None if bias is None else bias[:, :, :length, :length]
        attend: Callable[..., None]
        if window is not None and length > window and query.device.type == "cpu":
            attend = partial(attention_within_window, window=window, is_causal=is_causal, scale=scale)
            kind = ("attention", window, is_causal, scale)
        else:
            if window is not None and length > window:
                mask = window_mask(length, window, is_causal, query.device)
            attend = partial(attention_of_equal_rows, mask=mask, is_causal=is_causal, scale=scale)
            kind = ("attention", mask is None, is_causal, scale)
        states = (rows(query), rows(key), rows(value))
        seen = output[start:stop].view(count, length, heads, size)
        if fixed_shapes.wanted():
            alike = [part.contiguous() for part in states]
            fixed_shapes.by_blocks(attend, *alike, out=seen, key=kind, least=1)
        else:
            attend(*states, seen)
    if layout.total < total:
        output[layout.total :] = 0
    return output[None]


def attention_of_equal_rows(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    *,
    mask: Tensor | None,
    is_causal: bool,
    scale: float | None,
) -> None:
    """Attention within rows of one length, (B, H, T, D) each, into `out` (B, T, H, D)."""
    length = query.shape[2]
    is_short = length <= SHORT_ROW and query.device.type == "cpu" and query.dtype == torch.float32
    if is_short and mask is None and not is_causal:
        seen = short_rows.attend_equal_rows(query, key, value, scale=scale)
    else:
        seen = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            is_causal=is_causal and mask is None and length > 1,
            scale=scale,
        )
    out.copy_(seen.transpose(1, 2))


def _with_gradient(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: PackedLayout,
    scale: float | None,
    window: int | None,
    is_causal: bool,
    bias: Tensor | None,
    dropout: float,
) -> Tensor:
    """The same for training: few large steps, since autograd keeps and repeats each of them.

    Rows of like length form a batch that is padded to its longest; only attention, a small part of the work,
    is computed for that padding.
    """
    size = query.shape[-1]
    flat = [states[0].transpose(0, 1) for states in (query, key, value)]  # (T, H, D)
    outputs = []
    for first, lengths in layout.stretches(MOST_PADDING):
        count, longest, tokens = len(lengths), max(lengths), sum(lengths)
        if tokens == 0:
            continue
        # A bias ends with the longest row.
        if longest <= SHORT_ROW and query.device.type == "cpu" and bias is None:
            longest = short_rows.keys_of(longest)
        seen = None
        if min(lengths) == longest:
            batch = [states[first : first + tokens].unflatten(0, (count, longest)) for states in flat]
            places = None
        else:
            real = torch.arange(longest)[None, :] < torch.tensor(lengths)[:, None]  # (rows, longest)
            places = real.flatten().nonzero().flatten().to(query.device)
            batch = [
                Spread.apply(states[first : first + tokens], places, count * longest).unflatten(
                    0, (count, -1)
                )
                for states in flat
            ]
            seen = real.to(query.device)[:, None, None, :]
        if window is not None and longest > window:
            near = window_mask(longest, window, is_causal, query.device)
            seen = near if seen is None else seen & near
        elif is_causal:
            earlier = torch.ones(longest, longest, dtype=torch.bool, device=query.device).tril()
            seen = earlier if seen is None else seen & earlier
        mask: Tensor | None = seen
        if seen is not None:
            # Added to the scores. Not minus infinity: a row of padding that sees nothing would become NaN.
            mask = torch.zeros((), dtype=query.dtype, device=query.device).masked_fill(
                ~seen, torch.finfo(query.dtype).min / 2
            )
        if bias is not None:
            corner = bias[:, :, :longest, :longest]
            mask = corner if mask is None else mask + corner
        rows_of = [part.transpose(1, 2) for part in batch]  # (rows, H, longest, D)
        if longest <= SHORT_ROW and query.device.type == "cpu":
            factor = size**-0.5 if scale is None else scale
            attended = attention_written_out(
                rows_of[0], rows_of[1], rows_of[2], mask, scale=factor, dropout=dropout
            )
        else:
            attended = F.scaled_dot_product_attention(
                *rows_of, attn_mask=mask, dropout_p=dropout, scale=scale
            )
        rows = attended.transpose(1, 2).flatten(0, 1)  # (rows × longest, H, D)
        outputs.append(rows if places is None else Gathered.apply(rows, places))
    return (outputs[0] if len(outputs) == 1 else torch.cat(outputs))[None]


def attention_written_out(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, scale: float, dropout: float
) -> Tensor:
    """Attention as its formula has it; (B, H, T, D) each, and the result."""
    scores = torch.matmul(query * scale, key.transpose(-1, -2))
    if mask is not None:
        scores = scores + mask
    return torch.matmul(F.dropout(scores.softmax(dim=-1), dropout), value)


class Spread(torch.autograd.Function):
    """Put rows to their places among zeros; what indexing does, with gradients that need no addition."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, places: Tensor, total: int) -> Tensor:
        ctx.save_for_backward(places)
        return rows.new_zeros(total, *rows.shape[1:]).index_copy_(0, places, rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0].index_select(0, ctx.saved_tensors[0]), None, None


class Gathered(torch.autograd.Function):
    """Take rows from places that are all different."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.total = len(rows)
        return rows.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        gradient = gradients[0]
        zeros = gradient.new_zeros(ctx.total, *gradient.shape[1:])
        return zeros.index_copy_(0, ctx.saved_tensors[0], gradient), None


def window_mask(length: int, window: int, is_causal: bool, device: torch.device) -> Tensor:
    """Which positions see which, (length, length), true where they do."""
    position = torch.arange(length, device=device)
    distance = position[:, None] - position[None, :]
    return (distance >= 0) & (distance < window) if is_causal else distance.abs() < window


def kernel_takes(query: Tensor) -> bool:
    """Whether the variable-length kernel can compute these queries: flash attention, on Ampere or later."""
    return (
        query.is_cuda
        and query.dtype in (torch.float16, torch.bfloat16)
        and query.shape[-1] % 8 == 0
        and query.shape[-1] <= 256
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
    )


@lru_cache(maxsize=1)
def varlen_kernel() -> Any:
    """PyTorch's variable-length attention where this release has it with windows and shared heads, else None."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    known = inspect.signature(varlen_attn).parameters
    return varlen_attn if {"scale", "window_size", "enable_gqa"} <= known.keys() else None


def _by_kernel(
    kernel: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: PackedLayout,
    scale: float | None,
    window: int | None,
    is_causal: bool,
) -> Tensor:
    reach = -1 if window is None else window - 1
    starts = layout.cumulative(query.device)
    flat = [states[0].transpose(0, 1).contiguous() for states in (query, key, value)]  # (T, H, D)
    output = kernel(
        *flat,
        starts,
        starts,
        layout.longest,
        layout.longest,
        scale=scale,
        window_size=(reach, 0 if is_causal else reach),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return output[None]
