"""One training or evaluation example of the older data classes.

An example is some texts and what is known about them. Nothing here knows what the label means; that is
up to the loss or the evaluator that reads it.
"""

from __future__ import annotations

from typing import Any


class InputExample:
    """Texts that belong together, and their label.

    Args:
        guid: A name for the example, for the caller's own use.
        texts: The texts, one for each column the loss expects.
        label: A class number, a score, or a vector of scores.
    """

    def __init__(self, guid: str = "", texts: list[str] | None = None, label: int | float | Any = 0) -> None:
        self.guid = guid
        self.texts = texts
        self.label = label

    def __str__(self) -> str:
        return f"<InputExample> label: {self.label}, texts: {'; '.join(map(str, self.texts or []))}"
