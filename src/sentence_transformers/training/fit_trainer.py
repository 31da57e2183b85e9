"""The trainer beneath `model.fit`: its batches come from the objectives, and its checkpoints say where they were.

What `fit` evaluates and saves is done by the callbacks in `fit_callbacks.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers.trainer_callback import PrinterCallback, TrainerState
from transformers.trainer_utils import get_last_checkpoint

from sentence_transformers.tensors.randomness import global_state_kept
from sentence_transformers.training.arguments import BaseTrainingArguments
from sentence_transformers.training.evaluator_scores import BELOW_OUTPUT
from sentence_transformers.training.fit_callbacks import (
    EvaluatorCallback,
    OriginalCallback,
    SaveModelCallback,
)
from sentence_transformers.training.objectives import FirstExamples, ObjectiveBatches
from sentence_transformers.training.trainer import BaseTrainer

FIT_STATE = "fit_state.pt"
"""In a checkpoint, where the loaders are and the best score so far."""


class FitTrainer(BaseTrainer):
    """Trains a model on batches that come ready.

    The optimizer and the schedule of its rate are set from outside.

    Args:
        model: The model.
        args: The arguments.
        loss: The loss of each objective.
        batches: Of the same objectives.
        evaluator: See `fit`, as for what follows.
        evaluation_steps: See there.
        evaluator_folder: Where the evaluator writes, below the folder of the model.
        saver: Saves the model, and keeps the best score.
        callback: See `fit`.
    """

    def __init__(
        self,
        model: Any,
        args: Any,
        *,
        loss: Mapping[str, nn.Module],
        batches: ObjectiveBatches,
        evaluator: Any,
        evaluation_steps: int,
        evaluator_folder: str = BELOW_OUTPUT,
        saver: SaveModelCallback,
        callback: Callable[[float, int, int], None] | None,
    ) -> None:
        self.batches = batches
        self.saver = saver
        callbacks: list[Any] = [saver]
        if evaluator is not None:
            runs = EvaluatorCallback(
                evaluator, saver.output_dir, evaluation_steps, subfolder=evaluator_folder
            )
            runs.trainer = self
            callbacks.insert(0, runs)
        if callback is not None:
            callbacks.append(OriginalCallback(callback, evaluator))
        # A trainer sets all seeds; here the loaders' order and the dropout are to follow the caller's.
        with global_state_kept():
            super().__init__(model=model, args=args, loss=loss, data_collator=as_it_is, callbacks=callbacks)
        if args.disable_tqdm:
            self.remove_callback(PrinterCallback)
        # Only read for the model's card.
        self.train_dataset = {name: FirstExamples(stream.loader) for name, stream in batches.streams.items()}

    def get_train_dataloader(self) -> DataLoader:
        """The batches, ready as they are."""
        # With a generator of its own, a loader draws nothing from the one that the objectives' loaders use.
        return DataLoader(self.batches, batch_size=None, collate_fn=as_it_is, generator=torch.Generator())

    def collect_features(self, inputs: Mapping[str, Any]) -> tuple[list[dict[str, Any]], Tensor | None]:
        """The features of the columns and the labels, which a batch of these has apart."""
        return inputs["columns"], inputs["label"]

    def go_on_from(self, checkpoint: str) -> None:
        """Put the batches and the best score where they were when a checkpoint was written."""
        steps = TrainerState.load_from_json(str(Path(checkpoint) / "trainer_state.json")).global_step
        file = Path(checkpoint) / FIT_STATE
        known = torch.load(file, weights_only=True) if file.is_file() else {}
        self.batches.resume(
            known.get("objectives", {}),
            steps=steps,
            restore=lambda: super(FitTrainer, self)._load_rng_state(checkpoint),
        )
        self.saver.best_score = known.get("best_score", -math.inf)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Nothing: the batches have the random state restored when it is time, before they draw a new order."""

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        state = {"objectives": self.batches.state(), "best_score": self.saver.best_score}
        torch.save(state, Path(output_dir) / FIT_STATE)


def fit_arguments(
    device: torch.device,
    *,
    output_dir: str,
    save_steps: int,
    save_total_limit: int,
    use_amp: bool,
    show_progress_bar: bool,
    **others: Any,
) -> BaseTrainingArguments:
    """Arguments of the trainer.

    Args:
        device: Where the model is.
        output_dir: Folder for checkpoints.
        save_steps: Steps between them; 0 for none at all.
        save_total_limit: How many are kept; 0 for all.
        use_amp: Whether to compute in mixed precision.
        show_progress_bar: Whether to show how far training is.
        **others: Further arguments of `BaseTrainingArguments`.
    """
    arguments = BaseTrainingArguments(
        output_dir=output_dir,
        save_strategy="steps" if save_steps else "no",
        save_steps=save_steps or 1,
        save_total_limit=save_total_limit or None,
        fp16=use_amp and device.type == "cuda",
        # On other devices mixed precision is bfloat16, whose gradients need no scaling.
        bf16=use_amp and device.type != "cuda",
        use_cpu=device.type == "cpu",
        disable_tqdm=not show_progress_bar,
        report_to="none",
        **others,
    )
    # One device, as `fit` always used; otherwise each batch would be split over all that there are.
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def as_it_is(batch: Any) -> Any:
    return batch


def checkpoint_to_resume(resume_from_checkpoint: bool | str, checkpoint_path: str | None) -> str | None:
    """The folder of the checkpoint that is meant; None for none.

    Raises:
        ValueError: If there is no such checkpoint.
    """
    if not resume_from_checkpoint:
        return None
    if resume_from_checkpoint is not True:
        found: str | None = str(resume_from_checkpoint)
    elif checkpoint_path is None:
        raise ValueError(
            "resume_from_checkpoint=True goes on from the last checkpoint in checkpoint_path, and that is None. Pass "
            "the folder of the checkpoints, or the checkpoint itself."
        )
    else:
        found = get_last_checkpoint(checkpoint_path) if Path(checkpoint_path).is_dir() else None
    if found is None or not (Path(found) / "trainer_state.json").is_file():
        raise ValueError(
            f"resume_from_checkpoint={resume_from_checkpoint!r}: {found or checkpoint_path} holds no checkpoint that "
            "training could go on from. Pass a folder checkpoint-<steps> that fit has written."
        )
    return found
