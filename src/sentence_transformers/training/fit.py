"""The older way to train: `model.fit` with data loaders of `InputExample`.

`fit` hands its arguments to the trainer, which takes one step for each batch. `old_fit` is the plain loop that
came before, and needs no package beside torch. What they share stands here and in the files beside this one:
`objectives.py` reads the loaders, `evaluator_scores.py` the evaluators.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from sentence_transformers.storage.environment import is_accelerate_available
from sentence_transformers.training.columns import stack_labels
from sentence_transformers.training.evaluator_scores import gain, run_evaluator, score_in
from sentence_transformers.training.objectives import (
    EndlessBatches,
    ObjectiveBatches,
    batches_in_an_epoch,
    collating,
)

if TYPE_CHECKING:
    from sentence_transformers.inputs.example import InputExample

RateShape = Callable[[int, int, int], float]
"""Step, warm-up steps, all steps -> factor for the learning rate."""


class FitMixin:
    """`fit` for a model of the dense kind.

    Uses of the model: `device`, `tokenize(texts)`, `save(path)`, and what the losses and evaluators use.
    """

    best_score: float = -math.inf
    """The best score of the last training; with its sign turned where less is better."""

    def fit(
        self,
        train_objectives: Iterable[tuple[DataLoader, nn.Module]],
        evaluator: Any = None,
        epochs: int = 1,
        steps_per_epoch: int | None = None,
        scheduler: str = "WarmupLinear",
        warmup_steps: int = 10000,
        optimizer_class: type[Optimizer] = torch.optim.AdamW,
        optimizer_params: dict[str, object] = {"lr": 2e-05},  # noqa: B006  (never changed)
        weight_decay: float = 0.01,
        evaluation_steps: int = 0,
        output_path: str | None = None,
        save_best_model: bool = True,
        max_grad_norm: float = 1,
        use_amp: bool = False,
        callback: Callable[[float, int, int], None] | None = None,
        show_progress_bar: bool = True,
        checkpoint_path: str | None = None,
        checkpoint_save_steps: int = 500,
        checkpoint_save_total_limit: int = 0,
        resume_from_checkpoint: bool | str = False,
    ) -> None:
        """Train the model with the trainer.

        A step is one batch of one objective; the objectives take turns. Their loaders say what a batch is and in
        which order batches come. A loader that runs out starts again, and one that does not goes on in the next
        epoch.

        Args:
            train_objectives: Pairs of a data loader and the loss for its batches. The loader gives lists of
                `InputExample`, or, with a collate function of its own, the features of each column and the
                labels. The loss is called as `loss(columns, labels)` and returns a scalar, or scalars by name
                that are added up.
            evaluator: Called as `evaluator(model, output_path=…, epoch=…, steps=…)`, see `callback`. Returns a
                score, or metrics by name, of which its `primary_metric` is the score.
            epochs: Passes over the data.
            steps_per_epoch: Batches taken from each loader in an epoch; None or 0 for the length of the shortest.
            scheduler: How the learning rate goes, see `RATE_SHAPES`; upper and lower case are alike.
            warmup_steps: Steps over which the learning rate rises from 0, in the shapes with a warm-up.
            optimizer_class: Makes the optimizer.
            optimizer_params: Arguments of `optimizer_class`.
            weight_decay: Decay of the weights; biases and the gains of norms have none.
            evaluation_steps: Steps between evaluations; 0 evaluates after each epoch only.
            output_path: Where the model is saved, and below it, in `eval`, what the evaluator writes.
            save_best_model: Save the model whenever its score is the best so far. Without an evaluator the
                model is saved at the end.
            max_grad_norm: The gradient's norm is cut to this value.
            use_amp: Compute in mixed precision.
            callback: Called as `callback(score, epoch, steps)` after each evaluation. The epoch is the part of
                the passes that is done, such as 1.5, and the steps are those since the beginning.
            show_progress_bar: Show how far training is.
            checkpoint_path: Folder for checkpoints, each in a folder `checkpoint-<steps>`.
            checkpoint_save_steps: Steps between checkpoints; 0 saves one at the end only.
            checkpoint_save_total_limit: How many checkpoints are kept, the oldest going first; 0 keeps all.
            resume_from_checkpoint: A checkpoint that training goes on from, or True for the last one in
                `checkpoint_path`. Data goes on in the order it had, as far as the loader draws that when it is
                started; give the same objectives and arguments as before.

        Raises:
            ImportError: Without the packages of the extra `train`.
            ValueError: If the scheduler has an unknown name, or there is nothing to train on or to resume from.
        """
        if not is_accelerate_available():
            raise ImportError(
                'fit trains with the package accelerate: pip install "sentence-transformers[train]". Without it, '
                "old_fit takes the same arguments."
            )
        from sentence_transformers.training.fit_callbacks import SaveModelCallback
        from sentence_transformers.training.fit_trainer import FitTrainer, checkpoint_to_resume, fit_arguments

        objectives = list(train_objectives)
        rounds = batches_in_an_epoch([loader for loader, _ in objectives], steps_per_epoch)
        loss_by_name = {f"objective_{number}": loss for number, (_, loss) in enumerate(objectives, 1)}
        loaders = dict(zip(loss_by_name, [loader for loader, _ in objectives], strict=True))
        batches = ObjectiveBatches(loaders, self.smart_batching_collate, rounds=rounds)
        all_steps = epochs * len(batches)
        checkpoint = checkpoint_to_resume(resume_from_checkpoint, checkpoint_path)
        saver = SaveModelCallback(output_path, evaluator, save_best_model)
        with (
            tempfile.TemporaryDirectory() as nowhere,
            collating(loaders.values(), self.smart_batching_collate),
        ):
            arguments = fit_arguments(
                torch.device(self.device),  # type: ignore[attr-defined]
                output_dir=checkpoint_path or nowhere,
                save_steps=(checkpoint_save_steps or all_steps) if checkpoint_path else 0,
                save_total_limit=checkpoint_save_total_limit,
                use_amp=use_amp,
                show_progress_bar=show_progress_bar,
                num_train_epochs=epochs,
                max_grad_norm=max_grad_norm,
                # These are told to the model's card; what is done stands below.
                learning_rate=float(optimizer_params.get("lr", 0.0)),  # type: ignore[arg-type]
                weight_decay=weight_decay,
                warmup_steps=warmup_steps,
                lr_scheduler_type=NAMES_IN_TRANSFORMERS.get(scheduler.lower(), "linear"),
                per_device_train_batch_size=getattr(objectives[0][0], "batch_size", None) or 1,
            )
            trainer = FitTrainer(
                self,
                arguments,
                loss=loss_by_name,
                batches=batches,
                evaluator=evaluator,
                evaluation_steps=evaluation_steps,
                saver=saver,
                callback=callback,
            )
            trainer.optimizer = optimizer_class(
                parameter_groups(nn.ModuleList([self, *trainer.losses()]), weight_decay),
                **optimizer_params,
            )
            trainer.lr_scheduler = self._get_scheduler(
                trainer.optimizer, scheduler=scheduler, warmup_steps=warmup_steps, t_total=all_steps
            )
            if checkpoint is not None:
                trainer.go_on_from(checkpoint)
            trainer.train(resume_from_checkpoint=checkpoint)
        self.best_score = saver.best_score

    def old_fit(
        self,
        train_objectives: Iterable[tuple[DataLoader, nn.Module]],
        evaluator: Any = None,
        epochs: int = 1,
        steps_per_epoch: int | None = None,
        scheduler: str = "WarmupLinear",
        warmup_steps: int = 10000,
        optimizer_class: type[Optimizer] = torch.optim.AdamW,
        optimizer_params: dict[str, object] = {"lr": 2e-05},  # noqa: B006  (never changed)
        weight_decay: float = 0.01,
        evaluation_steps: int = 0,
        output_path: str | None = None,
        save_best_model: bool = True,
        max_grad_norm: float = 1,
        use_amp: bool = False,
        callback: Callable[[float, int, int], None] | None = None,
        show_progress_bar: bool = True,
        checkpoint_path: str | None = None,
        checkpoint_save_steps: int = 500,
        checkpoint_save_total_limit: int = 0,
    ) -> None:
        """Train the model with a plain loop.

        Arguments as in `fit`, but a step takes one batch of every objective, each of which has an optimizer of
        its own. So `warmup_steps`, `evaluation_steps` and `checkpoint_save_steps` count such steps. The evaluator
        and `callback` are given the number of the epoch, from 0, and the steps in it, -1 at its end. Checkpoints
        hold the model only, in a folder named by the step.
        """
        objectives = list(train_objectives)
        steps_per_epoch = batches_in_an_epoch([loader for loader, _ in objectives], steps_per_epoch)

        device = torch.device(self.device)  # type: ignore[attr-defined]
        self.to(device)  # type: ignore[attr-defined]
        losses = [loss.to(device) for _, loss in objectives]
        optimizers = [
            optimizer_class(parameter_groups(loss, weight_decay), **optimizer_params) for loss in losses
        ]
        schedulers = [
            self._get_scheduler(
                optimizer, scheduler=scheduler, warmup_steps=warmup_steps, t_total=epochs * steps_per_epoch
            )
            for optimizer in optimizers
        ]
        # Float16 needs its gradients scaled; on other devices mixed precision is bfloat16, which does not.
        scaler = torch.amp.GradScaler(device.type, enabled=use_amp and device.type == "cuda")
        card = getattr(self, "model_card_data", None)
        if card is not None:
            card.set_losses(losses)

        self.best_score = -math.inf
        global_step = 0
        with collating([loader for loader, _ in objectives], self.smart_batching_collate):
            streams = [EndlessBatches(loader, self.smart_batching_collate) for loader, _ in objectives]
            for epoch in tqdm(range(epochs), desc="Epoch", disable=not show_progress_bar):
                set_training(losses)
                for step in tqdm(range(steps_per_epoch), desc="Iteration", disable=not show_progress_bar):
                    for loss, optimizer, rate, stream in zip(
                        losses, optimizers, schedulers, streams, strict=True
                    ):
                        columns, labels = next(stream)
                        with torch.autocast(device.type, enabled=use_amp):
                            value = total(
                                loss([moved(column, device) for column in columns], moved(labels, device))
                            )
                        scaler.scale(value).backward()
                        scaler.unscale_(optimizer)
                        nn.utils.clip_grad_norm_(loss.parameters(), max_grad_norm)
                        scale = scaler.get_scale()
                        scaler.step(optimizer)
                        scaler.update()
                        optimizer.zero_grad()
                        # The scaler skips a step whose gradient overflowed, and then lowers its scale.
                        if scaler.get_scale() >= scale:
                            rate.step()
                    global_step += 1
                    if evaluation_steps > 0 and (step + 1) % evaluation_steps == 0:
                        self._eval_during_training(
                            evaluator, output_path, save_best_model, epoch, step + 1, callback
                        )
                        set_training(losses)
                    if checkpoint_path and checkpoint_save_steps and global_step % checkpoint_save_steps == 0:
                        self._save_checkpoint(checkpoint_path, checkpoint_save_total_limit, global_step)
                self._eval_during_training(evaluator, output_path, save_best_model, epoch, -1, callback)

        if evaluator is None and output_path is not None:
            self.save(output_path)  # type: ignore[attr-defined]
        if checkpoint_path and not (checkpoint_save_steps and global_step % checkpoint_save_steps == 0):
            self._save_checkpoint(checkpoint_path, checkpoint_save_total_limit, global_step)

    def smart_batching_collate(self, batch: list[InputExample]) -> tuple[list[dict[str, Tensor]], Tensor]:
        """Turn examples into what a loss takes.

        Args:
            batch: B examples, all with the same number of texts.

        Returns:
            The features of each column of texts, tokenised together, and the labels: (B,), int64 for whole
            numbers, else float32; (B, N) for labels that are vectors.
        """
        counts = {len(example.texts or ()) for example in batch}
        if len(counts) > 1:
            raise ValueError(
                f"The examples of a batch have different numbers of texts ({sorted(counts)}). Give every "
                "InputExample of a data loader the same number, one text for each column of the loss."
            )
        columns = zip(*(example.texts or () for example in batch))
        features = [self.tokenize(list(column)) for column in columns]  # type: ignore[attr-defined]
        return features, stack_labels([example.label for example in batch])

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
        metrics = run_evaluator(evaluator, self, output_path, epoch, steps)
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
