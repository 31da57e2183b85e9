"""Read sentence pairs with a score of how similar they are."""

from __future__ import annotations

import csv
from pathlib import Path

from sentence_transformers.inputs.example import InputExample
from sentence_transformers.readers.text_files import table_rows


class STSDataReader:
    """Reads tables with two sentences and their similarity in each row.

    Args:
        dataset_folder: Where the files are.
        s1_col_idx: Column of the first sentence, counted from 0.
        s2_col_idx: Column of the second.
        score_col_idx: Column of the score.
        delimiter: Stands between columns.
        quoting: One of the `csv.QUOTE_…` numbers.
        normalize_scores: Map scores so that `min_score` becomes 0 and `max_score` becomes 1.
        min_score: The lowest score there is.
        max_score: The highest.
    """

    def __init__(
        self,
        dataset_folder: str | Path,
        s1_col_idx: int = 0,
        s2_col_idx: int = 1,
        score_col_idx: int = 2,
        delimiter: str = "\t",
        quoting: int = csv.QUOTE_NONE,
        normalize_scores: bool = True,
        min_score: float = 0,
        max_score: float = 5,
    ) -> None:
        self.dataset_folder = dataset_folder
        self.s1_col_idx = s1_col_idx
        self.s2_col_idx = s2_col_idx
        self.score_col_idx = score_col_idx
        self.delimiter = delimiter
        self.quoting = quoting
        self.normalize_scores = normalize_scores
        self.min_score = min_score
        self.max_score = max_score

    def get_examples(self, filename: str, max_examples: int = 0) -> list[InputExample]:
        """Examples of two texts, labelled with their score.

        Args:
            filename: Name of the file in the folder, packed if it ends with `.gz`.
            max_examples: How many at most; 0 for all.

        Raises:
            ValueError: If a row has too few columns, or a score is no number.
        """
        rows = table_rows(
            Path(self.dataset_folder) / filename,
            delimiter=self.delimiter,
            quoting=self.quoting,
            columns=[self.s1_col_idx, self.s2_col_idx, self.score_col_idx],
            limit=max_examples,
        )
        return [
            InputExample(guid=f"{filename}{number}", texts=[first, second], label=self.scaled(float(score)))
            for number, (first, second, score) in enumerate(rows)
        ]

    def scaled(self, score: float) -> float:
        if not self.normalize_scores:
            return score
        return (score - self.min_score) / (self.max_score - self.min_score)


class STSBenchmarkDataReader(STSDataReader):
    """Reads the files of the STS benchmark: a `STSDataReader` with its columns."""

    def __init__(
        self,
        dataset_folder: str | Path,
        s1_col_idx: int = 5,
        s2_col_idx: int = 6,
        score_col_idx: int = 4,
        delimiter: str = "\t",
        quoting: int = csv.QUOTE_NONE,
        normalize_scores: bool = True,
        min_score: float = 0,
        max_score: float = 5,
    ) -> None:
        super().__init__(
            dataset_folder,
            s1_col_idx,
            s2_col_idx,
            score_col_idx,
            delimiter,
            quoting,
            normalize_scores,
            min_score,
            max_score,
        )
