"""Results of evaluators as tables and as hub metadata."""

from __future__ import annotations

import pytest

from sentence_transformers.model_card.evaluation_facts import (
    EvaluationResult,
    evaluation_tables,
    model_index,
    words_of,
)


class TripletEvaluator:
    description = "Triplet"

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.primary_metric = f"{name}_cosine_accuracy" if name else "cosine_accuracy"


def result(name: str, value: float = 0.5) -> EvaluationResult:
    return EvaluationResult.of(TripletEvaluator(name), {f"{name}_cosine_accuracy": value})


def test_metrics_lose_the_evaluators_name():
    read = result("dev")
    assert read.metrics == {"cosine_accuracy": 0.5}
    assert read.primary_metric == "cosine_accuracy"


def test_an_evaluator_without_name_or_description_is_described_by_its_class():
    class InformationRetrievalEvaluator:
        pass

    read = EvaluationResult.of(InformationRetrievalEvaluator(), {"ndcg@10": 1})
    assert (read.name, read.description, read.primary_metric) == ("", "Information Retrieval", None)
    assert read.is_retrieval


@pytest.mark.parametrize(
    ("name", "words"), [("MSEEvaluator", "MSE"), ("EmbeddingSimilarityEvaluator", "Embedding Similarity")]
)
def test_class_names_become_words(name, words):
    assert words_of(name) == words


def test_results_of_one_kind_share_a_table():
    tables = evaluation_tables(
        [result("dev"), result("test", 0.75), EvaluationResult("X", "", "X", None, {"a": 1.0})]
    )
    assert [entry["class_name"] for entry in tables] == ["TripletEvaluator", "X"]
    assert tables[0]["dataset_names"] == "dev, test"
    assert tables[0]["table_lines"].splitlines()[0] == "| Metric | dev | test |"
    assert tables[0]["table_lines"].splitlines()[2] == "| **cosine_accuracy** | 0.5 | 0.75 |"


def test_the_model_index_is_what_the_hub_reads():
    from huggingface_hub.repocard_data import model_index_to_eval_results

    name, results = model_index_to_eval_results(model_index("my model", [result("all-nli_dev")]))
    assert name == "my model"
    (read,) = results
    assert (read.task_type, read.dataset_name, read.dataset_type) == ("triplet", "all nli dev", "all-nli_dev")
    assert (read.metric_type, read.metric_value, read.metric_name) == (
        "cosine_accuracy",
        0.5,
        "Cosine Accuracy",
    )


def test_values_that_are_not_finite_stay_out_of_the_model_index():
    (index,) = model_index("m", [result("dev", float("nan"))])
    assert index["results"][0]["metrics"] == []
    assert model_index("m", []) == []
