"""Rows of features, and their embeddings.

A column of a batch is a features dictionary: what a model's `preprocess` made of some inputs. Here columns
are cut into rows, joined, and embedded, so that nothing above has to know what lies in a dictionary. A
model that computes no padding is given all columns at once: its matrices are larger then, and cost no
more. Models are known by what they do only; nothing here knows a class of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sentence_transformers.tensors.embeddings import Embeddings

Features = dict[str, Any]
Runner = Callable[[nn.Module, Features], Embeddings]

BY_TOKEN = ("input_ids", "attention_mask", "token_type_ids")
"""Entries (B, T) of padded texts."""

SETTINGS = ("task", "modality", "prompt_length")
"""Entries that hold for the whole column, also where they are a tensor, a tuple or a list."""

PACKED = "row_lengths"
"""Entry that only texts laid one after another have: the tokens of each."""


def unwrapped(model: Any) -> Any:
    """The model inside what distributed training and compilation put around it."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            inner = model.module
        if inner is None:
            return model
        model = inner


def row_count(features: Features) -> int:
    """How many inputs the features describe.

    Raises:
        ValueError: If nothing in them has rows.
    """
    if PACKED in features:
        return len(features[PACKED])
    for name in ("attention_mask", "offsets", "input_ids", "sentence_embedding"):
        if isinstance(features.get(name), Tensor):
            return len(features[name])
    for _, value in with_rows(features):
        if isinstance(value, Tensor):
            return len(value)
    raise ValueError(f"Features with the entries {sorted(features)} hold no tensor with rows.")


def with_rows(features: Features) -> Iterator[tuple[str, Tensor | list[Any]]]:
    """The entries that have something for each input, by name: tensors and lists that are no setting."""
    for name, value in features.items():
        if name not in SETTINGS and (
            isinstance(value, list) or (isinstance(value, Tensor) and value.dim() > 0)
        ):
            yield name, value


def token_counts(features: Features) -> Tensor | None:
    """Tokens of each row, (B,), on the CPU; None where they are not known."""
    if is_flat(features):
        starts = features["offsets"]
        return torch.diff(starts, append=starts.new_tensor([len(features["input_ids"])])).cpu()
    mask = features.get("attention_mask")
    return mask.sum(dim=1).cpu() if isinstance(mask, Tensor) and mask.dim() == 2 else None


def token_rows(features: Features) -> list[list[int]] | None:
    """The token ids of each row, without padding; None where rows are not made of tokens."""
    counts = features.get(PACKED, token_counts(features))
    if counts is None or "input_ids" not in features:
        return None
    ids = features["input_ids"]
    if PACKED in features:
        ids = ids.flatten()
    elif not is_flat(features):
        ids = ids[features["attention_mask"].bool()]
    return [row.tolist() for row in ids.cpu().split([int(count) for count in counts])]


def is_flat(features: Features) -> bool:
    """Whether the ids of all rows lie one after another, `offsets` saying where each row starts."""
    return "offsets" in features


def is_padded_text(features: Features) -> bool:
    """Whether the features are padded texts and nothing else with rows, so that columns can be joined."""
    names = {name for name, _ in with_rows(features)}
    return (
        {"input_ids", "attention_mask"} <= names <= set(BY_TOKEN)
        and all(isinstance(features[name], Tensor) and features[name].dim() == 2 for name in names)
        and PACKED not in features
    )


def can_slice(features: Features) -> bool:
    """Whether rows can be taken out: every entry has something for each input, or the ids lie flat."""
    if PACKED in features:
        return False
    count = row_count(features)
    return all(
        len(value) == count
        for name, value in with_rows(features)
        if not (is_flat(features) and name == "input_ids")
    )


def take_rows(features: Features, rows: Tensor) -> Features:
    """Some rows of features, in the order of their numbers; padding that none of them needs is cut off.

    Args:
        features: As `can_slice` allows.
        rows: Row numbers, (n,) on the CPU.
    """
    flat = flat_rows(features, rows) if is_flat(features) else {}
    taken: Features = {**features, **flat}
    for name, value in with_rows(features):
        if name not in flat:
            taken[name] = (
                value[rows.to(value.device)]
                if isinstance(value, Tensor)
                else [value[row] for row in rows.tolist()]
            )
    return without_empty_columns(taken) if is_padded_text(taken) else taken


def flat_rows(features: Features, rows: Tensor) -> Features:
    """`input_ids` and `offsets` of some rows, where the ids of all rows lie one after another."""
    ids, starts = features["input_ids"], features["offsets"]
    rows = rows.to(starts.device)
    ends = torch.where(rows + 1 < len(starts), starts[(rows + 1).clamp(max=len(starts) - 1)], len(ids))
    lengths = ends - starts[rows]  # (n,)
    offsets = lengths.cumsum(0) - lengths
    # Where an id comes from, less where it goes to, is the same for all ids of a row.
    shifts = torch.repeat_interleave(starts[rows] - offsets, lengths)
    return {"input_ids": ids[torch.arange(len(shifts), device=shifts.device) + shifts], "offsets": offsets}


def without_empty_columns(features: Features) -> Features:
    """Padded texts without the places that are padding in every row, on either side."""
    used = features["attention_mask"].any(dim=0).nonzero().flatten()
    if len(used) == 0:
        return features
    first, last = int(used[0]), int(used[-1]) + 1
    return {
        name: value[:, first:last] if isinstance(value, Tensor) and name in BY_TOKEN else value
        for name, value in features.items()
    }


