"""The batches of `fit`: one data loader for each objective, read pass after pass and in turn.

A loader gives batches of `InputExample`, or what its own collate function made of them. What happens to a
batch is up to whoever reads it; nothing here knows about losses, models or trainers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, default_collate

from sentence_transformers.inputs.example import InputExample
from sentence_transformers.tensors.randomness import global_state, global_state_kept, set_global_state
from sentence_transformers.training.columns import DATASET_NAME

Collate = Callable[[list[InputExample]], tuple[Any, Tensor]]
"""Examples of a batch -> the features of each column, or just those of an only column, and the labels."""

END = object()


class EndlessBatches:
    """The batches of a loader; it starts again whenever it runs out.

    Args:
        loader: Gives batches, is iterable more than once.
        collate: Makes columns and labels of a batch of examples. A batch of another kind must be those already:
            a list of features, or the features of an only column, and labels.
    """

    def __init__(self, loader: Any, collate: Collate) -> None:
        self.loader = loader
        self.collate = collate
        self._batches: Iterator[Any] | None = None
        self._given = 0
        self._start: dict[str, Any] = {}

    def __iter__(self) -> EndlessBatches:
        return self

    def __next__(self) -> tuple[list[dict[str, Any]], Tensor]:
        batch: Any = END if self._batches is None else next(self._batches, END)
        if batch is END:
            self._start = self._random_state()
            self._given = 0
            self._batches = iter(self.loader)
            batch = next(self._batches, END)
        if batch is END:
            raise ValueError("A data loader of train_objectives gave no batch. Is its data set empty?")
        self._given += 1
        if isinstance(batch, (list, tuple)) and batch and isinstance(batch[0], InputExample):
            batch = self.collate(list(batch))
        columns, labels = batch
        return [dict(columns)] if isinstance(columns, Mapping) else list(columns), labels

    def state(self) -> dict[str, Any]:
        """Where in the present pass this is, for `resume`: how many batches were given, and the randomness before."""
        return {"given": self._given, "start": self._start}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on after the batch at which `state` was asked for.

        The pass is read again up to there, with the random order it had. That order is found again as far as
        it was drawn when the pass began, or from a generator that nothing else used.
        """
        if not state["given"]:
            return
        self._start = dict(state["start"])
        with global_state_kept():
            set_global_state(self._start["global"])
            if "own" in self._start:
                self.loader.generator.set_state(self._start["own"])
            self._batches = iter(self.loader)
            for self._given in range(1, state["given"] + 1):
                next(self._batches, END)

    def _random_state(self) -> dict[str, Any]:
        own = getattr(self.loader, "generator", None)
        drawn = {"own": own.get_state()} if isinstance(own, torch.Generator) else {}
        return {"global": global_state(), **drawn}


class ObjectiveBatches(IterableDataset):
    """One epoch of batches, taken from each loader in turn; the next epoch goes on where this one stopped.

    Args:
        loader_by_name: The loader of each objective.
        collate: As in `EndlessBatches`.
        rounds: Batches taken from each loader in an epoch.
    """

    def __init__(self, loader_by_name: Mapping[str, Any], collate: Collate, *, rounds: int) -> None:
        self.streams = {name: EndlessBatches(loader, collate) for name, loader in loader_by_name.items()}
        self.rounds = rounds
        self._already_trained_on = 0
        self._restore: Callable[[], None] | None = None

    def __len__(self) -> int:
        return self.rounds * len(self.streams)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        skipped, self._already_trained_on = self._already_trained_on, 0
        names = list(self.streams)
        for number in range(len(self)):
            if number < skipped:
                yield {}  # in the place of a batch that the trainer will drop
                continue
            if self._restore is not None:
                self._restore()
                self._restore = None
            name = names[number % len(names)]
            columns, labels = next(self.streams[name])
            yield {DATASET_NAME: name, "columns": columns, "label": labels}

    def state(self) -> dict[str, Any]:
        """Where each loader is, for `resume`."""
        return {name: stream.state() for name, stream in self.streams.items()}

    def resume(self, state: Mapping[str, Any], *, steps: int, restore: Callable[[], None]) -> None:
        """Go on where training stopped.

        Args:
            state: From `state`; empty to read the loaders from their beginning.
            steps: All steps that were trained. Those of the epoch at hand are given as empty batches.
            restore: Called right before the first batch that is new: sets the random state there was then.
        """
        self._already_trained_on = steps % len(self)
        self._restore = restore
        for name, stream in self.streams.items():
            if name in state:
                stream.resume(state[name])


class FirstExamples:
    """The first examples of a loader as rows of a data set, for the model's card; a loader over a list has some.

    Args:
        loader: The loader.
    """

    def __init__(self, loader: Any) -> None:
        dataset = getattr(loader, "dataset", None)
        known = (dataset, getattr(dataset, "examples", None), getattr(loader, "train_examples", None))
        # Only of lists: reading another data set may draw random numbers, or run a teacher.
        self.examples: Sequence[InputExample] = next((rows for rows in known if are_examples(rows)), [])
        width = len(self.examples[0].texts or ()) if self.examples else 0
        self.column_names = [
            *(f"sentence_{number}" for number in range(width)),
            *(["label"] if width else []),
        ]

    def __len__(self) -> int:
        return len(self.examples)

    def select_columns(self, names: list[str]) -> FirstExamples:
        """All columns; every one can be read at once."""
        del names
        return self

    def __getitem__(self, rows: slice) -> dict[str, list[Any]]:
        values = [(*(example.texts or ()), example.label) for example in self.examples[rows]]
        return dict(zip(self.column_names, map(list, zip(*values))))


def are_examples(rows: Any) -> TypeGuard[list[InputExample]]:
    """Whether this is a list of examples; what its first row is tells."""
    return isinstance(rows, list) and len(rows) > 0 and isinstance(rows[0], InputExample)


def batches_in_an_epoch(loaders: Iterable[Any], steps_per_epoch: int | None) -> int:
    """Batches that an epoch takes from each loader: as many as asked for, or as the shortest loader has.

    Raises:
        ValueError: If there is no loader or no batch, or a loader does not know its length.
    """
    loaders = list(loaders)
    if not loaders:
        raise ValueError("train_objectives is empty: pass at least one pair of a data loader and a loss.")
    if steps_per_epoch:
        return steps_per_epoch
    lengths = [length_of(loader) for loader in loaders]
    if None in lengths:
        raise ValueError(
            "A data loader of train_objectives does not know how many batches it has. Pass steps_per_epoch."
        )
    shortest = min(length for length in lengths if length is not None)
    if shortest == 0:
        raise ValueError("A data loader of train_objectives has no batch. Is its data set empty?")
    return shortest


def length_of(loader: Any) -> int | None:
    """Batches of a loader; None where its data set is a stream of unknown length."""
    if isinstance(getattr(loader, "dataset", None), IterableDataset) and not hasattr(
        loader.dataset, "__len__"
    ):
        return None
    return len(loader) if hasattr(loader, "__len__") else None


@contextmanager
def collating(loaders: Iterable[Any], collate: Collate) -> Iterator[None]:
    """Let loaders that have no collate function of their own build their batches with `collate`, for a while."""
    usual = [loader for loader in loaders if has_no_collate(loader)]
    before = [loader.collate_fn for loader in usual]
    try:
        for loader in usual:
            loader.collate_fn = collate
        yield
    finally:
        for loader, own in zip(usual, before, strict=True):
            loader.collate_fn = own


def has_no_collate(loader: Any) -> bool:
    """Whether this is a data loader without a collate function of its own."""
    return hasattr(loader, "collate_fn") and loader.collate_fn in (None, default_collate)
