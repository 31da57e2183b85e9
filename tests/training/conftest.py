"""Tiny models and data for the tests of training; nothing here takes more than a moment."""

from __future__ import annotations

import copy

import pytest
import torch
from datasets import Dataset

from sentence_transformers import SentenceTransformer, SentenceTransformerTrainingArguments
from tiny import sample_texts, tiny_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Folder of a tiny BERT checkpoint, with dropout as usual."""
    return tiny_checkpoint("bert", tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def original(checkpoint):
    return SentenceTransformer(str(checkpoint), device="cpu")


@pytest.fixture
def model(original):
    """A tiny model of its own for each test, always with the same weights."""
    return copy.deepcopy(original)


@pytest.fixture
def pairs():
    """Sixteen rows of texts of very different lengths, each with its own beginning."""
    texts = sample_texts()[:16]
    return Dataset.from_dict({"anchor": [text[: len(text) // 2] for text in texts], "positive": texts})


@pytest.fixture
def scored(pairs):
    return Dataset.from_dict(
        {
            "sentence1": pairs["anchor"][:],
            "sentence2": pairs["positive"][:],
            "score": [row % 5 / 4 for row in range(16)],
        }
    )


@pytest.fixture
def arguments(tmp_path):
    """Makes arguments of a short run on the CPU."""

    def made(**settings):
        usual = {
            "output_dir": str(tmp_path / "run"),
            "max_steps": 2,
            "per_device_train_batch_size": 4,
            "per_device_eval_batch_size": 4,
            "learning_rate": 1e-3,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "use_cpu": True,
            "disable_tqdm": True,
        }
        return SentenceTransformerTrainingArguments(**{**usual, **settings})

    return made


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    """The models are so small that a second thread is only waited for."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
