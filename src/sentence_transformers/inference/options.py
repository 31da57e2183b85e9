"""What a call of `encode` asks for, checked at the door.

Past the door the code takes this object instead of a dozen arguments. Nothing here computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any


class UnsetRows(int):
    """The default batch size: an int like any other, by which the engine knows that nobody chose it."""


DEFAULT_BATCH_SIZE = UnsetRows(32)
"""Stands in signatures as 32, as it always did; the engine then fills batches by tokens alone."""

PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")
NEEDS_RANGES = ("int8", "uint8")
"""Precisions that need to know between which values each dimension lies."""

OUTPUT_VALUES = ("sentence_embedding", "token_embeddings", None)


@dataclass(frozen=True, kw_only=True)
class EncodeOptions:
    """One call of `encode`.

    `batch_size` limits the rows of a batch unless it is `DEFAULT_BATCH_SIZE`. `truncate_dim` keeps the
    leading dimensions of each vector, `normalize` scales what is left to length one. With `deterministic`, an
    input's result is the same bits whatever else is computed with it.
    """

    batch_size: int = DEFAULT_BATCH_SIZE
    show_progress_bar: bool | None = None
    output_value: str | None = "sentence_embedding"
    precision: str = "float32"
    convert_to_numpy: bool = True
    convert_to_tensor: bool = False
    normalize: bool = False
    truncate_dim: int | None = None
    deterministic: bool = False

    def __post_init__(self) -> None:
        if (
            isinstance(self.batch_size, bool)
            or not isinstance(self.batch_size, Integral)
            or self.batch_size < 1
        ):
            raise ValueError(
                f"batch_size={self.batch_size!r} encodes nothing. Pass a whole number, 1 or more."
            )
        if self.output_value not in OUTPUT_VALUES:
            raise UnknownOutputError(
                f"Unknown output_value {self.output_value!r}. Pass 'sentence_embedding', 'token_embeddings' or None."
            )
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"Precision {self.precision!r} is not supported. Pass one of {', '.join(PRECISIONS)}."
            )
        check_truncate_dim(self.truncate_dim)
        if not isinstance(self.deterministic, bool):
            raise ValueError(f"deterministic={self.deterministic!r} is neither True nor False.")

    @property
    def max_rows(self) -> int | None:
        """Most rows in a batch; None when the caller did not say."""
        return None if isinstance(self.batch_size, UnsetRows) else int(self.batch_size)


class UnknownOutputError(KeyError, ValueError):
    """`output_value` names nothing a model gives."""

    def __str__(self) -> str:
        return str(self.args[0])


def check_truncate_dim(truncate_dim: Any) -> None:
    """Raise `ValueError` unless the value is None or a positive whole number."""
    if truncate_dim is None:
        return
    if isinstance(truncate_dim, bool) or not isinstance(truncate_dim, Integral) or truncate_dim < 1:
        raise ValueError(
            f"truncate_dim={truncate_dim!r} keeps nothing. Pass the number of dimensions to keep, 1 or more, or None."
        )
