from __future__ import annotations

from torch.utils.data import DataLoader

from sentence_transformers.datasets import SentencesDataset
from sentence_transformers.readers import InputExample


def test_examples_come_by_number_and_a_loader_takes_them():
    examples = [InputExample(texts=[str(number)]) for number in range(5)]
    dataset = SentencesDataset(examples, model=None)
    assert [dataset[2], len(dataset)] == [examples[2], 5]
    batches = list(DataLoader(dataset, batch_size=2, collate_fn=list))
    assert batches == [examples[:2], examples[2:4], examples[4:]]
