"""SequentialEvaluator, beyond what all evaluators promise."""

from __future__ import annotations

import logging

import pytest

from sentence_transformers.evaluation import SentenceEvaluator, SequentialEvaluator, TripletEvaluator


class Returns(SentenceEvaluator):
    """Returns what it is given, and notes how it was called."""

    def __init__(self, result, primary=None):
        super().__init__()
        self.result = result
        self.primary_metric = primary
        self.calls = []

    def __call__(self, model, output_path=None, epoch=-1, steps=-1):
        self.calls.append((model, output_path, epoch, steps))
        return self.result


def test_the_metrics_of_all_are_returned_and_the_last_main_score_counts():
    evaluators = [Returns({"a": 1.0, "b": 2.0}, "b"), Returns({"c": 3.0, "d": 4.0}, "c")]
    evaluator = SequentialEvaluator(evaluators)
    assert evaluator("model", "folder", 3, 40) == {
        "a": 1.0,
        "b": 2.0,
        "c": 3.0,
        "d": 4.0,
        "sequential_score": 3.0,
    }
    assert evaluator.primary_metric == "sequential_score"
    assert [one.calls for one in evaluators] == [[("model", "folder", 3, 40)]] * 2


def test_a_function_makes_the_main_score_from_those_of_all():
    evaluators = (Returns({"a": 1.0}, "a"), Returns({"b": 3.0}, "b"))
    evaluator = SequentialEvaluator(iter(evaluators), main_score_function=lambda scores: sum(scores) / 2)
    assert evaluator(None)["sequential_score"] == 2.0


def test_an_evaluator_that_returns_one_number_gets_a_name():
    evaluator = SequentialEvaluator([Returns({"a": 1.0}, "a"), Returns(0.5)])
    assert evaluator(None) == {"a": 1.0, "evaluator_1": 0.5, "sequential_score": 0.5}


def test_an_evaluator_that_names_no_main_metric_counts_with_its_first():
    assert SequentialEvaluator([Returns({"x": 0.25, "y": 1.0})])(None)["sequential_score"] == 0.25


def test_no_evaluators_score_nothing():
    assert SequentialEvaluator([])(None) == {"sequential_score": 0.0}


def test_metrics_of_the_same_name_are_warned_about(dense, caplog):
    texts = ["a", "b"]
    unnamed = [TripletEvaluator(texts, texts, texts[::-1]) for _ in range(2)]
    with caplog.at_level(logging.WARNING):
        SequentialEvaluator(unnamed)(dense)
    assert "cosine_accuracy" in caplog.text
    caplog.clear()
    named = [TripletEvaluator(texts, texts, texts[::-1], name=name) for name in texts]
    SequentialEvaluator(named)(dense)
    assert caplog.text == ""


def test_one_may_stand_in_another():
    inner = SequentialEvaluator([Returns({"a": 1.0}, "a")])
    assert SequentialEvaluator([inner, Returns(0.5)])(None) == {
        "a": 1.0,
        "sequential_score": 0.5,
        "evaluator_1": 0.5,
    }


@pytest.mark.parametrize("count", [1, 3])
def test_a_list_runs_in_its_order(count):
    order = []

    class Notes(Returns):
        def __call__(self, *args, **kwargs):
            order.append(self.result)
            return self.result

    SequentialEvaluator([Notes(float(number)) for number in range(count)])(None)
    assert order == list(map(float, range(count)))
