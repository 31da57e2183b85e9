"""Gradient caching: batches of any size in the memory of a small one.

After Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"
(https://arxiv.org/abs/2101.06983). A batch is embedded a few rows at a time without a graph, the loss is
computed on the embeddings alone, and its gradients with respect to them are kept; when the backward pass
comes, the rows are embedded again, with the same random numbers, and given those gradients. Works for
every `EmbeddingLoss`; value and gradients are those of the loss without caching.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from sentence_transformers.losses.base import EmbeddingLoss, LossPart, added_up
from sentence_transformers.losses.features import Features, Piece, cut
from sentence_transformers.tensors.embeddings import Embeddings
from sentence_transformers.tensors.randomness import RandomState

SCORES_AT_ONCE = 1 << 24
"""Scores (rows × rows of all columns) that a loss which can be split computes at once: 64 MiB."""


def cached_parts(
    loss: EmbeddingLoss, columns: Sequence[Features], labels: Tensor | None, context: Any
) -> dict[str, Tensor]:
    """The parts of a loss, computed with cached gradients.

    Args:
        loss: `mini_batch_size` and `mini_batch_num_tokens` say how much is embedded at once.
        columns: A features dictionary for each column.
        labels: Of each row.
        context: What the loss computed for this batch beforehand.

    Returns:
        Scalars by name. Calling `backward` on a sum of them embeds the rows again.
    """
    columns = loss.embedded_columns(columns)
    models = [loss.encoder(number) for number in range(len(columns))]
    with_gradient = torch.is_grad_enabled()
    pieces = list(cut(models, columns, max_rows=loss.mini_batch_size, max_tokens=loss.mini_batch_num_tokens))
    results: list[Embeddings] = []
    states: list[RandomState] = []
    with torch.no_grad():
        for piece in tqdm(pieces, desc="Embed mini-batches", disable=not loss.show_progress_bar, leave=False):
            states.append(RandomState(*parameters_like(piece)))
            results.append(loss.run(piece.model, piece.features, context))
    embeddings = put_together(pieces, results, len(columns))
    if not with_gradient:
        return loss.everything(embeddings, labels, context)

    leaves = [
        column.with_tensors([tensor.detach().requires_grad_() for tensor in column.tensors])
        for column in embeddings
    ]
    leaf_tensors = [tensor for column in leaves for tensor in column.tensors]
    own = parameters_outside_models(loss, models)
    values, gradients = values_and_gradients(loss, leaves, labels, context, [*leaf_tensors, *own])
    names = list(values)
    surroundings = as_now(leaf_tensors[0].device)

    def pass_on(weights: Tensor) -> list[Tensor]:
        """Give the rows their gradients, for parts weighted so, and return those of the loss's own parameters."""
        weighted = [
            torch.stack([weight * gradient for weight, gradient in zip(weights, of_parts)]).sum(dim=0)
            for of_parts in zip(*(gradients[name] for name in names))
        ]
        with surroundings(), torch.enable_grad():
            embed_again(loss, pieces, states, context, leaves, weighted[: len(leaf_tensors)])
        return weighted[len(leaf_tensors) :]

    anchor = torch.zeros((), device=leaf_tensors[0].device, requires_grad=True)
    stacked = torch.stack([values[name] for name in names])
    return dict(zip(names, CachedGradients.apply(pass_on, stacked, anchor, *own).unbind()))


class CachedGradients(torch.autograd.Function):
    """Hands on values that are known, and when their gradients come, does what is left to be done."""

    @staticmethod
    def forward(
        ctx: Any, pass_on: Callable[[Tensor], list[Tensor]], values: Tensor, anchor: Tensor, *own: Tensor
    ) -> Tensor:
        # The anchor makes autograd call `backward` also where the loss has no parameters of its own.
        ctx.pass_on = pass_on
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return None, None, None, *ctx.pass_on(gradients[0])


def put_together(pieces: list[Piece], results: list[Embeddings], column_count: int) -> list[Embeddings]:
    """The embeddings of each column, its rows in order, from those of the pieces."""
    found: list[list[Embeddings]] = [[] for _ in range(column_count)]
    rows_of: list[list[Tensor]] = [[] for _ in range(column_count)]
    for piece, result in zip(pieces, results):
        start = 0
        for number, rows in piece.owners:
            found[number].append(result[start : start + len(rows)])
            rows_of[number].append(rows)
            start += len(rows)
    return [Embeddings.cat(parts)[torch.cat(rows).argsort()] for parts, rows in zip(found, rows_of)]


