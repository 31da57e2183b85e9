"""Collect tensors from all processes of a distributed run, with gradient or without.

Processes may bring different numbers of rows. Outside a distributed run, everything is as with one
process. Nothing here starts or ends a run.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

import torch
import torch.distributed
from torch import Tensor
from torch.nn import functional

logger = logging.getLogger(__name__)


def is_dist_initialized() -> bool:
    """Whether this process is part of a distributed run."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def get_rank() -> int:
    """Number of this process, from 0; 0 outside a distributed run."""
    return torch.distributed.get_rank() if is_dist_initialized() else 0


def get_world_size() -> int:
    """How many processes there are; 1 outside a distributed run."""
    return torch.distributed.get_world_size() if is_dist_initialized() else 1


def all_gather(tensor: torch.Tensor, with_grad: bool = False) -> torch.Tensor:
    """Join a tensor of every process along the first dimension, in the order of their ranks.

    Every process must call this, with tensors that differ in their first dimension at most.

    Args:
        tensor: This process's rows, (B, ...).
        with_grad: Whether gradients flow back to the processes the rows came from. Otherwise they flow to
            this process's own rows only.

    Returns:
        The rows of all processes, (sum of B, ...). Outside a distributed run the tensor itself.
    """
    if not is_dist_initialized():
        warn_about_single_process()
        return tensor
    if with_grad:
        return all_gather_with_grad(tensor)
    gathered, sizes = gather_rows(tensor.detach())
    first = sum(sizes[: get_rank()])
    return torch.cat([gathered[:first], tensor, gathered[first + len(tensor) :]])


def all_gather_with_grad(tensor: torch.Tensor) -> torch.Tensor:
    """`all_gather` through which gradients flow back to every process, summed over the processes."""
    if not is_dist_initialized():
        warn_about_single_process()
        return tensor
    return GatherWithGrad.apply(tensor)


def all_gather_padded(
    tensor: torch.Tensor, mask: torch.Tensor, with_grad: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """`all_gather` for token embeddings that each process has padded to another length.

    Args:
        tensor: This process's token embeddings, (B, T, D).
        mask: Its mask, (B, T).
        with_grad: As in `all_gather`.

    Returns:
        Token embeddings and mask of all processes, padded with zeros to the longest T of all.
    """
    if not is_dist_initialized():
        warn_about_single_process()
        return tensor, mask
    longest = torch.tensor(tensor.shape[1], device=tensor.device)
    torch.distributed.all_reduce(longest, op=torch.distributed.ReduceOp.MAX)
    missing = int(longest) - tensor.shape[1]
    tensor = functional.pad(tensor, (0, 0, 0, missing))
    mask = functional.pad(mask, (0, missing))
    return all_gather(tensor, with_grad=with_grad), all_gather(mask)


class GatherWithGrad(torch.autograd.Function):
    """Gather rows forward; backward, add up what all processes say about this process's rows."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        gathered, sizes = gather_rows(tensor)
        ctx.first, ctx.rows = sum(sizes[: get_rank()]), len(tensor)
        return gathered

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        torch.distributed.all_reduce(total)
        return total[ctx.first : ctx.first + ctx.rows]


def gather_rows(tensor: Tensor) -> tuple[Tensor, list[int]]:
    """The rows of all processes without gradient, (sum of B, ...), and how many each process brought."""
    own = torch.tensor([len(tensor)], device=tensor.device)
    counts = [torch.zeros_like(own) for _ in range(get_world_size())]
    torch.distributed.all_gather(counts, own)
    sizes = [int(count) for count in torch.cat(counts).tolist()]
    # Collectives move tensors of one size only, and not every backend moves booleans.
    as_bytes = tensor.to(torch.uint8) if tensor.dtype == torch.bool else tensor
    padded = as_bytes.new_zeros((max(sizes), *tensor.shape[1:]))
    padded[: len(tensor)] = as_bytes
    received = [torch.empty_like(padded) for _ in sizes]
    torch.distributed.all_gather(received, padded)
    rows = torch.cat([part[:size] for part, size in zip(received, sizes, strict=True)])
    return rows.to(tensor.dtype), sizes


@functools.cache
def warn_about_single_process() -> None:
    logger.warning(
        "Embeddings are to be gathered from all processes, but torch.distributed is not initialised, so there "
        "is only this process. With a single process, gathering can be switched off. This is said once."
    )
