"""Read sentence pairs with an inference label."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from sentence_transformers.inputs.example import InputExample
from sentence_transformers.readers.text_files import lines


class NLIDataReader:
    """Reads the natural language inference data that is split into a file for each column.

    Args:
        dataset_folder: Where the files are.
    """

    def __init__(self, dataset_folder: str | Path) -> None:
        self.dataset_folder = dataset_folder

    def get_examples(self, filename: str, max_examples: int = 0) -> list[InputExample]:
        """Examples of two texts.

        Args:
            filename: The common end of the names of three files: `s1.…` with the first sentences, `s2.…`
                with the second and `labels.…`; packed if it ends with `.gz`.
            max_examples: How many at most; 0 for all.

        Raises:
            ValueError: If a label is not one of `get_labels`, or the files differ in length.
        """
        folder = Path(self.dataset_folder)
        columns = [lines(folder / f"{part}.{filename}") for part in ("s1", "s2", "labels")]
        return [
            InputExample(guid=f"{filename}-{number}", texts=[first, second], label=self.map_label(label))
            for number, (first, second, label) in enumerate(
                islice(zip(*columns, strict=True), max_examples or None)
            )
        ]

    @staticmethod
    def get_labels() -> dict[str, int]:
        """Number of each label."""
        return {"contradiction": 0, "entailment": 1, "neutral": 2}

    def get_num_labels(self) -> int:
        return len(self.get_labels())

    def map_label(self, label: str) -> int:
        """Number of a label."""
        name = label.strip().lower()
        if name not in self.get_labels():
            raise ValueError(f"Unknown label {label!r}. Known: {', '.join(self.get_labels())}.")
        return self.get_labels()[name]
