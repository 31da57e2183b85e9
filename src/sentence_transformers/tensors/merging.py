"""Merge the same tensor of several models into one.

A method takes that tensor of every model, all of one shape, type and device, and gives a new one; those that
work on changes also take it of the base model, from which the others were trained. `METHODS` is the table of
what exists, with the parameters of each. Nothing here knows what a model is or which tensors belong together.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal

import torch
from torch import Tensor

NEARLY_PARALLEL = 0.9995
"""Cosine from which on the arc between two tensors is as good as straight, and dividing by its sine is not."""

SMALLEST_SUM = 1e-8
"""Weights that sum up to less cannot be normalised."""


def linear(tensors: Sequence[Tensor], *, weight: Sequence[float], normalize: bool = True) -> Tensor:
    """Weighted average, as in Wortsman et al. 2022, "Model soups".

    Args:
        tensors: One tensor per model, any shape.
        weight: One factor per model.
        normalize: Divide by the sum of the weights.

    Returns:
        A tensor of that shape.

    Raises:
        ValueError: If the weights sum up to 0 and are to be normalised.
    """
    return weighted_sum(tensors, weight, normalize)


def slerp(tensors: Sequence[Tensor], *, t: float) -> Tensor:
    """Go along the arc from the first tensor to the second, each seen as one long vector.

    After Shoemake 1985, "Animating rotation with quaternion curves". Where the two are nearly parallel, or one
    is zero, the arc has no direction, and the straight line is taken.

    Args:
        tensors: Two tensors of any shape.
        t: How far to go: 0 gives the first, 1 the second.
    """
    start, end = tensors
    lengths = [torch.linalg.vector_norm(tensor, dtype=at_least_float32(tensor)) for tensor in tensors]
    product = lengths[0] * lengths[1]
    cosine = float((start.to(product.dtype) * end.to(product.dtype)).sum() / product) if product > 0 else 1.0
    if abs(cosine) > NEARLY_PARALLEL:
        return (1 - t) * start + t * end
    angle = math.acos(cosine)
    return (math.sin((1 - t) * angle) * start + math.sin(t * angle) * end) / math.sin(angle)


def task_arithmetic(
    tensors: Sequence[Tensor],
    base: Tensor,
    *,
    weight: Sequence[float],
    normalize: bool = False,
    scale: float = 1.0,
) -> Tensor:
    """Add the weighted changes of all models to the base.

    After Ilharco et al. 2023, "Editing models with task arithmetic".

    Args:
        tensors: One tensor per model, any shape.
        base: The same tensor before those models were trained.
        weight: One factor per model; negative to undo what a model has learnt.
        normalize: Divide by the sum of the weights.
        scale: Factor for the sum of all changes; `lambda` in the paper.
    """
    return base + scale * weighted_sum(changes(tensors, base), weight, normalize)


def ties(
    tensors: Sequence[Tensor],
    base: Tensor,
    *,
    weight: Sequence[float],
    density: Sequence[float],
    normalize: bool = True,
    scale: float = 1.0,
) -> Tensor:
    """Keep the largest changes of each model, elect a sign for each entry, and average those that have it.

    After Yadav et al. 2023, "TIES-Merging: Resolving interference when merging models".

    Args:
        tensors: As in `task_arithmetic`.
        base: As in `task_arithmetic`.
        weight: As in `task_arithmetic`.
        density: Share of the entries to keep of each model's changes, 0 to 1.
        normalize: Average the changes that agree; False adds them up.
        scale: As in `task_arithmetic`.
    """
    trimmed = [largest(change, share) for change, share in zip(changes(tensors, base), density, strict=True)]
    return base + scale * agreeing(trimmed, weight, normalize)


def dare_linear(
    tensors: Sequence[Tensor],
    base: Tensor,
    *,
    weight: Sequence[float],
    density: Sequence[float],
    generator: torch.Generator,
    normalize: bool = False,
    rescale: bool = True,
    scale: float = 1.0,
) -> Tensor:
    """Task arithmetic on changes of which a random part is dropped.

    After Yu et al. 2024, "Language models are super Mario: Absorbing abilities from homologous models as a
    free lunch" (DARE).

    Args:
        tensors: As in `task_arithmetic`.
        base: As in `task_arithmetic`.
        weight: As in `task_arithmetic`.
        density: Share of the entries that each model's changes keep on average, 0 to 1.
        generator: Draws what is dropped, on the CPU whatever the device of the tensors.
        normalize: As in `task_arithmetic`.
        rescale: Divide what is kept by the density, so that the changes are the same on average.
        scale: As in `task_arithmetic`.
    """
    kept = surviving(changes(tensors, base), density, generator, rescale=rescale)
    return base + scale * weighted_sum(kept, weight, normalize)


def dare_ties(
    tensors: Sequence[Tensor],
    base: Tensor,
    *,
    weight: Sequence[float],
    density: Sequence[float],
    generator: torch.Generator,
    normalize: bool = False,
    rescale: bool = True,
    scale: float = 1.0,
) -> Tensor:
    """As `dare_linear`, but with the signs elected as in `ties`."""
    kept = surviving(changes(tensors, base), density, generator, rescale=rescale)
    return base + scale * agreeing(kept, weight, normalize)


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """What a method can be told, and what holds when it is not."""

    default: float | int | bool
    is_per_model: bool = False
    is_share: bool = False
    """Whether values lie between 0 and 1."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to merge, and what it needs."""

    merge: Callable[..., Tensor]
    base: Literal["unused", "one of the models", "needed"]
    parameters: Mapping[str, Parameter]
    models: int | None = None
    """How many models it takes; None for any number."""


