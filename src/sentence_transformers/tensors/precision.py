"""Store embeddings in fewer bytes: 8-bit integers, or one bit per dimension.

Scalar quantisation cuts the range of each dimension into 255 equal steps; binary quantisation keeps the
sign, and packs eight dimensions into a byte. Searching quantised embeddings stands elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from torch import Tensor

from sentence_transformers.tensors.vectors import as_tensor, is_sparse

logger = logging.getLogger(__name__)

PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")

STEPS = 255
"""Steps into which the range of a dimension is cut."""

ROWS_AT_ONCE = 4096

FEW_EMBEDDINGS = 100
"""From fewer embeddings than this, the range of a dimension is a poor estimate."""


def quantize_embeddings(
    embeddings: Tensor | np.ndarray,
    precision: Literal["float32", "int8", "uint8", "binary", "ubinary"],
    ranges: np.ndarray | None = None,
    calibration_embeddings: np.ndarray | None = None,
) -> np.ndarray:
    """Quantise embeddings; the input is left unchanged.

    Args:
        embeddings: Float embeddings (N, D), or one, (D,): an array, a tensor, or a list of tensors or arrays.
        precision: `float32` only converts. `uint8` and `int8` number the 255 steps of each dimension's range
            from 0 and from -128. `ubinary` packs the signs (1 where above zero) of eight dimensions into a
            byte, the first one highest; `binary` is the same less 128.
        ranges: Least and largest value of each dimension, (2, D), for `int8` and `uint8`. Values outside are
            clipped.
        calibration_embeddings: Embeddings (M, D) to take the ranges from, if `ranges` is None. Without both,
            the ranges are those of `embeddings` themselves.

    Returns:
        An array: float32 (N, D); int8 or uint8 (N, D); int8 or uint8 (N, ceil(D / 8)) for the binary ones,
        where missing dimensions count as zero. (D,) accordingly.

    Raises:
        ValueError: If the precision is unknown; if ranges for `int8` or `uint8` would come from one single
            embedding; if `ranges` has the wrong shape.
        TypeError: If the embeddings are quantised already.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"Precision {precision!r} is not supported. Pass one of {', '.join(PRECISIONS)}.")
    values = as_array(embeddings)
    if values.dtype in (np.int8, np.uint8):
        raise TypeError(
            f"The embeddings are {values.dtype} and so quantised already. Pass the float embeddings they "
            "came from."
        )
    if precision == "float32":
        return values.astype(np.float32)
    if precision in ("int8", "uint8"):
        least, largest = ranges_for(values, precision, ranges, calibration_embeddings)
        return by_blocks(values, precision == "int8", lambda rows: scalar_steps(rows, least, largest))
    return by_blocks(values, precision == "binary", lambda rows: np.packbits(rows > 0, axis=-1))


def by_blocks(
    values: np.ndarray, is_signed: bool, codes_of: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Codes of embeddings, a block of rows at a time, so that little more memory is needed than for the result."""
    if values.ndim != 2:
        codes = codes_of(values)
        return shift_to_signed(codes) if is_signed else codes
    width = codes_of(values[:0]).shape[1]
    result = np.empty((len(values), width), dtype=np.int8 if is_signed else np.uint8)
    for start in range(0, len(values), ROWS_AT_ONCE):
        codes = codes_of(values[start : start + ROWS_AT_ONCE])
        result[start : start + ROWS_AT_ONCE] = shift_to_signed(codes) if is_signed else codes
    return result


def as_array(values: Any) -> np.ndarray:
    """Embeddings as an array; half precision, which arrays or their arithmetic lack, becomes float32."""
    if isinstance(values, (list, tuple)) and len(values) and not isinstance(values[0], Tensor):
        return np.asarray(values)
    if not isinstance(values, np.ndarray):
        tensor = as_tensor(values).detach().cpu()
        if tensor.is_floating_point() and tensor.itemsize < 4:
            tensor = tensor.float()
        values = (tensor.to_dense() if is_sparse(tensor) else tensor).numpy()
    return values.astype(np.float32) if values.dtype == np.float16 else values


def ranges_for(
    values: np.ndarray, precision: str, ranges: Any, calibration: Any
) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest value of each dimension, (D,) each, for quantising `values` (N, D)."""
    width = values.shape[-1]
    if ranges is not None:
        ranges = as_array(ranges)
        if ranges.shape != (2, width):
            raise ValueError(
                f"ranges has shape {ranges.shape}, but embeddings of width {width} need (2, {width}): the "
                "least "
                "and the largest value of each dimension."
            )
        return ranges[0], ranges[1]
    if calibration is not None:
        calibration = as_array(calibration)
        if calibration.ndim != 2 or calibration.shape[1] != width:
            raise ValueError(
                f"calibration_embeddings has shape {calibration.shape}, but must be (M, {width}) like the "
                "embeddings."
            )
    else:
        calibration = np.atleast_2d(values)
        if len(calibration) == 1:
            raise ValueError(
                f"The ranges for {precision} cannot be computed from a single embedding, where least and "
                "largest are "
                "the same. Pass `ranges`, or `calibration_embeddings` from a sample of your data."
            )
        if 0 < len(calibration) < FEW_EMBEDDINGS:
            logger.warning(
                "The ranges for %s are taken from only %d embeddings, so another call would quantise "
                "differently. "
                "Pass `ranges`, or `calibration_embeddings` from a sample of your data.",
                precision,
                len(calibration),
            )
    if len(calibration) == 0:
        return np.zeros(width), np.zeros(width)
    return calibration.min(axis=0), calibration.max(axis=0)


def scalar_steps(values: np.ndarray, least: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """The number of the step each value lies in, 0 to 255, as uint8."""
    size = (largest - least) / STEPS  # (D,)
    # A dimension that never changes has no steps; whatever it is divided by, it lies in the first.
    size = np.where(size > 0, size, np.ones_like(size))
    steps = (values - least) / size
    return np.nan_to_num(steps, copy=False, nan=0.0, posinf=STEPS, neginf=0.0).clip(0, STEPS).astype(np.uint8)


def shift_to_signed(codes: np.ndarray) -> np.ndarray:
    """uint8 codes less 128, as int8."""
    return (codes.astype(np.int16) - 128).astype(np.int8)
