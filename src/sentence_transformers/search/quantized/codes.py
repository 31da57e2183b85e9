"""Rows that are stored as codes: how they are read, and which embeddings they stand for.

Whatever the precision, rows come out in one of two forms: signed steps (int8, one for each dimension), or
packed signs (uint8, eight dimensions in a byte, as of `ubinary`). A corpus of floats is turned into codes
block by block as it is read, so that a memory-mapped one need not fit into memory. How codes are made of
embeddings stands in `tensors/precision.py`; how they are compared, in the files beside this one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from sentence_transformers.tensors.blocks import ranges as ranges_of_rows
from sentence_transformers.tensors.blocks import readable
from sentence_transformers.tensors.precision import STEPS, as_array, quantize_embeddings
from sentence_transformers.tensors.vectors import is_sparse

BITS_OF_A_BYTE = 8
HALF_WAY = 128
"""What the signed codes are less than the unsigned ones."""

TOP_BIT = np.uint8(128)
"""Flipping it turns a byte's signed reading into its unsigned one, and back."""


@dataclass(frozen=True)
class Form:
    """How one precision writes its codes."""

    dtype: type
    is_packed: bool

    def width_of_codes(self, width: int) -> int:
        """Bytes of a row with this many dimensions."""
        return -(-width // BITS_OF_A_BYTE) if self.is_packed else width


FORMS: Mapping[str, Form] = {
    "int8": Form(np.int8, is_packed=False),
    "uint8": Form(np.uint8, is_packed=False),
    "binary": Form(np.int8, is_packed=True),
    "ubinary": Form(np.uint8, is_packed=True),
}


@dataclass(frozen=True)
class Scale:
    """Which values the steps of each dimension stand for."""

    least: np.ndarray
    """(D,)"""

    largest: np.ndarray
    """(D,)"""

    @cached_property
    def step(self) -> np.ndarray:
        """Length of a step, (D,); zero for a dimension that never changes."""
        return ((self.largest - self.least) / STEPS).astype(np.float32)

    @cached_property
    def zero(self) -> np.ndarray:
        """The value that signed code 0 stands for, (D,): a code stands for the lower end of its step."""
        return (self.least + HALF_WAY * self.step).astype(np.float32)

    @property
    def both(self) -> np.ndarray:
        """(2, D), as `quantize_embeddings` takes them."""
        return np.stack([self.least, self.largest])


class CodedRows:
    """The rows of a corpus as codes of one precision.

    Args:
        values: Codes of that precision, or float embeddings, (N, D); or what else gives such by row numbers.
        precision: One of `FORMS`.
        scale: Which values the steps stand for; needed to make steps of floats, and to decode steps.
        width: Dimensions of the embeddings, where the codes may be padded to whole bytes.
    """

    def __init__(self, values: Any, precision: str, scale: Scale | None, width: int) -> None:
        self.values = values
        self.precision = precision
        self.scale = scale
        self.width = width

    def __len__(self) -> int:
        return len(self.values)

    @property
    def bytes_of_a_row(self) -> int:
        return FORMS[self.precision].width_of_codes(self.width)

    def blocks(self, max_bytes: int) -> Iterator[tuple[int, np.ndarray]]:
        """Number of the first row, and the codes, of blocks of rows that take that many bytes at most."""
        # Floats are held beside the codes that are made of them, and beside what is computed on the way.
        bytes_of_a_row = self.bytes_of_a_row if holds_codes(self.values) else 16 * self.width
        for rows in ranges_of_rows(len(self), max(1, max_bytes // bytes_of_a_row)):
            yield rows.start, self.codes(slice(rows.start, rows.stop))

    def codes(self, rows: slice | np.ndarray) -> np.ndarray:
        """Codes of some rows: packed signs (n, ceil(D / 8)) as uint8, or signed steps (n, D) as int8."""
        block = as_array(self.values[rows])
        if not holds_codes(block):
            block = as_codes(block, self.precision, self.scale, first_row=first_of(rows))
        return in_one_form(block, self.precision)

    def decoded(self, rows: np.ndarray) -> np.ndarray:
        """The embeddings that the codes of some rows stand for, float32 (n, D)."""
        if FORMS[self.precision].is_packed:
            return 2 * self.bits(rows) - 1
        assert self.scale is not None, "steps are only decoded where their scale is known"
        return self.codes(rows) * self.scale.step + self.scale.zero

    def bits(self, rows: np.ndarray) -> np.ndarray:
        """The packed signs of some rows as 1 and 0, float32 (n, D)."""
        return np.unpackbits(self.codes(rows), axis=1, count=self.width).astype(np.float32)


def as_codes(
    values: np.ndarray,
    precision: str,
    scale: Scale | None,
    *,
    name: str = "corpus_embeddings",
    first_row: int = 0,
) -> np.ndarray:
    """Floats as codes of a precision; `name` and `first_row` say in an error which row is meant.

    Raises:
        ValueError: If a number is NaN or infinite, which no code can say.
    """
    check_finite(values, name, first_row)
    return quantize_embeddings(values, precision, ranges=scale.both if scale else None)  # type: ignore[arg-type]


def in_one_form(codes: np.ndarray, precision: str) -> np.ndarray:
    """Codes as signed steps or as packed signs, whichever precision they are of."""
    form = FORMS[precision]
    wanted = np.uint8 if form.is_packed else np.int8
    if codes.dtype == wanted:
        return codes
    return (codes.view(np.uint8) ^ TOP_BIT).view(wanted)


def rows_of(values: Any, name: str) -> np.ndarray | Tensor:
    """What a caller passed as rows, (N, D), without a copy where possible; a single vector is one row.

    Raises:
        ValueError: If it has another shape, or is neither of floats nor of codes.
    """
    values = readable(values)
    if isinstance(values, list):
        values = np.zeros((0, 0), dtype=np.float32)
    if isinstance(values, Tensor):
        values = (values.to_dense() if is_sparse(values) else values).detach()
    if not isinstance(values, (np.ndarray, Tensor)) or values.ndim != 2:
        shape = tuple(getattr(values, "shape", ()))
        raise ValueError(
            f"{name} has shape {shape}. Pass one row for each embedding, (N, D), or one of them, (D,)."
        )
    if not holds_codes(values) and not holds_floats(values):
        raise ValueError(
            f"{name} is of {values.dtype}, which is neither an embedding nor a code. Pass floats, or int8 or uint8 as "
            "of `quantize_embeddings`."
        )
    return values


def holds_codes(values: np.ndarray | Tensor) -> bool:
    """Whether rows are codes, not embeddings."""
    return dtype_of(values) in ("int8", "uint8")


def dtype_of(values: np.ndarray | Tensor) -> str:
    return str(values.dtype).removeprefix("torch.")


def holds_floats(values: np.ndarray | Tensor) -> bool:
    return values.is_floating_point() if isinstance(values, Tensor) else values.dtype.kind == "f"


def check_codes(values: np.ndarray | Tensor, name: str, precision: str) -> None:
    """Check that rows, if they are codes, can be of this precision.

    Raises:
        ValueError: If they are of the other integer type.
    """
    if not holds_codes(values):
        return
    dtype = dtype_of(values)
    fitting = [name for name, form in FORMS.items() if np.dtype(form.dtype) == dtype]
    if precision not in fitting:
        raise ValueError(
            f"{name} holds codes of {dtype}, which are not of the precision {precision!r}. Pass corpus_precision="
            f"{' or '.join(repr(name) for name in fitting)}, or the float embeddings that they came from."
        )


def check_floats(values: np.ndarray | Tensor, name: str) -> None:
    """Check that rows are not codes.

    Raises:
        ValueError: If they are.
    """
    if holds_codes(values):
        raise ValueError(f"{name} holds codes of {dtype_of(values)}. Pass the corpus_precision they are of.")


def check_finite(values: np.ndarray, name: str, first_row: int = 0) -> None:
    is_fine = np.isfinite(values).all(axis=1)
    if not is_fine.all():
        raise ValueError(
            f"Row {first_row + int(np.argmin(is_fine))} of {name} holds NaN or infinity, which can be "
            "neither quantised nor compared. Leave it out, or look for what went wrong when it was made; half precision "
            "overflows in some models."
        )


def check_precision(precision: str, known: tuple[str, ...]) -> None:
    if precision not in known:
        raise ValueError(
            f"corpus_precision={precision!r} is not known. Pass one of {', '.join(map(repr, known))}."
        )


def check_multiplier(multiplier: float) -> None:
    if not multiplier >= 1:
        raise ValueError(
            f"rescore_multiplier={multiplier} finds fewer candidates than are returned. Pass 1 or more."
        )


def scale_of(ranges: Any, calibration: Any, width: int) -> Scale | None:
    """What a caller says about the values of steps; None if nothing.

    Raises:
        ValueError: If ranges or calibration embeddings have a wrong shape, hold NaN or infinity, or a least
            value above its largest one.
    """
    if ranges is None and calibration is None:
        return None
    if ranges is None:
        calibration = rows_of(calibration, "calibration_embeddings")
        if not len(calibration) or calibration.shape[1] != width:
            raise ValueError(
                f"calibration_embeddings has shape {tuple(calibration.shape)}. Pass one or more embeddings that are "
                f"{width} numbers wide, as the queries are."
            )
        return extremes_of(calibration, "calibration_embeddings")
    ranges = as_array(ranges)
    if ranges.shape != (2, width):
        raise ValueError(
            f"ranges has shape {ranges.shape}. Pass the least and the largest value of each dimension, (2, {width})."
        )
    check_finite(ranges, "ranges")
    if (ranges[0] > ranges[1]).any():
        raise ValueError(
            f"ranges says that dimension {int(np.argmax(ranges[0] > ranges[1]))} is least where it is largest. Pass the "
            "least values first."
        )
    return Scale(ranges[0], ranges[1])


def extremes_of(values: np.ndarray | Tensor, name: str, rows_at_once: int = 8192) -> Scale:
    """The least and the largest value of each dimension; memory-mapped rows are read block by block."""
    least, largest = [], []
    for rows in ranges_of_rows(len(values), rows_at_once):
        block = as_array(values[rows.start : rows.stop])
        check_finite(block, name, rows.start)
        least.append(block.min(axis=0))
        largest.append(block.max(axis=0))
    return Scale(np.min(least, axis=0), np.max(largest, axis=0))


def first_of(rows: slice | np.ndarray) -> int:
    return rows.start if isinstance(rows, slice) else 0
