"""Collections of inputs, of whatever type, as a sequence.

Lists stay as they are; arrays, columns of data sets, series and generators become lists. Nothing here
looks at single inputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def given_inputs(first: Any, second: Any) -> Any:
    """The inputs, under whichever of their two names they came.

    Raises:
        TypeError: If they came under both or neither.
    """
    if first is None and second is None:
        raise TypeError("There is nothing to encode: None is no input. Pass a text, or a list of texts.")
    if first is not None and second is not None:
        raise TypeError("The inputs are given twice. Pass them once, as the first argument or as inputs=….")
    return second if first is None else first


def as_list(inputs: Any) -> Sequence[Any]:
    """The inputs as a sequence that can be indexed.

    Raises:
        ValueError: If this is no collection of inputs.
    """
    if isinstance(inputs, (list, tuple)):
        return inputs
    if isinstance(inputs, (bytes, Mapping)) or not isinstance(inputs, Iterable):
        raise ValueError(
            f"Cannot encode {type(inputs).__name__}: unsupported input type. Pass a text, or a list of texts."
        )
    array: Any = inputs
    if hasattr(array, "ndim") and hasattr(array, "tolist"):
        if array.ndim == 0:
            return [array.item()]
        if array.ndim == 1 or getattr(array.dtype, "kind", "") in ("U", "O"):  # texts, or pairs of texts
            return array.tolist()
    return list(inputs)
