"""Each callback of `fit` also serves in a trainer of one's own."""

from __future__ import annotations

import pytest
from sentence_transformers.fit_mixin import EvaluatorCallback, OriginalCallback, SaveModelCallback
from transformers import TrainerControl, TrainerState

from sentence_transformers import SentenceTransformerTrainer
from sentence_transformers.losses import CoSENTLoss


class Given:
    """An evaluator whose scores are known beforehand, and that notes when it is called."""

    def __init__(self, *scores, greater_is_better=True, primary_metric=None) -> None:
        self.scores = iter(scores)
        self.greater_is_better = greater_is_better
        self.primary_metric = primary_metric
        self.calls: list[tuple] = []

    def __call__(self, model, output_path=None, epoch=-1, steps=-1):
        self.calls.append((output_path, epoch, steps))
        return next(self.scores)


class Saved:
    """Stands where a model does, and notes where it is saved."""

    def __init__(self) -> None:
        self.folders: list[str] = []

    def save(self, folder: str) -> None:
        self.folders.append(folder)


def evaluated(callback, model, **metrics) -> None:
    callback.on_evaluate(None, TrainerState(epoch=1.5, global_step=6), TrainerControl(), metrics, model=model)


@pytest.mark.parametrize(
    ("greater_is_better", "scores", "saves"),
    [(True, [0.2, 0.1, 0.2, 0.3], 2), (False, [0.2, 0.1, 0.2, 0.3], 2), (True, [-0.5, -0.2], 2)],
)
def test_the_model_is_saved_whenever_its_score_is_the_best(greater_is_better, scores, saves):
    evaluator, model = Given(greater_is_better=greater_is_better, primary_metric="dev_map"), Saved()
    callback = SaveModelCallback("best", evaluator, True)
    for score in scores:
        evaluated(callback, model, eval_dev_map=score, eval_loss=9.0)
    assert model.folders == ["best"] * saves


def test_a_score_is_better_than_those_before_it_and_not_than_itself():
    callback = SaveModelCallback("best", Given(), True)
    assert callback.is_better(-100.0)
    evaluated(callback, Saved(), eval_evaluator=0.5)
    assert not callback.is_better(0.5)
    assert callback.is_better(0.6)


def test_the_model_is_saved_at_the_end_only_without_an_evaluator():
    state = (None, TrainerState(), TrainerControl())
    model = Saved()
    SaveModelCallback("last", Given(), True).on_train_end(*state, model)
    assert model.folders == []
    SaveModelCallback("last", None, True).on_train_end(*state, model)
    assert model.folders == ["last"]


def test_the_function_gets_the_score_the_epoch_and_the_steps():
    seen: list[tuple] = []
    callback = OriginalCallback(lambda *call: seen.append(call), Given(primary_metric="map"))
    evaluated(callback, None, eval_map=0.25, eval_loss=9.0)
    evaluated(callback, None, eval_loss=9.0)
    assert seen == [(0.25, 1.5, 6)]


def test_in_a_trainer_of_ones_own_the_evaluator_runs_after_each_epoch(model, scored, arguments, tmp_path):
    evaluator, seen = Given({"map": 0.5, "mrr": 0.1}, {"map": 0.4, "mrr": 0.9}, primary_metric="map"), []
    runs = EvaluatorCallback(evaluator, str(tmp_path / "out"))
    trainer = SentenceTransformerTrainer(
        model=model,
        args=arguments(max_steps=-1, num_train_epochs=2),
        train_dataset=scored,
        loss=CoSENTLoss(model),
        callbacks=[runs, OriginalCallback(lambda *call: seen.append(call), evaluator)],
    )
    runs.trainer = trainer
    trainer.train()
    assert evaluator.calls == [
        (str(tmp_path / "out" / "eval"), 1.0, 4),
        (str(tmp_path / "out" / "eval"), 2.0, 8),
    ]
    assert seen == [(0.5, 1.0, 4), (0.4, 2.0, 8)]
    assert [entry["eval_mrr"] for entry in trainer.state.log_history if "eval_mrr" in entry] == [0.1, 0.9]
