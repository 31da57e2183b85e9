"""The older way to train: `model.fit` with data loaders of `InputExample`.

`fit` hands its arguments to the trainer, which takes one step for each batch. `old_fit` is the plain loop that
came before, and needs no package beside torch. Here stands what is said to the dense kind; what all kinds
do with it stands in `fit_objectives.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from sentence_transformers.training.columns import stack_labels
from sentence_transformers.training.fit_objectives import FitOptions, ObjectiveFitting

if TYPE_CHECKING:
    from sentence_transformers.inputs.example import InputExample


class FitMixin(ObjectiveFitting):
    """`fit` for a model of the dense kind; uses its `tokenize(texts)`, and what `ObjectiveFitting` does."""

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
        self._fit_objectives(train_objectives, FitOptions.among(locals()))

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
        self._old_fit_objectives(train_objectives, FitOptions.among(locals()))

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
