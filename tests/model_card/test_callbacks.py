"""The callbacks write a training run into the card data, and leave other models alone."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace

import pytest
from torch import nn
from transformers import TrainerCallback

from sentence_transformers.model_card.callbacks import (
    BaseModelCardCallback,
    SentenceTransformerModelCardCallback,
)
from sentence_transformers.model_card.sentence_transformer import SentenceTransformerModelCardData

DEFAULTS = {"learning_rate": 5e-5, "seed": 42, "output_dir": "unused", "logging_steps": 500, "bf16": False}


class Loss(nn.Module):
    pass


class Trainer:
    def __init__(self, **attributes) -> None:
        self.callback_handler = SimpleNamespace(callbacks=[])
        self.loss, self.train_dataset, self.eval_dataset = Loss(), None, None
        vars(self).update(attributes)


@pytest.fixture
def model():
    model = nn.Sequential()
    model.model_card_data = SentenceTransformerModelCardData()
    return model


def arguments(**changed):
    return SimpleNamespace(to_dict=lambda: {**DEFAULTS, **changed})


def state(step: int = 10, epoch: float = 0.5):
    return SimpleNamespace(epoch=epoch, global_step=step)


def test_a_callback_is_a_trainer_callback():
    assert issubclass(SentenceTransformerModelCardCallback, BaseModelCardCallback)
    assert issubclass(BaseModelCardCallback, TrainerCallback)


def test_what_differs_from_the_defaults_and_shapes_learning_is_written_down(model):
    callback = BaseModelCardCallback(DEFAULTS)
    args = arguments(learning_rate=1e-3, output_dir="mine", logging_steps=1, unknown=1)
    callback.on_train_begin(args, state(), None, model=model)
    assert model.model_card_data.non_default_hyperparameters == {"learning_rate": 1e-3}
    assert model.model_card_data.all_hyperparameters == {
        **DEFAULTS,
        "learning_rate": 1e-3,
        "output_dir": "mine",
        "logging_steps": 1,
    }


def test_losses_and_data_sets_are_written_down_when_training_begins(model):
    datasets = pytest.importorskip(
        "datasets", reason='needs datasets: pip install "sentence-transformers[train]"'
    )
    texts = datasets.Dataset.from_dict({"a": ["one", "two", "three"], "b": ["four", "five", "six"]})
    trainer = Trainer(train_dataset={"texts": texts}, eval_dataset=texts)
    callback = BaseModelCardCallback(DEFAULTS)
    callback.on_init_end(arguments(), state(), None, model, trainer=trainer)
    callback.on_train_begin(arguments(), state(), None, model=model)
    card = model.model_card_data
    assert {"generated_from_trainer", "loss:Loss", "dataset_size:3"} <= set(card.tags)
    assert [entry["name"] for entry in card.train_datasets] == ["texts"]
    assert [entry["size"] for entry in card.eval_datasets] == [3]
    assert len(card.widget) == 3


def test_losses_of_a_step_share_a_row(model):
    callback = BaseModelCardCallback(DEFAULTS)
    callback.on_log(None, state(), None, model=model, logs={"loss": 0.5, "grad_norm": 1.0})
    metrics = {"eval_loss": 0.25, "eval_sts_loss": 0.75, "eval_runtime": 2.0, "eval_accuracy": 1.0}
    callback.on_evaluate(None, state(), None, model=model, metrics=metrics)
    callback.on_log(None, state(), None, model=model, logs={"train_runtime": 1.0})
    assert model.model_card_data.training_logs == [
        {"Epoch": 0.5, "Step": 10, "Training Loss": 0.5, "Validation Loss": 0.25, "sts Loss": 0.75}
    ]
    assert model.model_card_data.evaluation_duration == 2.0


def test_the_time_of_training_is_measured(model):
    callback = BaseModelCardCallback(DEFAULTS)
    callback.on_train_begin(arguments(), state(), None, model=model)
    callback.on_train_end(arguments(), state(), None, model=model)
    assert model.model_card_data.training_duration >= 0


def test_a_data_set_that_cannot_be_described_does_not_stop_training(model):
    class Broken:
        column_names = ["a"]

        def __len__(self) -> int:
            raise RuntimeError("broken")

    callback, trainer = BaseModelCardCallback(DEFAULTS), Trainer(train_dataset=Broken())
    callback.on_init_end(arguments(), state(), None, model, trainer=trainer)
    callback.on_train_begin(arguments(), state(), None, model=model)
    assert "generated_from_trainer" in model.model_card_data.tags


def test_a_model_without_card_data_is_left_alone():
    callback, model = BaseModelCardCallback(DEFAULTS), nn.Linear(1, 1)
    callback.on_init_end(arguments(), state(), None, model, trainer=Trainer(), tokenizer=None)
    callback.on_train_begin(arguments(), state(), None, model=model, optimizer=None)
    callback.on_log(None, state(), None, model=model, logs={"loss": 1.0})
    callback.on_evaluate(None, state(), None, model=model, metrics={"eval_loss": 1.0})
    callback.on_train_end(None, state(), None, model=model)
    callback.on_train_end(None, state(), None)


def test_a_callback_added_by_hand_works_without_ever_seeing_the_trainer(model):
    callback = BaseModelCardCallback(DEFAULTS)
    callback.on_init_end(arguments(), state(), None, model=model)
    callback.on_train_begin(arguments(seed=1), state(), None, model=model)
    assert model.model_card_data.non_default_hyperparameters == {"seed": 1}


def test_the_trainer_is_not_kept_alive(model):
    callback, trainer = BaseModelCardCallback(DEFAULTS), Trainer()
    callback.on_init_end(arguments(), state(), None, model, trainer=trainer)
    gone = weakref.ref(trainer)
    del trainer
    gc.collect()
    assert gone() is None
    callback.on_train_begin(arguments(), state(), None, model=model)
