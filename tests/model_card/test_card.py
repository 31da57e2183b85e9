"""The README of a model."""

from __future__ import annotations

import copy
import re
import socket

import pytest
from huggingface_hub import ModelCard
from torch import nn

from sentence_transformers.model_card.card import SECTIONS, generate_model_card
from sentence_transformers.model_card.data import BaseModelCardData
from sentence_transformers.model_card.sentence_transformer import SentenceTransformerModelCardData
from tiny import tiny_checkpoint


class Loss(nn.Module):
    citation = "@article{paper}"


class TripletEvaluator:
    name = "dev"
    primary_metric = "dev_accuracy"
    description = "Triplet"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_checkpoint("bert", tmp_path_factory.mktemp("card") / "tiny")


@pytest.fixture
def model(folder):
    from sentence_transformers import SentenceTransformer, models

    transformer = models.Transformer(str(folder))
    return SentenceTransformer(modules=[transformer, models.Pooling(32)], device="cpu")


@pytest.fixture
def trained(model):
    card = model.model_card_data = SentenceTransformerModelCardData("en", "mit", "My Model", "me/mine")
    card.register_model(model)
    card.train_datasets = [
        {
            "name": "pairs",
            "id": "owner/pairs",
            "size": 12345,
            "columns": ["a"],
            "stats": {"a": {"type": "string", "max": "9 tokens"}},
            "examples": [{"a": "with | a bar\nand a line"}],
            "loss": {"name": "Loss", "settings": {"scale": 20.0}},
        }
    ]
    card.all_hyperparameters = {"learning_rate": 2e-5, "seed": 42, "output_dir": "out"}
    card.non_default_hyperparameters = {"bf16": True}
    card.set_losses([Loss()])
    card.set_evaluation_metrics(TripletEvaluator(), {"dev_accuracy": 0.875}, epoch=1, step=10)
    card.training_duration = 90.0
    return model


def test_an_untrained_model_tells_what_it_is_and_how_to_use_it(model):
    text = generate_model_card(model)
    assert "**Maximum input length:** 128 tokens" in text
    assert "**Output dimensions:** 32" in text
    assert "**Similarity function:** cosine" in text
    assert "(1): Pooling(" in text
    assert "## Training" not in text
    assert "## Evaluation" not in text


def test_the_front_matter_is_what_the_hub_library_reads(trained):
    card = ModelCard(generate_model_card(trained))
    assert card.data.language == ["en"]
    assert card.data.license == "mit"
    assert card.data.library_name == "sentence-transformers"
    assert card.data.pipeline_tag == "sentence-similarity"
    assert {"sentence-transformers", "dense", "loss:Loss"} <= set(card.data.tags)
    assert card.data.datasets == ["owner/pairs"]
    assert card.data.metrics == ["accuracy"]
    (result,) = card.data.eval_results
    assert (result.task_type, result.metric_type, result.metric_value) == ("triplet", "accuracy", 0.875)


def test_a_trained_model_tells_how_it_was_trained(trained):
    text = generate_model_card(trained)
    for part in (
        "# My Model\n",
        "### Training data: pairs",
        "- Rows: 12,345",
        '"scale": 20.0',
        r"| with \| a bar and a line |",
        "- `learning_rate`: 2e-05",
        "- `bf16`: True",
        "| **accuracy** | 0.875 |",
        "| Epoch | Step | dev_accuracy |",
        "- Training: 1.5 minutes",
        "@article{paper}",
    ):
        assert part in text
    assert "output_dir" not in text


def test_the_usage_code_runs_and_prints_what_its_comment_says(trained, capsys, monkeypatch):
    import sentence_transformers

    (code,) = re.findall(r"```python\n(.*?)```", generate_model_card(trained), flags=re.DOTALL)
    assert 'SentenceTransformer("me/mine")' in code
    monkeypatch.setattr(sentence_transformers, "SentenceTransformer", lambda name: trained)
    exec(code, {})
    printed = capsys.readouterr().out
    assert "(3, 32)" in printed
    assert "print(embeddings.shape)  # (3, 32)" in code


def test_similarities_are_shown_once_the_usage_code_was_run(trained):
    card = trained.model_card_data
    card.run_usage_snippet()
    shown = [line for line in card.generate_usage_snippet().splitlines() if line.startswith("# ")]
    assert len(shown) == 3
    for number, line in enumerate(shown):
        assert re.findall(r"-?\d\.\d+", line)[number] == "1.0000"


def test_a_card_is_made_without_any_network(trained, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert generate_model_card(trained)


def test_a_section_that_fails_is_left_out(trained, monkeypatch):
    def fail():
        raise RuntimeError("broken")

    monkeypatch.setattr(trained.model_card_data, "format_eval_metrics", fail)
    text = generate_model_card(trained)
    assert text.startswith("---\nlibrary_name: sentence-transformers\n---")
    assert "## Evaluation" not in text
    assert "## Usage" in text


def test_a_model_that_lacks_everything_gets_a_card_too():
    class Bare(nn.Module):
        model_card_data = BaseModelCardData()

    text = generate_model_card(Bare())
    assert text.startswith("---\n")
    assert "## Usage" in text
    assert len(SECTIONS) > 5


def test_a_model_without_input_limit_claims_none():
    class Unlimited(nn.Module):
        model_card_data = BaseModelCardData()
        max_seq_length = float("inf")

    assert "Maximum input length" not in generate_model_card(Unlimited())


def test_a_huge_setting_is_only_hinted_at():
    class Wordy(nn.Module):
        model_card_data = BaseModelCardData()

        def __repr__(self) -> str:
            return "Wordy(" + ", ".join(f"word{number}" for number in range(10000)) + ")"

    assert len(generate_model_card(Wordy())) < 3000


def test_the_base_model_is_linked_and_no_path_is_shown(model, folder):
    assert str(folder) not in generate_model_card(model)
    model.transformers_model.config._name_or_path = "google-bert/bert-base-uncased"
    text = generate_model_card(model)
    assert "[google-bert/bert-base-uncased](https://huggingface.co/google-bert/bert-base-uncased)" in text
    assert ModelCard(text).data.base_model == "google-bert/bert-base-uncased"


def test_long_logs_are_folded(trained):
    for step in range(100):
        trained.model_card_data.add_training_log(step, 10 * step, {"Training Loss": 1.0})
    assert "<details><summary>" in generate_model_card(trained)


def test_a_copied_model_has_a_card_of_its_own(trained):
    other = copy.deepcopy(trained)
    assert other.model_card_data.model is other
    assert trained.model_card_data.model is trained
