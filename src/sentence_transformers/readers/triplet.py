"""Read triplets: a text, one like it, and one unlike it."""

from __future__ import annotations

import csv
from pathlib import Path

from sentence_transformers.inputs.example import InputExample
from sentence_transformers.readers.text_files import table_rows


class TripletReader:
    """Reads tables with three texts in each row.

    Args:
        dataset_folder: Where the files are.
        s1_col_idx: Column of the anchor, counted from 0.
        s2_col_idx: Column of the text like it.
        s3_col_idx: Column of the text unlike it.
        has_header: Pass over the first row.
        delimiter: Stands between columns.
        quoting: One of the `csv.QUOTE_…` numbers.
    """

    def __init__(
        self,
        dataset_folder: str | Path,
        s1_col_idx: int = 0,
        s2_col_idx: int = 1,
        s3_col_idx: int = 2,
        has_header: bool = False,
        delimiter: str = "\t",
        quoting: int = csv.QUOTE_NONE,
    ) -> None:
        self.dataset_folder = dataset_folder
        self.s1_col_idx = s1_col_idx
        self.s2_col_idx = s2_col_idx
        self.s3_col_idx = s3_col_idx
        self.has_header = has_header
        self.delimiter = delimiter
        self.quoting = quoting

    def get_examples(self, filename: str, max_examples: int = 0) -> list[InputExample]:
        """Examples of three texts.

        Args:
            filename: Name of the file in the folder, packed if it ends with `.gz`.
            max_examples: How many at most; 0 for all.

        Raises:
            ValueError: If a row has too few columns.
        """
        rows = table_rows(
            Path(self.dataset_folder) / filename,
            delimiter=self.delimiter,
            quoting=self.quoting,
            columns=[self.s1_col_idx, self.s2_col_idx, self.s3_col_idx],
            skip=int(self.has_header),
            limit=max_examples,
        )
        return [InputExample(texts=texts) for texts in rows]
