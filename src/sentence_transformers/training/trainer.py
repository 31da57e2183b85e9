"""One trainer for every kind of model, on top of `transformers.Trainer`.

What is added: losses that are modules of their own and may differ by data set, several data sets whose
batches never mix, evaluators, models saved as folders of modules. Batches come from `loaders.py`; `loss_wiring.py`
connects losses with what training wraps around a model.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback
from transformers.trainer_utils import EvalLoopOutput

from sentence_transformers.arguments import accepts_older_names
from sentence_transformers.backend.exported import untrainable
from sentence_transformers.evaluation.sequential import SequentialEvaluator
from sentence_transformers.inference.ranks import distributed_evaluation
from sentence_transformers.model_card.callbacks import BaseModelCardCallback
from sentence_transformers.model_card.model_facts import best_effort
from sentence_transformers.storage.progress_logging import disable_logging
from sentence_transformers.training import loss_wiring
from sentence_transformers.training.arguments import BaseTrainingArguments
from sentence_transformers.training.collator import BaseDataCollator, checked_setting, columns_of
from sentence_transformers.training.columns import DATASET_NAME, LABEL_COLUMNS
from sentence_transformers.training.loaders import NOTHING_TO_EVALUATE, LoadersMixin, Nothing, named_datasets

logger = logging.getLogger(__name__)


class BaseTrainer(LoadersMixin, Trainer):
    """Trains a model with a loss.

    Args:
        model: The model; or give `model_init`.
        args: The arguments; None for the defaults, with the output in "tmp_trainer".
        train_dataset: Rows to train on: one data set (rows or stream), or several by name.
        eval_dataset: The same for evaluation.
        loss: A module called as `loss(columns of features, labels)`, or a function that makes one of the model,
            or either by the name of the data set. None for the default of the kind of model.
        evaluator: One, or a list of them, run at each evaluation.
        data_collator: Makes batches of rows; None for the usual one.
        processing_class: Tokenizer that is kept with the model; None for the model's own. Older name
            `tokenizer`.
        model_init: Makes the model, anew for each trial of a hyperparameter search.
        compute_metrics: As in `transformers.Trainer`.
        callbacks: As in `transformers.Trainer`.
        optimizers: An optimizer and a scheduler to use instead of those of `args`.
        optimizer_cls_and_kwargs: As in `transformers.Trainer`.
        preprocess_logits_for_metrics: As in `transformers.Trainer`.

    Raises:
        RuntimeError: If there is neither `model` nor `model_init`.
        ValueError: If data set and loss do not suit each other, or evaluation is asked for and nothing given
            to evaluate.
    """

    arguments_class: type[BaseTrainingArguments] = BaseTrainingArguments
    collator_class: type[BaseDataCollator] = BaseDataCollator
    card_callback_class: type[BaseModelCardCallback] = BaseModelCardCallback

    @accepts_older_names(tokenizer="processing_class")
    def __init__(
        self,
        model: Any = None,
        args: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        loss: Any = None,
        evaluator: Any = None,
        data_collator: Any = None,
        processing_class: Any = None,
        model_init: Callable[..., Any] | None = None,
        compute_metrics: Callable[..., Any] | None = None,
        callbacks: list[Any] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        optimizer_cls_and_kwargs: tuple[type[torch.optim.Optimizer], dict[str, Any]] | None = None,
        preprocess_logits_for_metrics: Callable[..., Any] | None = None,
    ) -> None:
        if args is None:
            args = self.arguments_class(output_dir="tmp_trainer")
        if model is None and model_init is None:
            raise RuntimeError("A trainer needs a model: pass `model`, or `model_init`, which makes one.")
        if model is not None and model_init is not None:
            raise RuntimeError("Pass either `model` or `model_init`, not both.")
        if getattr(model, "backend", "torch") != "torch":
            raise ValueError(untrainable(model.backend))
        train_dataset, eval_dataset = named_datasets(train_dataset), named_datasets(eval_dataset)
        if isinstance(evaluator, (list, tuple)):
            evaluator = SequentialEvaluator(list(evaluator))
        asks_for_evaluation = str(getattr(args.eval_strategy, "value", args.eval_strategy)) != "no"
        if asks_for_evaluation and eval_dataset is None and evaluator is None:
            raise ValueError(
                f"eval_strategy={args.eval_strategy.value!r} asks for evaluations, but there is nothing to evaluate. "
                "Pass eval_dataset or evaluator, or set eval_strategy='no'."
            )
        self.evaluator: Any = evaluator
        self._is_evaluating = False
        self._evaluator_prefix: str | None = None
        self._loss_makers: Any = loss
        self._component_sums: dict[str, Tensor] = {}
        self._component_counts: dict[str, int] = {}
        self._collator_is_ours = data_collator is None
        self._tokenizer_is_ours = processing_class is None
        if self._tokenizer_is_ours and model is not None:
            processing_class = best_processing_class(model)
        for name in ("prompts", "router_mapping"):
            for dataset in (train_dataset, eval_dataset):
                if dataset is not None:
                    names = list(dataset) if isinstance(dataset, Mapping) else None
                    checked_setting(getattr(args, name, None), name, names)

        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator,
            train_dataset=train_dataset,
            eval_dataset=NOTHING_TO_EVALUATE
            if eval_dataset is None and evaluator is not None
            else eval_dataset,
            processing_class=processing_class,
            model_init=model_init,
            compute_metrics=compute_metrics,
            callbacks=callbacks,
            optimizers=optimizers,
            optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
            preprocess_logits_for_metrics=preprocess_logits_for_metrics,
        )
        self.eval_dataset = eval_dataset
        # A model's forward takes any argument, which transformers mistakes for one that divides the loss itself.
        self.model_accepts_loss_kwargs = False
        self.can_return_loss = True
        self._adopt(self.model)
        self.valid_label_columns = list(getattr(self.data_collator, "valid_label_columns", LABEL_COLUMNS))
        for dataset in (train_dataset, eval_dataset):
            self._check_datasets(dataset)
        self.train_dataset = self.preprocess_dataset(train_dataset)
        self.eval_dataset = self.preprocess_dataset(eval_dataset)
        self.add_callback(ForgetGradients(self.losses))
        self.add_model_card_callback(args.usual_values())

    def call_model_init(self, trial: Any = None) -> Any:
        """Make a model, for a trial of a search where there is one, and what belongs to it: losses, batches."""
        model = super().call_model_init(trial)
        if hasattr(self, "loss"):  # not the first one, which `__init__` adopts when it knows everything
            self._adopt(model)
            self._introduce_card(model)
        return model

    def _adopt(self, model: Any) -> None:
        """Make the losses for a model, and let batches be made as it makes them."""
        if self._tokenizer_is_ours:
            self.processing_class = self.callback_handler.processing_class = best_processing_class(model)
        if self._collator_is_ours:
            self.data_collator = self.get_data_collator(model, self.args, self.processing_class)
        self.loss = self._made_losses(model)

    # -- losses ------------------------------------------------------------------------------------------

    def default_loss(self, model: Any) -> nn.Module:
        """The loss where none is given."""
        raise ValueError("Pass a loss: this kind of model has no default.")

    def _made_losses(self, model: Any) -> Any:
        """The loss, or losses by data set, for a model, on the device of training."""
        makers = self._loss_makers

        def made(maker: Any) -> nn.Module:
            return self.prepare_loss(self.default_loss(model) if maker is None else maker, model)

        if isinstance(makers, Mapping):
            return {name: made(maker) for name, maker in makers.items()}
        return made(makers)

    def prepare_loss(self, loss: Any, model: Any) -> nn.Module:
        """Make a loss of a function where it is one, and bring it to the model and its device."""
        if not isinstance(loss, nn.Module):
            loss = loss(model)
        loss_wiring.point_at(loss, model)
        loss = loss.to(self.args.device)
        loss_wiring.synchronise(loss, model)
        return loss

    def losses(self) -> list[nn.Module]:
        """All losses."""
        return list(self.loss.values()) if isinstance(self.loss, Mapping) else [self.loss]

    def train(self, *args: Any, **options: Any) -> Any:
        """Train; arguments and result as in `transformers.Trainer`. Afterwards the model is as precise as before."""
        try:
            return super().train(*args, **options)
        finally:
            loss_wiring.take_mixed_precision_off(self.accelerator, self.model)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Compute the loss of a batch.

        Args:
            model: The model, perhaps wrapped for distributed training.
            inputs: From the data collator.
            return_outputs: Whether to return outputs as well; there are none.
            num_items_in_batch: Ignored: every loss averages over its own rows.

        Returns:
            The loss, a scalar; with `return_outputs` together with an empty dictionary.
        """
        columns, labels = self.collect_features(inputs)
        loss: Any = self.loss
        if isinstance(loss, Mapping):
            loss = loss[inputs[DATASET_NAME]]
        value = loss_wiring.computed(loss, model, columns, labels, **self.loss_options(inputs))
        parts = value if isinstance(value, Mapping) else getattr(loss, "latest_parts", {})
        if model.training and len(parts) > 1:
            for name, part in parts.items():
                known = self._component_sums.get(name)
                self._component_sums[name] = part.detach() if known is None else known + part.detach()
                self._component_counts[name] = self._component_counts.get(name, 0) + 1
        if isinstance(value, Mapping):
            value = torch.stack(list(value.values())).sum()
        return (value, {}) if return_outputs else value

    def collect_features(self, inputs: Mapping[str, Any]) -> tuple[list[dict[str, Any]], Tensor | None]:
        """Take a batch apart into the features of its columns and the labels."""
        return columns_of(inputs)

    def loss_options(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """What the loss is told of a batch beside its columns and labels."""
        return {}

    def prediction_step(
        self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The loss of a batch without gradients; embeddings have no predictions to return."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            value = self.compute_loss(model, inputs)
        return value.detach().mean(), None, None

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the average of each part of the loss since the last time."""
        if "loss" in logs and self._component_sums:
            for name, value in self._component_sums.items():
                logs.setdefault(name, round(float(value) / self._component_counts[name], 6))
            self._component_sums, self._component_counts = {}, {}
        super().log(logs, start_time)

    # -- evaluation --------------------------------------------------------------------------------------

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Compute the loss on the evaluation data, and run the evaluator.

        Args:
            eval_dataset: Data to use instead, one set or several by name, or the name of one.
            ignore_keys: Ignored.
            metric_key_prefix: In front of each metric's name.

        Returns:
            Metrics by name.
        """
        if self._is_evaluating:  # one of several data sets
            return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        if not isinstance(eval_dataset, str):
            eval_dataset = self.preprocess_dataset(named_datasets(eval_dataset))
        self._is_evaluating = True
        self._evaluator_prefix = metric_key_prefix
        try:
            return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        finally:
            self._is_evaluating = False
            self._evaluator_prefix = None

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Compute the loss over a loader; an evaluation also runs the evaluator, with its first data set."""
        if isinstance(dataloader.dataset, Nothing):
            output = EvalLoopOutput(predictions=None, label_ids=None, metrics={}, num_samples=0)
        else:
            with loss_wiring.evaluating(self.losses(), self.model):
                output = super().evaluation_loop(
                    dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
                )
        prefix, self._evaluator_prefix = self._evaluator_prefix, None
        if self.evaluator is None or prefix is None:
            return output
        metrics = self.run_evaluator()
        output.metrics.update(
            {
                key if key.startswith(f"{prefix}_") else f"{prefix}_{key}": value
                for key, value in metrics.items()
            }
        )
        return output

    def run_evaluator(self) -> dict[str, float]:
        """Run the evaluator on the model as it is now; a bare score is called "evaluator"."""
        was_training = self.model.training
        folder = None
        if self.args.output_dir is not None:
            folder = os.path.join(self.args.output_dir, "eval")
            os.makedirs(folder, exist_ok=True)
        quiet = nullcontext() if self.is_local_process_zero() else disable_logging(logging.INFO)
        # A model that is spread over the processes encodes in all of them at once, or not at all.
        alone = not (self.is_fsdp_enabled or self.is_deepspeed_enabled)
        metrics: dict[str, float] = {}
        try:
            with quiet, distributed_evaluation(self.model, enabled=alone) as evaluates:
                if evaluates:
                    result = self.evaluator(
                        self.model,
                        output_path=folder,
                        epoch=self.state.epoch or 0,
                        steps=self.state.global_step,
                    )
                    metrics = dict(result) if isinstance(result, Mapping) else {"evaluator": result}
        finally:
            self.model.train(was_training)
        if self.accelerator.num_processes > 1:
            from accelerate.utils import broadcast_object_list

            # The best step, and whether to stop early, are decided in every process.
            [metrics, primary_metric] = broadcast_object_list(
                [metrics, getattr(self.evaluator, "primary_metric", None)]
            )
            if primary_metric is not None:
                self.evaluator.primary_metric = primary_metric
        return metrics

    # -- optimizer ---------------------------------------------------------------------------------------

    def create_optimizer(self, model: Any = None) -> Any:
        """The optimizer, over the parameters of the model and of the losses."""
        if self.optimizer is not None:
            return self.optimizer
        optimizer = super().create_optimizer() if model is None else super().create_optimizer(model)
        loss_wiring.add_parameters(optimizer, self.model, self.losses(), self.args.weight_decay)
        loss_wiring.set_rates(optimizer, self.model, self.losses(), self.args.learning_rate_mapping)
        return optimizer

    # -- files -------------------------------------------------------------------------------------------

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        model = self.accelerator.unwrap_model(self.model)
        is_spread = loss_wiring.is_spread(model)
        if is_spread and state_dict is None:
            state_dict = loss_wiring.collected_state(model)  # every process takes part in this
        if not self.args.should_save:  # another process does
            return
        folder = output_dir if output_dir is not None else self.args.output_dir
        os.makedirs(folder, exist_ok=True)
        if state_dict is not None and (is_spread or self.is_fsdp_enabled):
            loss_wiring.save_with_state(model, folder, state_dict)
        else:
            model.save_pretrained(folder)
        loss_wiring.save_own_parameters(self.loss, Path(folder))
        loss_wiring.save_arguments(self.args, Path(folder))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        target = self.model if model is None else self.accelerator.unwrap_model(model)
        loss_wiring.load_weights(target, resume_from_checkpoint)
        loss_wiring.load_own_parameters(self.loss, Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        best = self.state.best_model_checkpoint
        if best is None or not os.path.isdir(best):
            logger.warning("The best model was to be loaded at the end, but no checkpoint is at %s.", best)
            return
        self._load_from_checkpoint(best)
        step = best.rpartition("-")[2]
        card = getattr(self.model, "model_card_data", None)
        if card is not None and step.isdecimal():
            card.set_best_model_step(int(step))

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write the model's card into the output folder; arguments of transformers are taken and ignored."""
        if self.is_world_process_zero():
            from sentence_transformers.model_card.card import generate_model_card

            text = best_effort(generate_model_card, self.model)
            if text is not None:
                Path(self.args.output_dir).mkdir(parents=True, exist_ok=True)
                Path(self.args.output_dir, "README.md").write_text(text, encoding="utf-8")

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Let the model's card note how it is trained.

        Args:
            default_args_dict: All arguments with their default values.
        """
        self._card_callback = self.card_callback_class(default_args_dict)
        self.add_callback(self._card_callback)
        self._introduce_card(self.model)

    def _introduce_card(self, model: Any) -> None:
        """Let the card of a model know this trainer."""
        self._card_callback.on_init_end(self.args, self.state, self.control, model=model, trainer=self)


class ForgetGradients(TrainerCallback):
    """Forgets the gradients of the losses' own parameters before each step; transformers forgets the model's.

    Args:
        losses: Gives the losses.
    """

    def __init__(self, losses: Callable[[], list[nn.Module]]) -> None:
        self.losses = losses

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        for loss in self.losses():
            for parameter in loss_wiring.own_parameters(loss, model).values():
                parameter.grad = None


def best_processing_class(model: Any) -> Any:
    """The tokenizer of a model, if it has one."""
    try:
        return model.tokenizer
    except AttributeError:
        return None