WEIGHT = Parameter(default=1.0, is_per_model=True)
DENSITY = Parameter(default=1.0, is_per_model=True, is_share=True)


def for_changes(*, normalize: bool, **further: Parameter) -> dict[str, Parameter]:
    """Parameters of the methods that add changes to a base."""
    scale = Parameter(default=1.0)
    return {"weight": WEIGHT, "normalize": Parameter(default=normalize), "lambda": scale, **further}


DARE = for_changes(
    normalize=False, density=DENSITY, rescale=Parameter(default=True), seed=Parameter(default=0)
)

METHODS: Mapping[str, Method] = {
    "dare_linear": Method(merge=dare_linear, base="needed", parameters=DARE),
    "dare_ties": Method(merge=dare_ties, base="needed", parameters=DARE),
    "linear": Method(
        merge=linear,
        base="unused",
        parameters={"weight": WEIGHT, "normalize": Parameter(default=True)},
    ),
    "slerp": Method(
        merge=slerp, base="one of the models", parameters={"t": Parameter(default=0.5)}, models=2
    ),
    "task_arithmetic": Method(merge=task_arithmetic, base="needed", parameters=for_changes(normalize=False)),
    "ties": Method(merge=ties, base="needed", parameters=for_changes(normalize=True, density=DENSITY)),
}
"""Every method by name, with the parameters users can set. `seed` is that of the generator."""


def method_named(name: str) -> Method:
    """The method of that name.

    Raises:
        ValueError: If there is none.
    """
    if name not in METHODS:
        raise ValueError(f"Unknown merge method {name!r}. Known: {', '.join(METHODS)}.")
    return METHODS[name]


def merger(name: str, parameters: Mapping[str, Any] | None, *, models: int) -> Callable[..., Tensor]:
    """A method with its parameters filled in.

    Args:
        name: A key of `METHODS`.
        parameters: Values by the names in the table. Where each model has its own, a list with one value per
            model, or one value for all.
        models: How many models are merged, the base not counted.

    Returns:
        A function of the tensors of all models and, for a method that needs it, of the base's. What it drops
        at random goes on from call to call: the same calls in the same order give the same results.

    Raises:
        ValueError: If there is no such method, or a value does not fit.
        TypeError: If the method has no such parameter, or a value is of the wrong type.
    """
    method = method_named(name)
    given = dict(parameters or {})
    unknown = sorted(set(given) - set(method.parameters))
    if unknown:
        raise TypeError(
            f"The merge method {name!r} has no parameter {', '.join(map(repr, unknown))}. "
            f"It has: {', '.join(method.parameters)}."
        )
    if method.models not in (None, models):
        raise ValueError(f"The merge method {name!r} takes {method.models} models, and got {models}.")
    arguments: dict[str, Any] = {
        key: read_value(key, given.get(key, parameter.default), parameter, models=models)
        for key, parameter in method.parameters.items()
    }
    if "lambda" in arguments:
        arguments["scale"] = arguments.pop("lambda")
    if "seed" in arguments:
        arguments["generator"] = torch.Generator().manual_seed(arguments.pop("seed"))
    return functools.partial(method.merge, **arguments)