def join(columns: Sequence[Features]) -> Features:
    """Columns of padded texts as one, their rows one after another."""
    if len(columns) == 1:
        return columns[0]
    longest = max(column["input_ids"].shape[1] for column in columns)
    joined = dict(columns[0])
    for name in BY_TOKEN:
        if name in joined:
            # Padding is told by the mask; what stands there as an id is never read.
            joined[name] = torch.cat(
                [F.pad(column[name], (0, longest - column[name].shape[1])) for column in columns]
            )
    return joined


def signature(features: Features) -> tuple[Any, ...]:
    """What columns must have in common to be joined: the same entries, and the same settings (task, prompt)."""
    settings = {
        name: str(value)
        for name, value in features.items()
        if not (isinstance(value, Tensor) and name in BY_TOKEN)
    }
    return (tuple(sorted(features)), tuple(sorted(settings.items())))


def joinable(models: Sequence[nn.Module], columns: Sequence[Features]) -> list[list[int]]:
    """Group column numbers by what may go through a model at once; `models` has one for each column."""
    groups: dict[Any, list[int]] = {}
    for number, (model, column) in enumerate(zip(models, columns)):
        together = getattr(unwrapped(model), "computes_no_padding", False) and is_padded_text(column)
        groups.setdefault((id(model), signature(column)) if together else number, []).append(number)
    return list(groups.values())


def run(model: nn.Module, features: Features, **kwargs: Any) -> Embeddings:
    """Embed the rows of some features; `kwargs` go to the model."""
    # A copy: the modules of a model write their results into the dictionary they are given.
    return Embeddings.read(model(dict(features), **kwargs))


def embed_columns(
    models: Sequence[nn.Module], columns: Sequence[Features], runner: Runner = run
) -> list[Embeddings]:
    """Embed columns, together where the model can.

    Args:
        models: The model of each column, usually the same.
        columns: A features dictionary for each column.
        runner: How features become `Embeddings`: called with the model and the features.

    Returns:
        The embeddings of each column, in order.
    """
    embedded: dict[int, Embeddings] = {}
    for group in joinable(models, columns):
        counts = [row_count(columns[number]) for number in group]
        whole = runner(models[group[0]], join([columns[number] for number in group]))
        start = 0
        for number, count in zip(group, counts):
            embedded[number] = whole if len(group) == 1 else whole[start : start + count]
            start += count
    return [embedded[number] for number in range(len(columns))]


@dataclass
class Piece:
    """Rows that are embedded together: by which model, and whose they are, in order."""

    model: nn.Module
    features: Features
    owners: list[tuple[int, Tensor]]
    """Column number and row numbers, of each column that has rows here."""


def cut(
    models: Sequence[nn.Module],
    columns: Sequence[Features],
    *,
    max_rows: int | None,
    max_tokens: int | None = None,
) -> Iterator[Piece]:
    """Cut columns into pieces that are embedded one at a time.

    Rows of like length share a piece, the longest first, so that little is padded and memory peaks at once.

    Args:
        models: The model of each column; those that compute no padding get rows of several columns at once.
        columns: A features dictionary for each column.
        max_rows: Rows of a piece at most; None for any number.
        max_tokens: Tokens of a piece at most, padding included; None for any number. Where the tokens of a
            column are known it counts instead of `max_rows`.

    Raises:
        ValueError: If a limit is less than 1.
    """
    check_limits(max_rows, max_tokens)
    for group in joinable(models, columns):
        model, features = models[group[0]], join([columns[number] for number in group])
        if not can_slice(features):
            yield Piece(model, features, [(group[0], torch.arange(row_count(features)))])
            continue
        counts = [row_count(columns[number]) for number in group]
        column_of = torch.repeat_interleave(torch.tensor(group), torch.tensor(counts))
        row_of = torch.cat([torch.arange(count) for count in counts])
        tokens = token_counts(features)
        order = torch.arange(len(row_of)) if tokens is None else tokens.argsort(descending=True, stable=True)
        for chosen in runs_within(order, tokens, max_rows=max_rows, max_tokens=max_tokens):
            by_column = [chosen[column_of[chosen] == number] for number in group]
            owners = [(number, row_of[rows]) for number, rows in zip(group, by_column) if len(rows)]
            yield Piece(model, take_rows(features, torch.cat(by_column)), owners)


def runs_within(
    order: Tensor, tokens: Tensor | None, *, max_rows: int | None, max_tokens: int | None
) -> Iterator[Tensor]:
    """Cut row numbers, longest first, into runs within the limit; a single row may exceed `max_tokens`."""
    start = 0
    while start < len(order):
        if max_tokens is not None and tokens is not None:
            count = max(1, max_tokens // max(1, int(tokens[order[start]])))
        else:
            count = len(order) if max_rows is None else max_rows
        yield order[start : start + count]
        start += count


def check_limits(max_rows: int | None, max_tokens: int | None) -> None:
    """Stop if a piece could hold nothing."""
    for name, limit in (("mini_batch_size", max_rows), ("mini_batch_num_tokens", max_tokens)):
        if limit is not None and limit < 1:
            raise ValueError(f"{name}={limit} embeds nothing. Pass 1 or more.")
