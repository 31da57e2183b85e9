"""From inputs to batches of features: what the engine asks of a model's input side.

Two sources: `RowSource` tokenises ahead and plans over true lengths, and packs rows where the model can;
`RawSource` serves every other input side, also custom ones, and orders inputs by their characters. And
`ahead`, which reads the next window while the present one is computed. Nothing here runs a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import torch

from sentence_transformers.inference.options import DEFAULT_BATCH_SIZE
from sentence_transformers.inference.plan import character_count
from sentence_transformers.inputs.rows import TokenRows
from sentence_transformers.inputs.rungs import rung
from sentence_transformers.modules.base import RowInputModule

Item = TypeVar("Item")
Result = TypeVar("Result")

PADS_TO_RUNGS = ("mps", "xla", "hpu")
"""Devices on which every new shape is expensive."""


class Rows(Protocol):
    """Inputs that have been read."""

    @property
    def lengths(self) -> list[int]: ...

    def take(self, numbers: Sequence[int]) -> Any: ...


class Source(Protocol):
    """Reads inputs and makes batches of them.

    `usual_rows` limits a batch whose size nobody chose; None where the tokens alone decide.
    """

    packed: bool
    usual_rows: int | None

    def read(self, inputs: Sequence[Any]) -> Any: ...

    def collate(self, rows: Any) -> dict[str, Any]: ...


class RowSource:
    """Rows of token ids, read by a first module that can."""

    usual_rows: int | None = None

    def __init__(
        self,
        module: RowInputModule,
        *,
        packed: bool,
        device: torch.device,
        sample: tuple[Any, TokenRows] | None = None,
        **options: Any,
    ) -> None:
        self.module = module
        self.sample = sample  # an input that was read to see whether it can be, and its row
        self.packed = packed
        self.on_rungs = device.type in PADS_TO_RUNGS
        self.options = options

    def read(self, inputs: Sequence[Any]) -> TokenRows:
        if self.sample is not None and len(inputs) == 1 and inputs[0] is self.sample[0]:
            return self.sample[1]
        rows = self.module.read_rows(inputs, **self.options)
        assert rows is not None, "asked before"
        return rows

    def collate(self, rows: TokenRows) -> dict[str, Any]:
        if self.on_rungs and not self.packed:
            return _padded_to_rung(self.module, rows)
        return self.module.collate_rows(rows, packed=self.packed)


class RawRows:
    """Inputs as they came, with their characters for a length."""

    def __init__(self, items: Sequence[Any]) -> None:
        self.items = list(items)

    @property
    def lengths(self) -> list[int]:
        return [1 + character_count(item) // 4 for item in self.items]

    def take(self, numbers: Sequence[int]) -> RawRows:
        return RawRows([self.items[number] for number in numbers])


class RawSource:
    """Inputs that the model prepares itself, a batch at a time."""

    packed = False
    # What an image or a custom module's input costs, its characters do not tell.
    usual_rows: int | None = int(DEFAULT_BATCH_SIZE)

    def __init__(self, preprocess: Callable[[list[Any]], Any]) -> None:
        self.preprocess = preprocess

    def read(self, inputs: Sequence[Any]) -> RawRows:
        return RawRows(inputs)

    def collate(self, rows: RawRows) -> dict[str, Any]:
        return dict(self.preprocess(rows.items))


def ahead(read: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Read items in order, each while the one before it is being used."""
    if len(items) < 2:
        for item in items:
            yield read(item)
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokenise") as reader:
        following = reader.submit(read, items[0])
        for number in range(len(items)):
            current = following.result()
            if number + 1 < len(items):
                following = reader.submit(read, items[number + 1])
            yield current


def _padded_to_rung(module: RowInputModule, rows: TokenRows) -> dict[str, Any]:
    features = module.collate_rows(rows, packed=False)
    shape = features["input_ids"].shape
    width = shape[-1]
    # A model has no positions beyond its limit, not even for padding.
    limit = getattr(module, "max_seq_length", None) or rung(width)
    missing = max(0, min(rung(width), limit) - width)
    if missing and len(shape) == 2:
        # Not any token will do: RoBERTa and its kin count positions by what is no padding.
        fillers = {"input_ids": getattr(module.tokenizer, "pad_token_id", None) or 0}
        for name, value in features.items():
            if isinstance(value, torch.Tensor) and value.shape == shape:
                features[name] = torch.nn.functional.pad(value, (0, missing), value=fillers.get(name, 0))
    return features
