"""Read texts that stand in the same line of several files."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from sentence_transformers.inputs.example import InputExample
from sentence_transformers.readers.text_files import lines


class PairedFilesReader:
    """Reads files whose lines belong together, such as a text and its translations.

    Args:
        filepaths: The files, packed where a name ends with `.gz`.
    """

    def __init__(self, filepaths: Sequence[str | Path]) -> None:
        self.filepaths = filepaths

    def get_examples(self, max_examples: int = 0) -> list[InputExample]:
        """One example per line, with the line's text in each file, labelled 1.

        Args:
            max_examples: How many at most; 0 for as many lines as the shortest file has.
        """
        rows = zip(*(lines(Path(path)) for path in self.filepaths))
        return [
            InputExample(guid=str(number), texts=list(texts), label=1)
            for number, texts in enumerate(islice(rows, max_examples or None))
        ]
