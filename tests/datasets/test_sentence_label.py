from __future__ import annotations

import numpy as np
import pytest
from torch.utils.data import DataLoader

from sentence_transformers.datasets import SentenceLabelDataset
from sentence_transformers.readers import InputExample

EXAMPLES = [
    InputExample(texts=[str(number)], label=label)
    for number, label in enumerate([0, 0, 0, 1, 1, 2, 3, 3, 3, 3])
]


@pytest.fixture(autouse=True)
def _same_chance():
    np.random.seed(0)


@pytest.mark.parametrize("with_replacement", [True, False])
@pytest.mark.parametrize("samples_per_label", [1, 2, 3, 4])
def test_examples_of_a_label_stand_together(samples_per_label, with_replacement):
    dataset = SentenceLabelDataset(EXAMPLES, samples_per_label, with_replacement)
    given = list(dataset)
    assert len(dataset) - samples_per_label < len(given) <= len(dataset)
    groups = [given[at : at + samples_per_label] for at in range(0, len(given), samples_per_label)]
    for group in groups:
        assert len({example.label for example in group}) == 1
        assert len({example.texts[0] for example in group}) == samples_per_label


def test_labels_with_too_few_examples_are_left_out():
    dataset = SentenceLabelDataset(EXAMPLES, samples_per_label=3)
    assert len(dataset) == 7
    assert {example.label for example in dataset} == {0, 3}
    assert list(SentenceLabelDataset(EXAMPLES, samples_per_label=5)) == []


def test_without_replacement_all_examples_come_before_one_comes_again():
    examples = [InputExample(texts=[str(number)], label=number % 2) for number in range(12)]
    given = [example.texts[0] for example in SentenceLabelDataset(examples)]
    assert sorted(given, key=int) == [str(number) for number in range(12)]


def test_each_pass_has_another_order():
    dataset = SentenceLabelDataset(EXAMPLES)
    assert list(dataset) != list(dataset)


def test_a_loader_gets_no_more_than_the_length_says():
    loader = DataLoader(SentenceLabelDataset(EXAMPLES), batch_size=4, collate_fn=list)
    assert [len(batch) for batch in loader] == [4, 4]


def test_no_samples_per_label_are_refused():
    with pytest.raises(ValueError, match="samples_per_label=0"):
        SentenceLabelDataset(EXAMPLES, samples_per_label=0)
