"""What `fit` and `old_fit` do for every kind of model: train on objectives, pairs of a data loader and a loss.

A kind's own file has the public arguments and says what a batch of its examples is. The files beside this one
read the loaders (`objectives.py`) and the evaluators (`evaluator_scores.py`).
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from sentence_transformers.inputs.example import InputExample
from sentence_transformers.storage.environment import is_accelerate_available
from sentence_transformers.training.evaluator_scores import BELOW_OUTPUT, gain, run_evaluator, score_in
from sentence_transformers.training.objectives import (
    EndlessBatches,
    ObjectiveBatches,
    batches_in_an_epoch,
    collating,
)

Objectives = Iterable[tuple[DataLoader, nn.Module]]

RateShape = Callable[[int, int, int], float]
"""Step, warm-up steps, all steps -> factor for the learning rate."""


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """What a call of `fit` or `old_fit` asks for; see `FitMixin.fit`."""

    evaluator: Any
    epochs: int
    steps_per_epoch: int | None = None
    scheduler: str
    warmup_steps: int
    optimizer_class: type[Optimizer]
    optimizer_params: dict[str, object]
    weight_decay: float
    evaluation_steps: int
    output_path: str | None
    save_best_model: bool
    max_grad_norm: float
    use_amp: bool
    callback: Callable[[float, int, int], None] | None
    show_progress_bar: bool
    checkpoint_path: str | None = None
    checkpoint_save_steps: int = 500
    checkpoint_save_total_limit: int = 0
    resume_from_checkpoint: bool | str = False

    @classmethod
    def among(cls, arguments: Mapping[str, Any]) -> FitOptions:
        """The options among the arguments of a call, which `locals()` gives at its beginning."""
        names = [option.name for option in fields(cls)]
        return cls(**{name: arguments[name] for name in names if name in arguments})

    def new_optimizer(self, trained: nn.Module) -> Optimizer:
        """An optimizer for the parameters of a loss, those of the model among them."""
        return self.optimizer_class(parameter_groups(trained, self.weight_decay), **self.optimizer_params)


class ObjectiveFitting:
    """Training on objectives, for the `fit` of a model.

    A kind writes `smart_batching_collate`. Also uses of the model: `device`, `save(path)`, and what the losses and
    evaluators use.
    """

    best_score: float = -math.inf
    """The best score of the last training; with its sign turned where less is better."""

    evaluator_folder: str = BELOW_OUTPUT
    """Folder below `output_path` in which an evaluator writes while `fit` runs; empty for that folder itself."""

    def smart_batching_collate(self, batch: list[InputExample]) -> tuple[Any, Tensor]:
        """The features of each column of a batch, or just those of an only column, and the labels."""
        raise NotImplementedError(f"{type(self).__name__} does not define `smart_batching_collate`.")

    def _fit_objectives(self, train_objectives: Objectives, options: FitOptions) -> None:
        """Train with the trainer: a step takes one batch of one objective."""
        if not is_accelerate_available():
            raise ImportError(
                'fit trains with the package accelerate: pip install "sentence-transformers[train]". Without it, '
                "old_fit takes the same arguments."
            )
        from sentence_transformers.training.fit_callbacks import SaveModelCallback
        from sentence_transformers.training.fit_trainer import FitTrainer, checkpoint_to_resume, fit_arguments

        objectives = list(train_objectives)
        rounds = batches_in_an_epoch([loader for loader, _ in objectives], options.steps_per_epoch)
        loss_by_name = {f"objective_{number}": loss for number, (_, loss) in enumerate(objectives, 1)}
        loaders = dict(zip(loss_by_name, [loader for loader, _ in objectives], strict=True))
        batches = ObjectiveBatches(loaders, self.smart_batching_collate, rounds=rounds)
        all_steps = options.epochs * len(batches)
        checkpoint = checkpoint_to_resume(options.resume_from_checkpoint, options.checkpoint_path)
        saver = SaveModelCallback(options.output_path, options.evaluator, options.save_best_model)
        with (
            tempfile.TemporaryDirectory() as nowhere,
            collating(loaders.values(), self.smart_batching_collate),
        ):
            arguments = fit_arguments(
                torch.device(self.device),  # type: ignore[attr-defined]
                output_dir=options.checkpoint_path or nowhere,
                save_steps=(options.checkpoint_save_steps or all_steps) if options.checkpoint_path else 0,
                save_total_limit=options.checkpoint_save_total_limit,
                use_amp=options.use_amp,
                show_progress_bar=options.show_progress_bar,
                num_train_epochs=options.epochs,
                max_grad_norm=options.max_grad_norm,
                # These are told to the model's card; what is done stands below.
                learning_rate=float(options.optimizer_params.get("lr", 0.0)),  # type: ignore[arg-type]
                weight_decay=options.weight_decay,
                warmup_steps=options.warmup_steps,
                lr_scheduler_type=NAMES_IN_TRANSFORMERS.get(options.scheduler.lower(), "linear"),
                per_device_train_batch_size=getattr(objectives[0][0], "batch_size", None) or 1,
            )
            trainer = FitTrainer(
                self,
                arguments,
                loss=loss_by_name,
                batches=batches,
                evaluator=options.evaluator,
                evaluation_steps=options.evaluation_steps,
                evaluator_folder=self.evaluator_folder,
                saver=saver,
                callback=options.callback,
            )
            trainer.optimizer = options.new_optimizer(nn.ModuleList([self, *trainer.losses()]))
            trainer.lr_scheduler = self._get_scheduler(
                trainer.optimizer, options.scheduler, options.warmup_steps, all_steps
            )
            if checkpoint is not None:
                trainer.go_on_from(checkpoint)
            trainer.train(resume_from_checkpoint=checkpoint)
        self.best_score = saver.best_score

    def _old_fit_objectives(self, train_objectives: Objectives, options: FitOptions) -> None:
        """Train with a plain loop: a step takes one batch of every objective, each with its own optimizer."""
        objectives = list(train_objectives)
        steps_per_epoch = batches_in_an_epoch([loader for loader, _ in objectives], options.steps_per_epoch)

        device = torch.device(self.device)  # type: ignore[attr-defined]
        self.to(device)  # type: ignore[attr-defined]
        losses = [loss.to(device) for _, loss in objectives]
        optimizers = [options.new_optimizer(loss) for loss in losses]
        all_steps = options.epochs * steps_per_epoch
        schedulers = [
            self._get_scheduler(optimizer, options.scheduler, options.warmup_steps, all_steps)
            for optimizer in optimizers
        ]
        # Float16 needs its gradients scaled; on other devices mixed precision is bfloat16, which does not.
        scaler = torch.amp.GradScaler(device.type, enabled=options.use_amp and device.type == "cuda")
        card = getattr(self, "model_card_data", None)
        if card is not None:
            card.set_losses(losses)

        def evaluate(epoch: int, steps: int) -> None:
            self._eval_during_training(
                options.evaluator,
                options.output_path,
                options.save_best_model,
                epoch,
                steps,
                options.callback,
            )

        def save_checkpoint(step: int) -> None:
            assert options.checkpoint_path is not None
            self._save_checkpoint(options.checkpoint_path, options.checkpoint_save_total_limit, step)

        def is_checkpoint(step: int) -> bool:
            return options.checkpoint_save_steps > 0 and step % options.checkpoint_save_steps == 0

        hides_progress = not options.show_progress_bar
        self.best_score = -math.inf
        global_step = 0
        with collating([loader for loader, _ in objectives], self.smart_batching_collate):
            streams = [EndlessBatches(loader, self.smart_batching_collate) for loader, _ in objectives]
            for epoch in tqdm(range(options.epochs), desc="Epoch", disable=hides_progress):
                set_training(losses)
                for step in tqdm(range(steps_per_epoch), desc="Iteration", disable=hides_progress):
                    for loss, optimizer, rate, stream in zip(
                        losses, optimizers, schedulers, streams, strict=True
                    ):
                        columns, labels = next(stream)
                        with torch.autocast(device.type, enabled=options.use_amp):
                            value = total(
                                loss([moved(column, device) for column in columns], moved(labels, device))
                            )
                        scaler.scale(value).backward()
                        scaler.unscale_(optimizer)
                        nn.utils.clip_grad_norm_(loss.parameters(), options.max_grad_norm)
                        scale = scaler.get_scale()
                        scaler.step(optimizer)
                        scaler.update()
                        optimizer.zero_grad()
                        # The scaler skips a step whose gradient overflowed, and then lowers its scale.
                        if scaler.get_scale() >= scale:
                            rate.step()
                    global_step += 1
                    if options.evaluation_steps > 0 and (step + 1) % options.evaluation_steps == 0:
                        evaluate(epoch, step + 1)
                        set_training(losses)
                    if options.checkpoint_path and is_checkpoint(global_step):
                        save_checkpoint(global_step)
                evaluate(epoch, -1)

        if options.evaluator is None and options.output_path is not None:
            self.save(options.output_path)  # type: ignore[attr-defined]
        if options.checkpoint_path and not is_checkpoint(global_step):
            save_checkpoint(global_step)

    @staticmethod
    def _get_scheduler(optimizer: Optimizer, scheduler: str, warmup_steps: int, t_total: int) -> LambdaLR:
        """Learning rate scheduler of a name; see `RATE_SHAPES`."""
        shape = RATE_SHAPES.get(scheduler.lower())
        if shape is None:
            raise ValueError(f"Unknown scheduler {scheduler!r}. Known: {', '.join(sorted(RATE_SHAPES))}.")
        return LambdaLR(optimizer, lambda step: shape(step, warmup_steps, t_total))

    def _eval_during_training(
        self,
        evaluator: Any,
        output_path: str | None,
        save_best_model: bool,
        epoch: int,
        steps: int,
        callback: Callable[[float, int, int], None] | None,
    ) -> None:
        """Evaluate, tell the callback, and save the model if it is the best so far."""
        if evaluator is None:
            return
        metrics = run_evaluator(evaluator, self, output_path, epoch, steps, subfolder=self.evaluator_folder)
        score = score_in(metrics, evaluator)
        if callback is not None:
            callback(score, epoch, steps)
        if gain(score, evaluator) > self.best_score:
            self.best_score = gain(score, evaluator)
            if save_best_model and output_path is not None:
                self.save(output_path)  # type: ignore[attr-defined]

    def _save_checkpoint(self, checkpoint_path: str, checkpoint_save_total_limit: int, step: int) -> None:
        """Save the model under its step, and delete the oldest checkpoints above the limit."""
        folder = Path(checkpoint_path)
        self.save(str(folder / str(step)))  # type: ignore[attr-defined]
        if checkpoint_save_total_limit > 0:
            steps = sorted(int(child.name) for child in folder.iterdir() if child.name.isdecimal())
            for old in steps[:-checkpoint_save_total_limit]:
                shutil.rmtree(folder / str(old))


def warmed_up(step: int, warmup_steps: int) -> float:
    return min(1.0, step / max(1, warmup_steps))


def progress(step: int, warmup_steps: int, all_steps: int) -> float:
    """Share of the way from the end of the warm-up to the last step, 0 to 1."""
    return min(1.0, max(0.0, (step - warmup_steps) / max(1, all_steps - warmup_steps)))


def cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * share))


RATE_SHAPES: Mapping[str, RateShape] = {
    "constantlr": lambda step, warmup, all_steps: 1.0,
    "warmupconstant": lambda step, warmup, all_steps: warmed_up(step, warmup),
    "warmuplinear": lambda step, warmup, all_steps: (
        warmed_up(step, warmup) * (1 - progress(step, warmup, all_steps))
    ),
    "warmupcosine": lambda step, warmup, all_steps: (
        warmed_up(step, warmup) * cosine(progress(step, warmup, all_steps))
    ),
    # One restart-free cycle is what the name has always meant here, so it equals the plain cosine.
    "warmupcosinewithhardrestarts": lambda step, warmup, all_steps: (
        warmed_up(step, warmup) * cosine(progress(step, warmup, all_steps))
    ),
}
"""How the learning rate goes over the steps, by name."""

NAMES_IN_TRANSFORMERS: Mapping[str, str] = {
    "constantlr": "constant",
    "warmupconstant": "constant_with_warmup",
    "warmuplinear": "linear",
    "warmupcosine": "cosine",
    "warmupcosinewithhardrestarts": "cosine_with_restarts",
}
"""What transformers calls the same."""


def parameter_groups(loss: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters to train, with and without decay: vectors and scalars (biases, gains of norms) have none."""
    trained = [parameter for parameter in loss.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]


def set_training(losses: list[nn.Module]) -> None:
    """Back to training mode, which an evaluator leaves, and with no gradient left over from it."""
    for loss in losses:
        loss.zero_grad()
        loss.train()


def total(value: Tensor | Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(value.values())).sum() if isinstance(value, Mapping) else value


def moved(value: Any, device: torch.device) -> Any:
    """A tensor, or the tensors of a dictionary, on the device."""
    if isinstance(value, Mapping):
        return {name: moved(entry, device) for name, entry in value.items()}
    return value.to(device) if isinstance(value, Tensor) else value
