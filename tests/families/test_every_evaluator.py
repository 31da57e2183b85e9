"""What every evaluator promises, whatever it measures.

An evaluator joins by one row in `EVERY_EVALUATOR`: how it is built, and how with nothing to evaluate. Only
NanoBEIREvaluator, which loads its data itself and runs several others, is tested by its own.
"""

from __future__ import annotations

import copy
import csv
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from sentence_transformers import InputExample, SentenceTransformer, evaluation
from tiny import WIDTH, sample_texts, tiny_checkpoint

TEXTS = [text[:60] for text in sample_texts()]
FIRST, SECOND, THIRD = TEXTS[:6], TEXTS[6:12], TEXTS[12:18]


class PairClassifier(torch.nn.Module):
    """Two classes from a pair of embeddings, called like the loss of that kind."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.layer = torch.nn.Linear(2 * WIDTH, 2)

    def forward(self, features: list[dict[str, Any]], labels: Any) -> Any:
        embeddings = [self.model(column)["sentence_embedding"] for column in features]
        return embeddings, self.layer(torch.cat(embeddings, dim=1))


def labelled(texts: list[str]) -> DataLoader:
    return DataLoader([InputExample(texts=[text, text], label=1) for text in texts], batch_size=4)


@dataclass(frozen=True)
class Row:
    """How to build an evaluator."""

    evaluator: str
    """Name of the class."""

    data: Callable[[Any], dict[str, Any]]
    """Arguments with something to evaluate, made with a model that may serve as a teacher."""

    nothing: Callable[[Any], dict[str, Any]] | None
    """The same with nothing to evaluate; None where that is allowed."""

    @property
    def kind(self) -> type:
        return getattr(evaluation, self.evaluator)

    def build(self, model: Any, **settings: Any) -> Any:
        return self.kind(**self.data(model), **settings)

    def takes(self, argument: str) -> bool:
        return argument in inspect.signature(self.kind).parameters


EVERY_EVALUATOR = [
    Row(
        "EmbeddingSimilarityEvaluator",
        lambda model: {"sentences1": FIRST, "sentences2": SECOND, "scores": [0.1, 0.9, 0.3, 0.4, 0.0, 1.0]},
        lambda model: {"sentences1": [], "sentences2": [], "scores": []},
    ),
    Row(
        "BinaryClassificationEvaluator",
        lambda model: {"sentences1": FIRST, "sentences2": SECOND, "labels": [1, 0, 0, 1, 1, 0]},
        lambda model: {"sentences1": [], "sentences2": [], "labels": []},
    ),
    Row(
        "TripletEvaluator",
        lambda model: {"anchors": FIRST, "positives": SECOND, "negatives": THIRD},
        lambda model: {"anchors": [], "positives": [], "negatives": []},
    ),
    Row(
        "TranslationEvaluator",
        lambda model: {"source_sentences": FIRST, "target_sentences": SECOND},
        lambda model: {"source_sentences": [], "target_sentences": []},
    ),
    Row(
        "MSEEvaluator",
        lambda model: {"source_sentences": FIRST, "target_sentences": SECOND, "teacher_model": model},
        lambda model: {"source_sentences": [], "target_sentences": [], "teacher_model": model},
    ),
    Row(
        "MSEEvaluatorFromDataFrame",
        lambda model: {
            "dataframe": [{"en": a, "de": b} for a, b in zip(FIRST, SECOND)],
            "teacher_model": model,
            "combinations": [("en", "de")],
        },
        lambda model: {"dataframe": [], "teacher_model": model, "combinations": [("en", "de")]},
    ),
    Row(
        "LabelAccuracyEvaluator",
        lambda model: {"dataloader": labelled(FIRST), "softmax_model": PairClassifier(model)},
        lambda model: {"dataloader": labelled([]), "softmax_model": PairClassifier(model)},
    ),
    Row(
        "InformationRetrievalEvaluator",
        lambda model: {
            "queries": dict(enumerate(FIRST)),
            "corpus": dict(enumerate(SECOND + THIRD)),
            "relevant_docs": {number: {number, number + 6} for number in range(6)},
        },
        lambda model: {"queries": {}, "corpus": {}, "relevant_docs": {}},
    ),
    Row(
        "RerankingEvaluator",
        lambda model: {
            "samples": [
                {"query": query, "positive": SECOND[:number], "negative": THIRD[: 7 - number]}
                for number, query in enumerate(FIRST, start=1)
            ]
        },
        lambda model: {"samples": []},
    ),
    Row(
        "ParaphraseMiningEvaluator",
        lambda model: {
            "sentences_map": {f"{number}": text for number, text in enumerate(FIRST + SECOND)},
            "duplicates_list": [("0", "6"), ("1", "7"), ("1", "2")],
        },
        lambda model: {"sentences_map": {}, "duplicates_list": []},
    ),
    Row(
        "SequentialEvaluator",
        lambda model: {
            "evaluators": [
                evaluation.TripletEvaluator(FIRST, SECOND, THIRD, name=name) for name in ("a", "b")
            ]
        },
        None,
    ),
]


def that_take(argument: str) -> Any:
    """Those evaluators that have an argument."""
    return pytest.mark.parametrize(
        "row", [row for row in EVERY_EVALUATOR if row.takes(argument)], ids=lambda row: row.evaluator
    )


every_evaluator = pytest.mark.parametrize("row", EVERY_EVALUATOR, ids=lambda row: row.evaluator)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = tiny_checkpoint("bert", tmp_path_factory.mktemp("bert"))
    prompts = {"query": "query: ", "document": "passage: ", "task": "task: "}
    return SentenceTransformer(str(folder), device="cpu", prompts=prompts)


@pytest.fixture
def model(loaded):
    """A model of its own for each test, in training mode as in the middle of training."""
    return copy.deepcopy(loaded).train()


@every_evaluator
def test_metrics_are_plain_floats_and_the_main_one_is_among_them(row, model):
    evaluator = row.build(model)
    metrics = evaluator(model)
    assert metrics
    assert {type(value) for value in metrics.values()} == {float}
    assert evaluator.primary_metric in metrics
    assert evaluator.greater_is_better is True


@every_evaluator
def test_a_second_call_gives_the_same(row, model):
    evaluator = row.build(model)
    first = evaluator(model)
    main = evaluator.primary_metric
    assert evaluator(model) == pytest.approx(first, abs=1e-6)
    assert evaluator.primary_metric == main


@that_take("name")
def test_a_name_stands_in_front_of_every_metric(row, model):
    plain, named = row.build(model), row.build(model, name="dev")
    expected = {f"dev_{key}" for key in plain(model)}
    assert set(named(model)) == expected
    assert named.primary_metric == f"dev_{plain.primary_metric}"


@that_take("name")
def test_a_name_that_begins_like_a_metric_is_put_in_front_all_the_same(row, model):
    plain = row.build(model)
    plain(model)
    name = plain.primary_metric.split("_")[0]
    evaluator = row.build(model, name=name)
    for _call in range(2):
        metrics = evaluator(model)
        assert evaluator.primary_metric == f"{name}_{plain.primary_metric}"
        assert evaluator.primary_metric in metrics


@that_take("write_csv")
def test_each_call_adds_a_row_below_one_header(row, model, tmp_path):
    evaluator = row.build(model)
    folder = tmp_path / "not" / "yet there"
    evaluator(model, str(folder))
    evaluator(model, str(folder), epoch=2, steps=30)
    assert [path.name for path in folder.iterdir()] == [evaluator.csv_file]
    with open(folder / evaluator.csv_file, newline="", encoding="utf-8") as file:
        header, first, second = csv.reader(file)
    assert header == evaluator.csv_headers
    assert header[:2] == ["epoch", "steps"]
    assert len(header) == len(first) == len(second) > 2
    assert first[:2] == ["-1", "-1"]
    assert second[:2] == ["2", "30"]
    np.testing.assert_allclose(list(map(float, first[2:])), list(map(float, second[2:])), atol=1e-5)


@that_take("write_csv")
def test_no_file_is_written_unless_it_is_wanted(row, model, tmp_path):
    row.build(model, write_csv=False)(model, str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@every_evaluator
def test_the_model_card_hears_of_the_metrics(row, model):
    evaluator = row.build(model)
    metrics = evaluator(model)
    told = {}
    for result in model.model_card_data.evaluation_results:
        prefix = f"{result.name}_" if result.name else ""
        told.update({prefix + key: value for key, value in result.metrics.items()})
    metrics.pop("sequential_score", None)
    assert told == metrics


@every_evaluator
def test_the_model_is_left_as_it_was(row, model):
    model[1].eval()
    before = {name: part.training for name, part in model.named_modules()}  # not all of them are built yet
    settings = (dict(model.prompts), model.default_prompt_name, model.truncate_dim, model.similarity_fn_name)
    row.build(model)(model)
    after = {name: part.training for name, part in model.named_modules()}
    assert {name: after[name] for name in before} == before
    assert all(after[name] for name in after.keys() - before.keys())
    assert (
        model.prompts,
        model.default_prompt_name,
        model.truncate_dim,
        model.similarity_fn_name,
    ) == settings
    assert all(weight.grad is None for weight in model.parameters())


@that_take("truncate_dim")
def test_truncation_holds_for_the_call_only(row, model):
    evaluator = row.build(model, truncate_dim=8)
    cut = evaluator(model)
    assert model.truncate_dim is None
    model.truncate_dim = 8
    as_set_on_the_model = row.build(model)(model)
    assert sorted(cut.values()) == pytest.approx(sorted(as_set_on_the_model.values()), abs=1e-6)


@pytest.mark.parametrize(
    "row", [row for row in EVERY_EVALUATOR if row.nothing is not None], ids=lambda row: row.evaluator
)
def test_nothing_to_evaluate_is_an_error_that_says_so(row, model):
    with pytest.raises(ValueError, match=r"no |nothing|No ") as raised:
        row.kind(**row.nothing(model))(model)
    assert isinstance(raised.value, AssertionError)
