"""What users build on: the base class, names, errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sentence_transformers import InputExample
from sentence_transformers.evaluation import BaseEvaluator, SentenceEvaluator
from sentence_transformers.evaluation.base import EvaluationDataError, check_rows, columns_of, undisturbed


class WordCountEvaluator(SentenceEvaluator):
    """As programs write them: nothing but `__call__`, and no call of the base's `__init__`."""

    def __init__(self):
        self.name = "words"

    def __call__(self, model, output_path=None, epoch=-1, steps=-1):
        self.primary_metric = "count"
        metrics = self.prefix_name_to_metrics({"count": np.float32(2.5), "loss": torch.tensor(1)}, self.name)
        self.store_metrics_in_model_card_data(model, metrics, epoch, steps)
        return metrics


def test_both_names_are_one_class():
    assert SentenceEvaluator is BaseEvaluator


def test_a_class_with_nothing_but_a_call_is_an_evaluator(dense):
    evaluator = WordCountEvaluator()
    metrics = dense.evaluate(evaluator)
    assert metrics == {"words_count": 2.5, "words_loss": 1.0}
    assert {type(value) for value in metrics.values()} == {float}
    assert evaluator.primary_metric == "words_count"
    assert evaluator.greater_is_better is True
    assert evaluator.get_config_dict() == {}
    assert evaluator.description == "Word Count"
    told = dense.model_card_data.evaluation_results[-1]
    assert (told.evaluator, told.name, told.metrics) == (
        "WordCountEvaluator",
        "words",
        {"count": 2.5, "loss": 1.0},
    )


def test_a_model_without_a_card_is_fine():
    assert WordCountEvaluator()(object()) == {"words_count": 2.5, "words_loss": 1.0}


def test_an_evaluator_without_a_call_says_what_is_missing(dense):
    with pytest.raises(NotImplementedError, match="__call__"):
        BaseEvaluator()(dense)


@pytest.mark.parametrize(
    ("name", "primary", "expected"),
    [
        ("", "cosine_ap", "cosine_ap"),
        ("dev", "cosine_ap", "dev_cosine_ap"),
        ("dev", "dev_cosine_ap", "dev_cosine_ap"),
        ("cosine", "cosine_ap", "cosine_cosine_ap"),
        ("dev", None, None),
    ],
)
def test_the_main_metric_is_prefixed_once(name, primary, expected):
    evaluator = BaseEvaluator()
    evaluator.primary_metric = primary
    for _ in range(2):
        evaluator.prefix_name_to_metrics({"cosine_ap": 1}, name)
        assert evaluator.primary_metric == expected


def test_what_is_no_number_stays_as_it_is():
    assert BaseEvaluator().prefix_name_to_metrics({"a": "3", "b": [1, 2], "c": None}, "x") == {
        "x_a": "3",
        "x_b": [1, 2],
        "x_c": None,
    }


def test_unequal_lists_are_told_apart_with_their_lengths():
    with pytest.raises(EvaluationDataError, match="2 queries and 1 answers"):
        check_rows("AnyEvaluator", queries=["a", "b"], answers=["c"])


def test_errors_about_data_are_caught_the_old_way_and_the_new():
    for kind in (AssertionError, ValueError):
        with pytest.raises(kind):
            check_rows("AnyEvaluator", queries=[], answers=[])


def test_examples_with_the_wrong_number_of_texts_are_named():
    examples = [InputExample(texts=["a", "b"]), InputExample(texts=["a", "b", "c"])]
    with pytest.raises(EvaluationDataError, match="Example 1 has 3 texts"):
        columns_of(examples, 2)


def test_modules_built_meanwhile_get_the_mode_of_the_one_above():
    model = torch.nn.Sequential(torch.nn.Sequential(torch.nn.Dropout()), torch.nn.Dropout()).train()
    model[1].eval()
    with undisturbed(model):
        model[0][0] = torch.nn.Sequential(torch.nn.Dropout().eval()).eval()
        model.eval()
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()
    assert [module.training for module in model.modules()] == [True, True, True, True, False]
