"""Trainer callbacks that evaluate and save as `fit` promises.

They talk to each other through the trainer's `on_evaluate`, so that each of them also serves in a trainer that
evaluates by itself. When training steps happen is up to the trainer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

from sentence_transformers.training.evaluator_scores import BELOW_OUTPUT, gain, run_evaluator, score_in


class EvaluatorCallback(TrainerCallback):
    """Runs an evaluator at the end of each epoch.

    Args:
        evaluator: Called as `evaluator(model, output_path=…, epoch=…, steps=…)`.
        output_path: Folder below which it writes; None for none.
        evaluation_steps: Steps between evaluations within epochs; 0 for none.
        subfolder: Where below `output_path`; empty for that folder itself.
    """

    trainer: Any = None
    """Told of the metrics, and through it the other callbacks."""

    def __init__(
        self,
        evaluator: Any,
        output_path: str | None = None,
        evaluation_steps: int = 0,
        *,
        subfolder: str = BELOW_OUTPUT,
    ) -> None:
        super().__init__()
        self.subfolder = subfolder
        self.evaluator = evaluator
        self.output_path = output_path
        self.evaluation_steps = evaluation_steps
        self._latest_step = -1

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Evaluate, if it is time to; at the end of an epoch too, before its checkpoint is written."""
        is_due = self.evaluation_steps > 0 and state.global_step % self.evaluation_steps == 0
        if is_due or float(state.epoch).is_integer():
            self.evaluate(args, state, control, model)

    def on_epoch_end(self, args: Any, state: Any, control: Any, model: Any, **kwargs: Any) -> None:
        """Evaluate, unless these very weights have been."""
        if state.global_step != self._latest_step:
            self.evaluate(args, state, control, model)

    def evaluate(self, args: Any, state: Any, control: Any, model: Any) -> None:
        """Run the evaluator, and tell the trainer what it found."""
        started = time.monotonic()
        self._latest_step = state.global_step
        metrics = run_evaluator(
            self.evaluator,
            model,
            self.output_path,
            state.epoch,
            state.global_step,
            subfolder=self.subfolder,
        )
        metrics["eval_runtime"] = round(time.monotonic() - started, 4)
        if self.trainer is not None:
            self.trainer.log(metrics)
            self.trainer.callback_handler.on_evaluate(args, state, control, metrics)


class SaveModelCallback(TrainerCallback):
    """Saves the model whenever its score is the best so far, or at the end where nothing is evaluated.

    Args:
        output_dir: Where to save it; None keeps the score only.
        evaluator: Says which metric is the score and whether more is better; None if there is none.
        save_best_model: Whether to save the best model.
    """

    def __init__(self, output_dir: str | None, evaluator: Any, save_best_model: bool) -> None:
        super().__init__()
        self.output_dir = output_dir
        self.evaluator = evaluator
        self.save_best_model = save_best_model
        self.best_score = -math.inf
        """The best score so far; with its sign turned where less is better."""

    def is_better(self, new_metric: float) -> bool:
        """Whether a score beats all before it."""
        return gain(new_metric, self.evaluator) > self.best_score

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: dict[str, Any], model: Any, **kwargs: Any
    ) -> None:
        """Save the model if it is the best so far."""
        score = score_in(metrics, self.evaluator)
        if score is None or not self.is_better(score):
            return
        self.best_score = gain(score, self.evaluator)
        if self.save_best_model and self.output_dir is not None and state.is_world_process_zero:
            model.save(self.output_dir)

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any, **kwargs: Any) -> None:
        """Save the model if there was no evaluator to tell which is the best."""
        if self.evaluator is None and self.output_dir is not None and state.is_world_process_zero:
            model.save(self.output_dir)


class OriginalCallback(TrainerCallback):
    """Hands each score to a function.

    Args:
        callback: Called as `callback(score, epoch, steps)`: the part of the passes over the data that is done,
            and the steps that are.
        evaluator: Says which metric is the score.
    """

    def __init__(self, callback: Callable[[float, int, int], None], evaluator: Any) -> None:
        super().__init__()
        self.callback = callback
        self.evaluator = evaluator

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: dict[str, Any], **kwargs: Any
    ) -> None:
        """Call the function."""
        score = score_in(metrics, self.evaluator)
        if score is not None:
            self.callback(score, state.epoch, state.global_step)
