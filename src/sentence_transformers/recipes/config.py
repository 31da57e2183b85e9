"""What a recipe is asked to do: dataclasses whose fields are arguments in Python and options on the command line.

Each field says in `help` what it means; nothing here knows a method.
"""

from __future__ import annotations

import hashlib
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

PLACES = ("out", "device", "quiet", "overwrite")
"""Fields that do not change what is computed."""


LONG = 200
"""Characters from which a list of texts is known by its hash."""


def option(default: Any = MISSING, *, help: str, least: float | None = None) -> Any:
    """A field of a config.

    Args:
        default: Its value where none is given; a field without one must be given.
        help: What it means, in a phrase.
        least: The smallest number that makes sense.
    """
    metadata = {"help": help, "least": least}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(kw_only=True)
class RecipeConfig:
    """What every recipe is told."""

    out: Path = option(help="Folder for the model and the report.")
    model: str = option("all-MiniLM-L6-v2", help="The model to start from: a folder, or a name.")
    seed: int = option(42, help="Of everything that is drawn at random.")
    device: str | None = option(None, help="Such as cpu or cuda:0; the best there is if none is named.")
    quiet: bool = option(False, help="Show no progress.")
    overwrite: bool = option(False, help="Remove what is at out and begin anew.")

    def __post_init__(self) -> None:
        self.out = Path(self.out)
        kinds = get_type_hints(type(self))
        for one in fields(self):
            value = getattr(self, one.name)
            if get_origin(kinds[one.name]) is list and not isinstance(value, (list, tuple)):
                raise ValueError(f"{one.name}={value!r} is no list. Pass [{value!r}].")
            choices = get_args(kinds[one.name]) if get_origin(kinds[one.name]) is Literal else (value,)
            if value not in choices:
                raise ValueError(f"{one.name}={value!r} is not known. Known: {', '.join(map(str, choices))}.")
            least = one.metadata.get("least")
            if least is not None and value is not None and value < least:
                raise ValueError(f"{one.name}={value} makes no sense here. Pass {least:g} or more.")
            if "Path" in str(one.type) and value is not None and one.name != "out":
                several = isinstance(value, (list, tuple))
                found = [Path(path) for path in (value if several else [value])]
                for path in found:
                    if not path.exists():
                        raise ValueError(f"{one.name}: there is no file or folder {str(path)!r}.")
                setattr(self, one.name, found if several else found[0])

    def settings(self) -> dict[str, Any]:
        """What decides about the result, as JSON: values, and for files also their size."""
        return {
            one.name: described(getattr(self, one.name)) for one in fields(self) if one.name not in PLACES
        }


@dataclass(kw_only=True)
class JudgedConfig(RecipeConfig):
    """Where the model is judged."""

    dev: Path | None = option(
        None,
        help="Judges each epoch: a table with sentence1, sentence2 and score, or a folder with a retrieval set.",
    )
    test: list[Path] = option([], help="The same, judged before and after; may be given several times.")


@dataclass(kw_only=True)
class OptimizedConfig(RecipeConfig):
    """How weights are learned, of a model of any kind."""

    epochs: float = option(1.0, help="Passes over the data.")
    batch_size: int = option(32, help="Rows in a batch.", least=1)
    learning_rate: float = option(2e-5, help="Highest learning rate.", least=0)
    warmup_ratio: float = option(0.1, help="Share of the steps in which the rate rises.", least=0)
    max_length: int | None = option(None, help="Tokens of a text; as in the model if none is given.", least=1)
    limit: int | None = option(None, help="Use only so many rows, drawn at random.", least=1)
    save_steps: int = option(500, help="Steps after which a killed run goes on, at most.", least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epochs <= 0:
            raise ValueError(f"epochs={self.epochs} trains nothing. Pass a positive number.")
        if self.warmup_ratio > 1:
            raise ValueError(f"warmup_ratio={self.warmup_ratio} is no share of the steps. Pass 0 to 1.")


@dataclass(kw_only=True)
class TrainedConfig(JudgedConfig, OptimizedConfig):
    """How a model of embeddings or scores is trained."""

    keep_best: bool = option(
        False, help="Keep the epoch that is best on dev, instead of the last one; saves at epochs only."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keep_best and self.dev is None:
            raise ValueError(
                "keep_best chooses by dev, which is not given. Pass dev, or leave keep_best out."
            )


@dataclass(kw_only=True)
class UnlabelledConfig(TrainedConfig):
    """What a method that learns from bare texts is told."""

    texts: Path = option(help="Sentences: lines of a .txt, or a column of a table (also .gz).")
    column: str | None = option(None, help="Column of a table; `text` where there are several.")
    pooling: Literal["cls", "mean", "max"] = option("mean", help="How a sentence becomes one vector.")


def described(value: Any) -> Any:
    """A value of a field for JSON. A file is known by its path and its size, a long list of texts by their hash."""
    if isinstance(value, Path):
        return f"{value} ({value.stat().st_size} bytes)" if value.is_file() else str(value)
    are_texts = isinstance(value, (list, tuple)) and value and all(isinstance(one, str) for one in value)
    if are_texts and sum(map(len, value)) > LONG:
        return f"{len(value)} texts {hashlib.sha256(chr(0).join(value).encode()).hexdigest()[:16]}"
    if isinstance(value, (list, tuple)):
        return [described(one) for one in value]
    return value
