"""One trainer for every kind of model, on top of `transformers.Trainer`.

What is added: losses that are modules of their own and may differ by data set, several data sets whose
batches never mix, evaluators, models saved as folders of modules. Batches are made by the samplers and the
collator beside this file; `loss_wiring.py` connects losses with what training wraps around a model.
"""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, ConcatDataset, DataLoader, IterableDataset
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
from sentence_transformers.training.batch_samplers import BATCH_SAMPLERS, BatchSamplers
from sentence_transformers.training.collator import BaseDataCollator, checked_setting, columns_of
from sentence_transformers.training.columns import DATASET_NAME, LABEL_COLUMNS, check_dataset, stack_labels
from sentence_transformers.training.dataset_samplers import DATASET_SAMPLERS, MultiDatasetBatchSamplers
from sentence_transformers.training.streams import Interleaved
from sentence_transformers.training.whole_groups import shared_among

logger = logging.getLogger(__name__)

NOTHING_TO_EVALUATE = "no data set, only an evaluator"
"""Stands in for a data set where transformers insists on one."""


class BaseTrainer(Trainer):
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

    # -- batches -----------------------------------------------------------------------------------------

    def get_data_collator(self, model: Any, args: Any, processing_class: Any = None) -> BaseDataCollator:
        """The collator that batches are made with where none is given."""
        return self.collator_class(
            preprocess_fn=model.preprocess,
            router_mapping=getattr(args, "router_mapping", None),
            prompts=getattr(args, "prompts", None),
        )

    def get_batch_sampler(
        self,
        dataset: Any,
        batch_size: int,
        drop_last: bool,
        valid_label_columns: list[str] | None = None,
        generator: torch.Generator | None = None,
        seed: int = 0,
    ) -> BatchSampler | None:
        """What puts the rows of one data set into batches, as `args.batch_sampler` says.

        Args:
            dataset: The data set.
            batch_size: Rows of a batch.
            drop_last: Whether a last batch of fewer rows is left out.
            valid_label_columns: Names that mean a label.
            generator: Source of random order.
            seed: Its seed; the epoch is added.

        Returns:
            The sampler; None for a stream, which has the order it has.
        """
        choice = self.args.batch_sampler
        if is_stream(dataset):
            if choice != BatchSamplers.BATCH_SAMPLER:
                raise ValueError(
                    f"batch_sampler={choice!r} chooses rows by number, which a stream of rows does not have. Use "
                    "the default, or a data set that is not streamed."
                )
            return None
        options: dict[str, Any] = {
            "batch_size": batch_size,
            "drop_last": drop_last,
            "valid_label_columns": valid_label_columns,
            "generator": generator,
            "seed": seed,
        }
        return BATCH_SAMPLERS.get(choice, choice)(dataset, **options)

    def get_multi_dataset_batch_sampler(
        self,
        dataset: ConcatDataset,
        batch_samplers: list[BatchSampler],
        generator: torch.Generator | None = None,
        seed: int | None = 0,
    ) -> BatchSampler:
        """What takes batches from several data sets in turn, as `args.multi_dataset_batch_sampler` says.

        Args:
            dataset: The data sets one after another.
            batch_samplers: The sampler of each.
            generator: Source of random order.
            seed: Its seed.
        """
        choice = self.args.multi_dataset_batch_sampler
        options: dict[str, Any] = {
            "dataset": dataset,
            "batch_samplers": batch_samplers,
            "generator": generator,
            "seed": seed,
        }
        return DATASET_SAMPLERS.get(choice, choice)(**options)

    def get_train_dataloader(self) -> DataLoader:
        """Batches to train on.

        Raises:
            ValueError: If there is no training data.
        """
        if self.train_dataset is None:
            raise ValueError("Training needs train_dataset, and there is none.")
        return self._loader(self.train_dataset, self._train_batch_size, self.args.dataloader_drop_last)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """Batches to evaluate on.

        Args:
            eval_dataset: Data to use instead of that of the trainer, or the name of one of its sets.

        Raises:
            ValueError: If there is none.
        """
        if isinstance(eval_dataset, str) and isinstance(self.eval_dataset, Mapping):
            eval_dataset = self.eval_dataset[eval_dataset]
        if eval_dataset is None or eval_dataset == NOTHING_TO_EVALUATE:
            eval_dataset = self.eval_dataset
        if eval_dataset is None:
            if self.evaluator is not None:
                return DataLoader(Nothing())
            raise ValueError("Evaluation needs eval_dataset or an evaluator, and there is neither.")
        return self._loader(eval_dataset, self.args.eval_batch_size, drop_last=False)

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader:
        """Batches of a test set."""
        return self._loader(self.preprocess_dataset(test_dataset), self.args.eval_batch_size, drop_last=False)

    def _loader(self, dataset: Any, batch_size: int, drop_last: bool) -> DataLoader:
        """A loader over one data set, or over several whose batches do not mix."""
        seed = self.args.data_seed if self.args.data_seed is not None else self.args.seed
        # With a generator of its own, a loader draws nothing from the one that dropout uses.
        options: dict[str, Any] = {
            "collate_fn": self.data_collator,
            "num_workers": self.args.dataloader_num_workers,
            "pin_memory": self.args.dataloader_pin_memory and torch.accelerator.is_available(),
            "persistent_workers": self.args.dataloader_persistent_workers,
            "prefetch_factor": self.args.dataloader_prefetch_factor,
            "generator": torch.Generator().manual_seed(seed),
        }
        several = isinstance(dataset, Mapping)
        by_name: Mapping[Any, Any] = dataset if several else {None: dataset}
        parts = list(by_name.values())
        # Those who write a sampler's method anew may have learnt it when it took no seed.
        seeds = {"seed": seed} if "seed" in inspect.signature(self.get_batch_sampler).parameters else {}
        if any(map(is_stream, parts)):
            return self._stream_loader(by_name, batch_size, drop_last, seed, options)
        samplers: list[Any] = [
            self.get_batch_sampler(
                part,
                batch_size=batch_size,
                drop_last=drop_last,
                valid_label_columns=self.valid_label_columns,
                generator=torch.Generator().manual_seed(seed),
                **seeds,
            )
            for part in parts
        ]

        def put_together(samplers: list[Any]) -> BatchSampler:
            if not several:
                return samplers[0]
            return self.get_multi_dataset_batch_sampler(
                dataset, batch_samplers=samplers, generator=torch.Generator().manual_seed(seed), seed=seed
            )

        if several:
            dataset = ConcatDataset(parts)
        sampler = shared_among(self.accelerator.num_processes, samplers, put_together)
        # Batches are not to be filled up with rows of others: those may be of another data set.
        self.accelerator.even_batches = False
        return self.accelerator.prepare(DataLoader(dataset, batch_sampler=sampler, **options))

    def _stream_loader(
        self,
        datasets: Mapping[Any, Any],
        batch_size: int,
        drop_last: bool,
        seed: int,
        options: dict[str, Any],
    ) -> DataLoader:
        """A loader over data sets of which some are streams."""
        from accelerate.data_loader import prepare_data_loader

        for part in filter(is_stream, datasets.values()):
            self.get_batch_sampler(part, batch_size, drop_last)
        accelerator = self.accelerator
        rows = Interleaved(
            datasets,
            batch_size=batch_size,
            drop_last=drop_last,
            round_robin=self.args.multi_dataset_batch_sampler == MultiDatasetBatchSamplers.ROUND_ROBIN,
            seed=seed,
            process=accelerator.process_index,
            processes=accelerator.num_processes,
        )
        # As if there were no other process: accelerate would have one read for all, and join their batches.
        return prepare_data_loader(
            DataLoader(rows, batch_size=None, **options),
            device=accelerator.device,
            num_processes=1,
            process_index=0,
            put_on_device=True,
            dispatch_batches=False,
        )

    # -- data sets ---------------------------------------------------------------------------------------

    def _check_datasets(self, dataset: Any) -> None:
        """Stop if data sets and losses do not suit each other."""
        if dataset is None:
            return
        by_name: Mapping[Any, Any] = dataset if isinstance(dataset, Mapping) else {None: dataset}
        if isinstance(self.loss, Mapping):
            if not isinstance(dataset, Mapping):
                raise ValueError(
                    f"The losses are given by data set ({list(self.loss)}), so the data sets must be, too: pass "
                    "{'name': dataset, ...}."
                )
            missing = [name for name in dataset if name not in self.loss]
            if missing:
                raise ValueError(
                    f"No loss is given for the data sets {missing}; there are some for {list(self.loss)}."
                )
        for name, part in by_name.items():
            loss = self.loss[name] if isinstance(self.loss, Mapping) else self.loss
            check_dataset(
                part,
                loss,
                label_columns=self.valid_label_columns,
                read_labels=getattr(self.data_collator, "read_labels", stack_labels),
                name=name,
            )

    def preprocess_dataset(self, dataset: Any = None, dataset_name: str | None = None) -> Any:
        """Let each row of several data sets say which it is from, where anything depends on it.

        The caller's data sets are left as they are.

        Args:
            dataset: One data set, or several by name.
            dataset_name: Its name.
        """
        if isinstance(dataset, Mapping):
            return {name: self.preprocess_dataset(part, name) for name, part in dataset.items()}
        if (
            dataset is None
            or dataset_name is None
            or not self.should_dataset_name_column_be_added(dataset, self.args, self.loss)
        ):
            return dataset
        if is_stream(dataset):
            if hasattr(dataset, "map"):
                return dataset.map(partial(with_dataset_name, name=dataset_name))
            return dataset
        if not hasattr(dataset, "with_transform"):
            return dataset
        transform = partial(
            self.add_dataset_name_transform, dataset_name=dataset_name, **own_transform_of(dataset)
        )
        return dataset.with_transform(transform)

    def should_dataset_name_column_be_added(self, dataset: Any, args: Any, loss: Any) -> bool:
        """Whether the loss, the prompts or the tasks depend on the data set a row is from."""
        by_dataset = (getattr(args, "prompts", None), getattr(args, "router_mapping", None))
        return isinstance(loss, Mapping) or any(
            isinstance(setting, Mapping) and setting for setting in by_dataset
        )

    @staticmethod
    def add_dataset_name_transform(
        batch: dict[str, list[Any]],
        dataset_name: str | None = None,
        transform: Callable[[dict[str, list[Any]]], dict[str, list[Any]]] | None = None,
        **kwargs: Any,
    ) -> dict[str, list[Any]]:
        """Add the name of the data set to rows, after the data set's own transform.

        Args:
            batch: Rows, by column.
            dataset_name: The name; None for no column.
            transform: What the data set did to its rows before.
            **kwargs: Ignored.
        """
        if transform is not None:
            batch = transform(batch)
        if dataset_name and batch:
            count = len(next(iter(batch.values())))
            return {**batch, DATASET_NAME: [dataset_name] * count}
        return batch

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


class Nothing(torch.utils.data.Dataset):
    """A data set without rows, where there is only an evaluator."""

    def __len__(self) -> int:
        return 0

    def __getitem__(self, number: int) -> Any:
        raise IndexError(number)


def named_datasets(dataset: Any) -> Any:
    """Several data sets as a plain dictionary by name; a single one as it is."""
    return dict(dataset) if isinstance(dataset, Mapping) else dataset


def is_stream(dataset: Any) -> bool:
    """Whether rows are read one after another and have no number."""
    return isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__")


def with_dataset_name(row: dict[str, Any], name: str) -> dict[str, Any]:
    """A row with the name of its data set."""
    return {**row, DATASET_NAME: name}


def own_transform_of(dataset: Any) -> dict[str, Any]:
    """What a data set does to its rows when they are read, if anything."""
    settings = getattr(dataset, "_format_kwargs", None) or {}
    return {"transform": settings["transform"]} if callable(settings.get("transform")) else {}


def best_processing_class(model: Any) -> Any:
    """The tokenizer of a model, if it has one."""
    try:
        return model.tokenizer
    except AttributeError:
        return None
