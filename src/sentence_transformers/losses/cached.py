"""Gradient caching: batches of any size in the memory of a small one.

After Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"
(https://arxiv.org/abs/2101.06983). A batch is embedded a few rows at a time without a graph, the loss is
computed on the embeddings alone, and its gradients with respect to them are kept; when the backward pass
comes, the rows are embedded again, with the same random numbers, and given those gradients. Works for
every `EmbeddingLoss`; value and gradients are those of the loss without caching.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from sentence_transformers.losses.base import EmbeddingLoss, LossPart, added_up, total
from sentence_transformers.losses.features import Features, Piece, check_limits, cut
from sentence_transformers.tensors.embeddings import Embeddings
from sentence_transformers.tensors.randomness import RandomState

SCORES_AT_ONCE = 1 << 24
"""Scores (rows × rows of all columns) that a loss which can be split computes at once: 64 MiB."""


class CachedLossMixin:
    """A loss that caches gradients unless told otherwise. Any loss does so once `mini_batch_size` is set."""

    mini_batch_size: int | None
    mini_batch_num_tokens: int | None
    show_progress_bar: bool

    def cache_gradients(
        self, mini_batch_size: int, mini_batch_num_tokens: int | None = None, show_progress_bar: bool = False
    ) -> None:
        """Say how much is embedded at once; it decides about memory and speed, not about the result.

        Args:
            mini_batch_size: Rows.
            mini_batch_num_tokens: Tokens, padding included, instead of a number of rows.
            show_progress_bar: Whether to show how far embedding is.

        Raises:
            ValueError: If a number is less than 1.
        """
        check_limits(mini_batch_size, mini_batch_num_tokens)
        self.mini_batch_size = mini_batch_size
        self.mini_batch_num_tokens = mini_batch_num_tokens
        self.show_progress_bar = show_progress_bar


def cached_parts(
    loss: EmbeddingLoss, columns: Sequence[Features], labels: Tensor | None, context: Any
) -> tuple[dict[str, Tensor], Tensor | dict[str, Tensor]]:
    """The parts of a loss, computed with cached gradients.

    Args:
        loss: `mini_batch_size` and `mini_batch_num_tokens` say how much is embedded at once.
        columns: A features dictionary for each column.
        labels: Of each row.
        context: What the loss computed for this batch beforehand.

    Returns:
        The parts by name, without a graph; and what `forward` returns, a scalar or scalars by name. Calling
        `backward` on that embeds the rows again.
    """
    columns = loss.embedded_columns(columns)
    models = [loss.encoder(number) for number in range(len(columns))]
    pieces = list(cut(models, columns, max_rows=loss.mini_batch_size, max_tokens=loss.mini_batch_num_tokens))
    embeddings, states = embed_first(loss, pieces, context, len(columns))
    if not torch.is_grad_enabled():
        values = values_only(loss, embeddings, labels, context)
        return values, values if loss.returns_parts else total(values)

    values, kept = values_and_gradients(loss, embeddings, labels, context)
    used = {parameter: None for gradients in kept for parameter in gradients.of_parameters}
    inside = {parameter for model in models for parameter in model.parameters()}
    outside = [parameter for parameter in used if parameter not in inside]
    device = embeddings[0].values.device
    surroundings = as_now(device)

    def pass_on(weights: Sequence[Tensor]) -> list[Tensor]:
        """Give rows and parameters their gradients; those of parameters outside the models are returned."""
        gradients = {
            parameter: weighted_sum(
                (weight, each.of_parameters[parameter])
                for weight, each in zip(weights, kept)
                if parameter in each.of_parameters
            ).to(parameter)
            for parameter in used
        }
        with surroundings(), torch.enable_grad():
            embed_again(loss, pieces, states, context, list(zip(weights, kept)), gradients)
        return [gradients[parameter] for parameter in outside]

    results = values if loss.returns_parts else {"": total(values)}
    anchor = torch.zeros((), device=device, requires_grad=True)
    known = CachedGradients.apply(pass_on, torch.stack(list(results.values())), anchor, *outside).unbind()
    return values, dict(zip(results, known)) if loss.returns_parts else known[0]


class CachedGradients(torch.autograd.Function):
    """Hands on values that are known, and when their gradients come, does what is left to be done."""

    @staticmethod
    def forward(
        ctx: Any,
        pass_on: Callable[[Sequence[Tensor]], list[Tensor]],
        values: Tensor,
        anchor: Tensor,
        *outside: Tensor,
    ) -> Tensor:
        # The anchor makes autograd call `backward` also where the loss has no parameters of its own.
        ctx.pass_on = pass_on
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return None, None, None, *ctx.pass_on(gradients[0].unbind())


def embed_first(
    loss: EmbeddingLoss, pieces: list[Piece], context: Any, column_count: int
) -> tuple[list[Embeddings], list[RandomState]]:
    """Embeddings of each column, without a graph, and the random state that each piece began with."""
    results: list[Embeddings] = []
    states: list[RandomState] = []
    models = {id(piece.model): piece.model for piece in pieces}
    one_on_each_device = {
        key: {parameter.device: parameter for parameter in model.parameters()}.values()
        for key, model in models.items()
    }
    with torch.no_grad():
        for piece in tqdm(pieces, desc="Embed mini-batches", disable=not loss.show_progress_bar, leave=False):
            states.append(RandomState(*one_on_each_device[id(piece.model)]))
            results.append(loss.run(piece.model, piece.features, context))
    # Mixed precision keeps the weights it has cast; those of a pass without graph would lead nowhere.
    torch.clear_autocast_cache()
    return put_together(pieces, results, column_count), states


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


def values_only(
    loss: EmbeddingLoss, embeddings: list[Embeddings], labels: Tensor | None, context: Any
) -> dict[str, Tensor]:
    """The parts of the loss by name."""
    everyone, own = loss.gathered(embeddings)
    return added_up(
        LossPart(part.name, part.value * share)
        for rows, share in stretches(loss, everyone, own)
        for part in loss.parts(everyone, labels, rows=rows, context=context)
    )


@dataclass
class Gradients:
    """Gradients of one number."""

    of_columns: list[Embeddings]
    """With respect to the embeddings of each column, shaped like them."""

    of_parameters: dict[nn.Parameter, Tensor] = field(default_factory=dict)
    """With respect to the parameters that the loss used beside the embeddings."""

    @classmethod
    def zero(cls, columns: list[Embeddings]) -> Gradients:
        return cls(
            [column.with_tensors([zeros_to_sum(tensor) for tensor in column.tensors]) for column in columns]
        )

    def add(
        self, value: Tensor, columns: list[Embeddings], parameters: list[nn.Parameter], **kwargs: Any
    ) -> None:
        """Add those of a value that was computed from columns and parameters; `kwargs` are those of `grad`."""
        if not value.requires_grad:
            return
        inputs = [*tensors_of(columns), *parameters]
        found = torch.autograd.grad(value, inputs, allow_unused=True, **kwargs)
        sums = tensors_of(self.of_columns)
        for known, gradient in zip(sums, found):
            if gradient is not None:
                known += gradient
        for parameter, gradient in zip(parameters, found[len(sums) :]):
            if gradient is not None:
                known = self.of_parameters.setdefault(parameter, zeros_to_sum(parameter))
                known += gradient


def values_and_gradients(
    loss: EmbeddingLoss, embeddings: list[Embeddings], labels: Tensor | None, context: Any
) -> tuple[dict[str, Tensor], list[Gradients]]:
    """The parts of the loss by name, without a graph, and the gradients of each number that `forward` returns.

    Those are the parts only where the loss returns them: for their sum, one gradient is kept.
    """
    leaves = [with_gradient(column) for column in embeddings]
    with torch.enable_grad():
        gathered, own = loss.gathered(leaves)
    # Gradients are collected here, and sent to the processes that the rows came from once, at the end.
    everyone = leaves if own is None else [with_gradient(column) for column in gathered]
    parameters = [parameter for parameter in loss.parameters() if parameter.requires_grad]
    values: dict[str, Tensor] = {}
    kept: dict[str, Gradients] = {}
    for rows, share in stretches(loss, everyone, own):
        with torch.enable_grad():
            parts = added_up(
                LossPart(part.name, part.value * share)
                for part in loss.parts(everyone, labels, rows=rows, context=context)
            )
            results = parts if loss.returns_parts else {"": total(parts)}
        for left, (name, result) in zip(reversed(range(len(results))), results.items()):
            if name not in kept:
                kept[name] = Gradients.zero(everyone)
            kept[name].add(result, everyone, parameters, retain_graph=left > 0)
        for name, value in parts.items():
            values[name] = values[name] + value.detach() if name in values else value.detach()
    if own is not None:
        for known in kept.values():
            known.of_columns = sent_back(known.of_columns, gathered, leaves)
    return values, list(kept.values())


def sent_back(
    gradients: list[Embeddings], gathered: list[Embeddings], leaves: list[Embeddings]
) -> list[Embeddings]:
    """Gradients of this process's rows, from those that every process has for the rows of all."""
    given = [gradient.to(tensor) for gradient, tensor in zip(tensors_of(gradients), tensors_of(gathered))]
    returned = iter(torch.autograd.grad(tensors_of(gathered), tensors_of(leaves), given, retain_graph=True))
    return [column.with_tensors([next(returned) for _ in column.tensors]) for column in leaves]


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
    weighted: list[tuple[Tensor, Gradients]],
    gradients: dict[nn.Parameter, Tensor],
) -> None:
    """Embed every piece with a graph, and hand its rows their gradients.

    Args:
        loss: Runs the models.
        pieces: What was embedded first.
        states: The random state that each piece began with.
        context: What the loss computed beforehand.
        weighted: The gradients of each number, and its weight.
        gradients: Of parameters that the loss used itself. Those of a model are given to it together with
            its last piece, so that distributed training sees each parameter once.
    """
    last_of_model = {id(piece.model): number for number, piece in enumerate(pieces)}
    left = dict(gradients)
    shown = tqdm(pieces, desc="Backward mini-batches", disable=not loss.show_progress_bar, leave=False)
    for number, (piece, state) in enumerate(zip(shown, states)):
        is_last = last_of_model[id(piece.model)] == number
        wanted = [
            (weight, Embeddings.cat([each.of_columns[column][rows] for column, rows in piece.owners]).tensors)
            for weight, each in weighted
        ]
        with nullcontext() if is_last else without_synchronising(piece.model):
            with state:
                result = loss.run(piece.model, piece.features, context)
            given: list[tuple[Tensor, Tensor]] = []
            for place, tensor in enumerate(result.tensors):
                gradient = weighted_sum((weight, tensors[place]) for weight, tensors in wanted)
                # Padded to the longest row of its piece, which may be shorter than the longest of all.
                cut_off = gradient if result.mask is None else gradient[:, : tensor.shape[1]]
                given.append((tensor, cut_off.to(tensor)))
            if is_last:
                own = [parameter for parameter in piece.model.parameters() if parameter in left]
                given.extend((parameter, left.pop(parameter)) for parameter in own)
            given = [(tensor, gradient) for tensor, gradient in given if tensor.requires_grad]
            if given:
                torch.autograd.backward([tensor for tensor, _ in given], [gradient for _, gradient in given])


def without_synchronising(model: nn.Module) -> AbstractContextManager[Any]:
    """Keep distributed training from averaging gradients: the last piece does it for all before it."""
    no_sync = getattr(model, "no_sync", None)
    return nullcontext() if no_sync is None else no_sync()


def tensors_of(columns: Sequence[Embeddings]) -> list[Tensor]:
    """The tensors of several columns, in order."""
    return [tensor for column in columns for tensor in column.tensors]


def with_gradient(column: Embeddings) -> Embeddings:
    """The same numbers as the beginning of a graph."""
    return column.with_tensors([tensor.detach().requires_grad_() for tensor in column.tensors])


def zeros_to_sum(like: Tensor) -> Tensor:
    """Zeros of the same shape, in at least float32: half precision forgets the small among many summands."""
    return torch.zeros_like(like, dtype=torch.promote_types(like.dtype, torch.float32), requires_grad=False)


def weighted_sum(terms: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """The sum of weight × tensor, of one term or more."""
    return functools.reduce(operator.add, (weight * tensor for weight, tensor in terms))


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
