"""Read sentences with a label."""

from __future__ import annotations

from pathlib import Path

from sentence_transformers.inputs.example import InputExample
from sentence_transformers.readers.text_files import lines


class LabelSentenceReader:
    """Reads tables with a label and a sentence in each line.

    Labels become numbers in the order in which they first appear; `label_map` remembers them from one file
    to the next.

    Args:
        folder: Where the files are.
        label_col_idx: Column of the label, counted from 0.
        sentence_col_idx: Column of the sentence.
        separator: Stands between columns.
    """

    def __init__(
        self,
        folder: str | Path,
        label_col_idx: int = 0,
        sentence_col_idx: int = 1,
        separator: str = "\t",
    ) -> None:
        self.folder = folder
        self.label_map: dict[str, int] = {}
        self.label_col_idx = label_col_idx
        self.sentence_col_idx = sentence_col_idx
        self.separator = separator

    def get_examples(self, filename: str, max_examples: int = 0) -> list[InputExample]:
        """Examples of a file, one text each.

        Args:
            filename: Name of the file in the folder, packed if it ends with `.gz`.
            max_examples: How many at most; 0 for all.

        Raises:
            ValueError: If a line has too few columns. Empty lines are passed over.
        """
        path = Path(self.folder) / filename
        needed = max(self.label_col_idx, self.sentence_col_idx)
        examples: list[InputExample] = []
        for number, line in enumerate(lines(path), start=1):
            if not line.strip():
                continue
            columns = line.strip().split(self.separator)
            if len(columns) <= needed:
                raise ValueError(
                    f"{path}, line {number}: column {needed} is asked for, counted from 0, and the line has "
                    f"{len(columns)} columns. Check the column numbers and the separator {self.separator!r}."
                )
            label = self.label_map.setdefault(columns[self.label_col_idx], len(self.label_map))
            examples.append(
                InputExample(
                    guid=f"{filename}-{len(examples)}", texts=[columns[self.sentence_col_idx]], label=label
                )
            )
            if len(examples) == max_examples:
                break
        return examples
