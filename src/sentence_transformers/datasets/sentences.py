"""A list of examples as a data set."""

from __future__ import annotations

from typing import Any

from torch.utils.data import Dataset

from sentence_transformers.inputs.example import InputExample


class SentencesDataset(Dataset):
    """Examples by number. A list does as well; older programs make one of these of it.

    Args:
        examples: The examples.
        model: Not used any more; texts are tokenised when a batch is built.
    """

    def __init__(self, examples: list[InputExample], model: Any) -> None:
        self.examples = examples

    def __getitem__(self, item: int) -> InputExample:
        return self.examples[item]

    def __len__(self) -> int:
        return len(self.examples)