def read_value(key: str, value: Any, parameter: Parameter, *, models: int) -> Any:
    """A checked value; a tuple with one per model where each model has its own."""
    if not isinstance(value, (list, tuple)):
        checked = read_single(key, value, parameter)
        return (checked,) * models if parameter.is_per_model else checked
    if not parameter.is_per_model:
        raise TypeError(f"{key}={value!r}: all models share one value. Pass it without the list.")
    if len(value) != models:
        raise ValueError(
            f"{key}={value!r} has {len(value)} values, and the number of models (the base not counted) is {models}. "
            "Pass one for each, or a single number."
        )
    return tuple(read_single(key, single, parameter) for single in value)


def read_single(key: str, value: Any, parameter: Parameter) -> Any:
    """A value of the default's type and in the parameter's range."""
    kind = type(parameter.default)
    wanted: Any = {bool: bool, int: Integral, float: Real}[kind]
    # In Python a truth value is also a whole number.
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(
            f"{key}={value!r} is {type(value).__name__}. Pass a value like {parameter.default!r}."
        )
    if not math.isfinite(value) or (parameter.is_share and not 0 <= value <= 1):
        raise ValueError(
            f"{key}={value!r}. Pass a {'share from 0 to 1' if parameter.is_share else 'number'}."
        )
    return value


def changes(tensors: Sequence[Tensor], base: Tensor) -> list[Tensor]:
    return [tensor - base for tensor in tensors]


def weighted_sum(tensors: Sequence[Tensor], weight: Sequence[float], normalize: bool) -> Tensor:
    total = sum(weight) if normalize else 1.0
    if abs(total) < SMALLEST_SUM:
        raise ValueError(
            f"The weights {list(weight)} sum up to 0 and cannot be normalised. Pass others, or normalize=False."
        )
    result = torch.zeros_like(tensors[0])
    for tensor, factor in zip(tensors, weight, strict=True):
        result.add_(tensor, alpha=factor / total)
    return result


def largest(change: Tensor, share: float) -> Tensor:
    """A copy in which only that share of the entries, the largest in magnitude, is not zero."""
    count = int(share * change.numel())
    kept = change.abs().flatten().topk(count).indices
    flat = change.flatten()
    return torch.zeros_like(flat).index_copy_(0, kept, flat[kept]).view(change.shape)


def surviving(
    tensors: Sequence[Tensor], density: Sequence[float], generator: torch.Generator, *, rescale: bool
) -> list[Tensor]:
    """Copies in which every entry is kept with the probability `density`."""
    results = []
    for tensor, share in zip(tensors, density, strict=True):
        keeps = torch.rand(tensor.shape, generator=generator) < share
        kept = torch.where(keeps.to(tensor.device), tensor, 0)
        results.append(kept / share if rescale and share > 0 else kept)
    return results


def agreeing(tensors: Sequence[Tensor], weight: Sequence[float], normalize: bool) -> Tensor:
    """Weighted sum (or average) of those values that have the sign of the sum of all, entry by entry."""
    factors = torch.tensor(weight, dtype=tensors[0].dtype, device=tensors[0].device)  # (M,)
    factors = factors.view(-1, *[1] * tensors[0].ndim)  # (M, 1, …)
    weighted = torch.stack(list(tensors)) * factors  # (M, …)
    agrees = weighted.sign() == weighted.sum(dim=0).sign()  # (M, …)
    total = (weighted * agrees).sum(dim=0)
    if not normalize:
        return total
    shares = (factors * agrees).sum(dim=0)
    return total / torch.where(shares.abs() < SMALLEST_SUM, 1, shares)


def at_least_float32(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)