def values_and_gradients(
    loss: EmbeddingLoss,
    leaves: list[Embeddings],
    labels: Tensor | None,
    context: Any,
    inputs: list[Tensor],
) -> tuple[dict[str, Tensor], dict[str, list[Tensor]]]:
    """The parts of the loss by name, and the gradient of each with respect to the inputs.

    A loss that can be split is computed for some rows at a time, so that its scores stay small.
    """
    with torch.enable_grad():
        everyone, own = loss.gathered(leaves)
    values: dict[str, Tensor] = {}
    gradients: dict[str, list[Tensor]] = {}
    for rows, share in stretches(loss, everyone, own):
        with torch.enable_grad():
            parts = added_up(
                LossPart(part.name, part.value * share)
                for part in loss.parts(everyone, labels, rows=rows, context=context)
            )
        for name, value in parts.items():
            # Kept between stretches: what leads from the leaves to the gathered rows serves all of them.
            grads = (
                torch.autograd.grad(value, inputs, retain_graph=True, allow_unused=True)
                if value.requires_grad
                else [None] * len(inputs)
            )
            known = gradients.setdefault(name, [torch.zeros_like(tensor) for tensor in inputs])
            for total, gradient in zip(known, grads):
                if gradient is not None:
                    total += gradient
            values[name] = values[name] + value.detach() if name in values else value.detach()
    return values, gradients


def stretches(
    loss: EmbeddingLoss, everyone: list[Embeddings], own: slice | None
) -> list[tuple[slice | None, float]]:
    """Which rows to compute at once, and the share of each stretch in the mean; None for all rows."""
    if not loss.splits_rows:
        return [(own, 1.0)]
    first, last = (own.start, own.stop) if own is not None else (0, len(everyone[0]))
    step = max(1, SCORES_AT_ONCE // max(1, sum(len(column) for column in everyone)))
    if last - first <= step:
        return [(own, 1.0)]
    starts = range(first, last, step)
    return [
        (slice(start, min(last, start + step)), (min(last, start + step) - start) / (last - first))
        for start in starts
    ]


def embed_again(
    loss: EmbeddingLoss,
    pieces: list[Piece],
    states: list[RandomState],
    context: Any,
    leaves: list[Embeddings],
    gradients: list[Tensor],
) -> None:
    """Embed every piece with a graph, and hand its rows their gradients."""
    flat = iter(gradients)
    by_column = [column.with_tensors([next(flat) for _ in column.tensors]) for column in leaves]
    shown = tqdm(pieces, desc="Backward mini-batches", disable=not loss.show_progress_bar, leave=False)
    for number, (piece, state) in enumerate(zip(shown, states)):
        wanted = Embeddings.cat([by_column[column][rows] for column, rows in piece.owners])
        with without_synchronising(piece.model, unless=number == len(pieces) - 1):
            with state:
                result = loss.run(piece.model, piece.features, context)
            # Padded to the longest row of its piece, which may be shorter than the longest of all.
            targets = [
                gradient[:, : tensor.shape[1]] if result.mask is not None else gradient
                for tensor, gradient in zip(result.tensors, wanted.tensors)
            ]
            alive = [pair for pair in zip(result.tensors, targets) if pair[0].requires_grad]
            if alive:
                torch.autograd.backward([pair[0] for pair in alive], [pair[1].to(pair[0]) for pair in alive])


def without_synchronising(model: nn.Module, unless: bool) -> AbstractContextManager[Any]:
    """Keep distributed training from averaging gradients until the last piece has added its own."""
    no_sync = getattr(model, "no_sync", None)
    return nullcontext() if unless or no_sync is None else no_sync()


def parameters_like(piece: Piece) -> list[Tensor]:
    """One parameter of the model, which says on what device random numbers are drawn."""
    return [next(iter(piece.model.parameters()), torch.empty(0))]


def parameters_outside_models(loss: nn.Module, models: Sequence[nn.Module]) -> list[Tensor]:
    """The loss's own trained parameters, such as those of a classifier."""
    inside = {id(parameter) for model in models for parameter in model.parameters()}
    return [
        parameter
        for parameter in loss.parameters()
        if parameter.requires_grad and id(parameter) not in inside
    ]


def as_now(device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    """A way back to the mixed precision of this moment; backward passes run outside of it."""
    kinds = {device.type, "cpu"}
    settings = [(kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in kinds]

    @contextmanager
    def again() -> Any:
        with ExitStack() as stack:
            for kind, enabled, dtype in settings:
                stack.enter_context(torch.autocast(kind, dtype=dtype, enabled=enabled))
            yield

    return again
