"""Trainer callbacks that write down how a model was trained, for its card.

They record hyperparameters, data sets, losses and logs into `model.model_card_data`, and leave any model
without such data alone. The rest of the card's making knows nothing of a trainer.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from transformers import TrainerCallback

from sentence_transformers.model_card.loss_facts import get_losses
from sentence_transformers.model_card.model_facts import best_effort

BOOKKEEPING = [
    "_n_gpu",
    "dataloader_",
    "ddp_",
    "debug",
    "disable_tqdm",
    "do_",
    "eval_",
    "greater_is_better",
    "hub_",
    "include_",
    "load_best_model_at_end",
    "local_rank",
    "log_",
    "logging_",
    "metric_for_best_model",
    "mp_parameters",
    "output_dir",
    "overwrite_",
    "past_index",
    "prediction_loss_only",
    "project",
    "push_to_hub",
    "remove_unused_columns",
    "report_to",
    "restore_",
    "resume_from",
    "run_name",
    "save_",
    "skip_memory_metrics",
    "torch_empty",
    "trackio",
    "use_cpu",
]
"""Beginnings of the names of arguments that do not change what is learnt."""


class BaseModelCardCallback(TrainerCallback):
    """Write down a training run in the model's card data.

    Args:
        default_args_dict: Every training argument at its default value; what differs goes into the card.
    """

    def __init__(self, default_args_dict: dict[str, Any]) -> None:
        super().__init__()
        self.default_args_dict = default_args_dict
        self.started: float | None = None
        self.trainer: Callable[[], Any] = nobody

    def on_init_end(
        self, args: Any, state: Any, control: Any, model: Any = None, trainer: Any = None, **kwargs: Any
    ) -> None:
        """Remember the trainer, and the losses it will use."""
        card = card_of(model)
        if card is None or trainer is None:
            return
        self.trainer = weakref.ref(trainer)
        card.add_tags("generated_from_trainer")
        for callback in getattr(getattr(trainer, "callback_handler", None), "callbacks", []):
            if type(callback).__name__ == "CodeCarbonCallback":
                card.code_carbon_callback = callback
        if getattr(trainer, "loss", None) is not None:
            card.set_losses(get_losses(trainer.loss))

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Write down the hyperparameters and the data sets."""
        card = card_of(model)
        if card is None:
            return
        self.started = time.monotonic()
        # Read here and not in on_init_end: arguments are often changed once the trainer is built.
        card.all_hyperparameters = {
            name: value for name, value in args.to_dict().items() if name in self.default_args_dict
        }
        card.non_default_hyperparameters = {
            name: value
            for name, value in card.all_hyperparameters.items()
            if value != self.default_args_dict[name] and not name.startswith(tuple(BOOKKEEPING))
        }
        trainer = self.trainer()
        if trainer is not None:
            best_effort(describe_datasets, card, trainer)

    def on_evaluate(
        self, args: Any, state: Any, control: Any, model: Any = None, metrics: Any = None, **kwargs: Any
    ) -> None:
        """Write down the evaluation losses of this step."""
        card = card_of(model)
        if card is None or not metrics:
            return
        losses = {
            evaluation_loss_name(key): value
            for key, value in metrics.items()
            if key.startswith("eval_") and key.endswith("_loss")
        }
        card.add_training_log(state.epoch or 0, state.global_step, losses)
        card.evaluation_duration += sum(
            value for key, value in metrics.items() if key.startswith("eval_") and key.endswith("_runtime")
        )

    def on_log(
        self, args: Any, state: Any, control: Any, model: Any = None, logs: Any = None, **kwargs: Any
    ) -> None:
        """Write down the training loss of this step."""
        card = card_of(model)
        if card is not None and logs and "loss" in logs:
            card.add_training_log(state.epoch or 0, state.global_step, {"Training Loss": logs["loss"]})

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Write down how long training took."""
        card = card_of(model)
        if card is not None and self.started is not None:
            card.training_duration = time.monotonic() - self.started


class SentenceTransformerModelCardCallback(BaseModelCardCallback):
    """Write down the training run of a dense embedding model."""


class CrossEncoderModelCardCallback(BaseModelCardCallback):
    """Write down the training run of a model that scores pairs."""


ModelCardCallback = SentenceTransformerModelCardCallback


def nobody() -> None:
    return None


def card_of(model: Any) -> Any:
    """The model's card data; None for a model that keeps none."""
    return getattr(model, "model_card_data", None)


def evaluation_loss_name(key: str) -> str:
    """`eval_loss` -> `Validation Loss`, `eval_sts_loss` -> `sts Loss`."""
    dataset = key.removeprefix("eval").removesuffix("_loss").strip("_")
    return f"{dataset or 'Validation'} Loss"


def describe_datasets(card: Any, trainer: Any) -> None:
    train, evaluation = getattr(trainer, "train_dataset", None), getattr(trainer, "eval_dataset", None)
    loss = getattr(trainer, "loss", None)
    if train is not None:
        card.train_datasets = card.extract_dataset_metadata(train, card.train_datasets, loss, "train")
        if card.generate_widget_examples:
            card.set_widget_examples(next(iter(train.values())) if isinstance(train, Mapping) else train)
    if evaluation is not None:
        card.eval_datasets = card.extract_dataset_metadata(evaluation, card.eval_datasets, loss, "eval")
