"""What evaluators answer is read in one way."""

from __future__ import annotations

import pytest

from sentence_transformers.training.evaluator_scores import gain, run_evaluator, score_in


class Evaluator:
    def __init__(self, answer, **attributes) -> None:
        self.answer = answer
        self.__dict__.update(attributes)

    def __call__(self, model, output_path=None, epoch=-1, steps=-1):
        self.called_with = (model, output_path, epoch, steps)
        return self.answer


@pytest.mark.parametrize(
    ("evaluator", "metrics", "score"),
    [
        (Evaluator(0.5), {"eval_evaluator": 0.5}, 0.5),
        (
            Evaluator({"map": 0.5, "mrr": 0.25}, primary_metric="mrr"),
            {"eval_map": 0.5, "eval_mrr": 0.25},
            0.25,
        ),
        (Evaluator({"eval_map": 0.5}, primary_metric="eval_map"), {"eval_map": 0.5}, 0.5),
        (Evaluator(0), {"eval_evaluator": 0}, 0),
    ],
)
def test_an_answer_becomes_metrics_and_a_score(evaluator, metrics, score, tmp_path):
    assert run_evaluator(evaluator, "model", str(tmp_path / "out"), 1.0, 4) == metrics
    assert score_in(metrics, evaluator) == score
    assert evaluator.called_with == ("model", str(tmp_path / "out" / "eval"), 1.0, 4)
    assert (tmp_path / "out" / "eval").is_dir()


def test_no_folder_is_made_without_an_output_path():
    evaluator = Evaluator(1.0)
    run_evaluator(evaluator, None, None, 0, -1)
    assert evaluator.called_with == (None, None, 0, -1)


def test_several_metrics_of_which_none_is_the_score_are_an_error():
    with pytest.raises(ValueError, match=r"\['map', 'mrr'\] and has primary_metric='ndcg'"):
        run_evaluator(Evaluator({"map": 1.0, "mrr": 1.0}, primary_metric="ndcg"), None, None, 0, -1)


def test_the_gain_grows_with_the_quality():
    assert gain(0.5, Evaluator(0)) == 0.5
    assert gain(0.5, Evaluator(0, greater_is_better=False)) == -0.5


def test_without_an_evaluator_there_is_no_score():
    assert score_in({"eval_loss": 1.0}, None) is None
