"""The older way to train a cross-encoder: `model.fit` with a data loader of `InputExample`.

An example is a pair of texts, and the loss a function of the pairs' logits and labels. How training goes on
from there is the same as for every kind (`training/fit_objectives.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, get_worker_info

from sentence_transformers.cross_encoder.losses.base import AS_IT_IS, Activation, scored
from sentence_transformers.cross_encoder.losses.pointwise import check_classes
from sentence_transformers.cross_encoder.pairs import Pair, as_pair, is_pair_of_texts, read_pairs, shown
from sentence_transformers.losses.base import EmbeddingLoss, LossPart
from sentence_transformers.losses.features import Features
from sentence_transformers.losses.retokenize import on_device, prepared
from sentence_transformers.storage.importing import fullname
from sentence_transformers.tensors.embeddings import Embeddings
from sentence_transformers.training.columns import stack_labels
from sentence_transformers.training.fit_objectives import FitOptions, ObjectiveFitting
from sentence_transformers.training.objectives import are_examples, has_no_collate, length_of

if TYPE_CHECKING:
    from sentence_transformers.inputs.example import InputExample

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""Logits (B,) or (B, num_labels), labels -> a scalar."""


class FitMixin(ObjectiveFitting):
    """`fit` for a cross-encoder; uses its `num_labels` and `preprocess(pairs)`, and what `ObjectiveFitting` does."""

    evaluator_folder = ""

    def fit(
        self,
        train_dataloader: DataLoader,
        evaluator: Any = None,
        epochs: int = 1,
        loss_fct: LossFunction | None = None,
        activation_fct: Activation = AS_IT_IS,
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
    ) -> None:
        """Train the model with the trainer, on the loader's batches in the order they come.

        Arguments that are not told here are as in `SentenceTransformer.fit`.

        Args:
            train_dataloader: Gives lists of `InputExample`, each with two texts and a label; or, with a collate
                function of its own, the features of a batch of pairs, and the labels. With one score for each
                pair a label is a number; with several it is the number of a class, or a number for each score.
            evaluator: See there.
            epochs: Passes over the data.
            loss_fct: Called as `loss_fct(logits, labels)`, with logits (B,) and float labels (B,), or, with
                several scores, with logits (B, num_labels) and int64 classes (B,) or float labels
                (B, num_labels). Returns a scalar. A module's own parameters are trained too. None for
                `torch.nn.BCEWithLogitsLoss` with one score, `torch.nn.CrossEntropyLoss` with several.
            activation_fct: Applied to the logits, (B, num_labels), before the loss. What `predict` applies is
                `activation_fn` of the model.
            output_path: Where the model is saved, and the evaluator writes.

        Raises:
            ImportError: Without the packages of the extra `train`.
            ValueError: If an example is no pair, or its label or the loss does not suit the model's number of
                scores; for a data set that is a list, before training begins.

        Example:
            >>> from sentence_transformers import CrossEncoder, InputExample
            >>> from torch.utils.data import DataLoader
            >>> model = CrossEncoder("cross-encoder/ms-marco-MiniLM-L6-v2")  # doctest: +SKIP
            >>> examples = [
            ...     InputExample(texts=["How tall is it?", "It is 300 m tall."], label=1.0),
            ...     InputExample(texts=["How tall is it?", "It is red."], label=0.0),
            ... ]
            >>> loader = DataLoader(examples, batch_size=16, shuffle=True)
            >>> model.fit(loader, epochs=1, warmup_steps=100)  # doctest: +SKIP
        """
        options = FitOptions.among(locals())
        self._fit_objectives([self._objective(train_dataloader, loss_fct, activation_fct)], options)

    def old_fit(
        self,
        train_dataloader: DataLoader,
        evaluator: Any = None,
        epochs: int = 1,
        loss_fct: LossFunction | None = None,
        activation_fct: Activation = AS_IT_IS,
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
    ) -> None:
        """Train the model with a plain loop, which needs no package beside torch.

        Arguments as in `fit`. The evaluator and `callback` are given the number of the epoch, from 0, and the
        steps in it, -1 at its end.
        """
        options = FitOptions.among(locals())
        self._old_fit_objectives([self._objective(train_dataloader, loss_fct, activation_fct)], options)

    def smart_batching_collate(self, batch: list[InputExample]) -> tuple[Features, Tensor]:
        """Turn examples into what the model and a loss take.

        Args:
            batch: B examples, each with two texts and a label.

        Returns:
            The features of the pairs, tokenised together, on the model's device; and the labels: with one score
            float32 (B,), with several int64 (B,), or float32 (B, num_labels) where each is several numbers.

        Raises:
            ValueError: If an example is no pair of texts, or its label does not suit the model.
        """
        pairs, labels = pairs_and_labels(batch, self.num_labels)  # type: ignore[attr-defined]
        return self._features(pairs), labels if get_worker_info() else labels.to(self.device)  # type: ignore[attr-defined]

    def smart_batching_collate_text_only(self, batch: list[Pair]) -> Features:
        """The features of pairs of texts, tokenised together, on the model's device.

        Raises:
            ValueError: If something in the batch is no pair of texts.
        """
        return self._features(read_pairs(batch)[0])

    def _features(self, pairs: list[Pair]) -> Features:
        features = prepared(self, pairs)
        # A loader's worker process cannot use the model's device; what comes from it is moved later.
        return features if get_worker_info() else on_device(features, self.device)  # type: ignore[attr-defined]

    def _objective(
        self, loader: DataLoader, loss_fct: LossFunction | None, activation_fct: Activation
    ) -> tuple[DataLoader, nn.Module]:
        """The loader and the loss for its batches, checked as far as can be seen."""
        if are_examples(loader) or not hasattr(loader, "__iter__"):
            raise ValueError(
                f"train_dataloader is {shown(loader)}, which gives no batches. Pass "
                "torch.utils.data.DataLoader(examples, batch_size=16, shuffle=True)."
            )
        length = length_of(loader)
        if not length:
            raise ValueError(
                "train_dataloader has no batch. Is its data set empty?"
                if length == 0
                else "train_dataloader does not know how many batches it has. Give its data set a length "
                "(`__len__`), or use CrossEncoderTrainer with max_steps."
            )
        loss = LogitLoss(self, loss_fct, activation_fct)
        examples = getattr(loader, "dataset", None)
        if has_no_collate(loader) and are_examples(examples):
            loss.check_labels(pairs_and_labels(examples, loss.num_labels)[1])
        return loader, loss


class LogitLoss(EmbeddingLoss):
    """A function of logits and labels as a loss over the features of pairs.

    Args:
        model: A model with `num_labels`, which gives `scores`.
        loss_fct: See `FitMixin.fit`.
        activation_fct: See there.

    Raises:
        ValueError: If the function is no function of logits and labels, or none for this many scores.
    """

    max_columns: ClassVar[int | None] = 1
    labels: ClassVar[str] = "target"

    def __init__(
        self, model: Any, loss_fct: LossFunction | None = None, activation_fct: Activation | None = None
    ) -> None:
        super().__init__(model)
        self.num_labels: int = model.num_labels
        if loss_fct is None:
            loss_fct = nn.BCEWithLogitsLoss() if self.num_labels == 1 else nn.CrossEntropyLoss()
        check_function(loss_fct, self.num_labels)
        self.loss_fct = loss_fct
        self.activation_fct = AS_IT_IS if activation_fct is None else activation_fct

    def run(self, model: nn.Module, features: Features, context: Any = None) -> Embeddings:
        return scored(model, features)

    def parts(
        self,
        embeddings: Sequence[Embeddings],
        labels: Any,
        *,
        rows: slice | None = None,
        context: Any = None,
    ) -> Iterator[LossPart]:
        logits = self.activation_fct(embeddings[0].values)  # (B, num_labels)
        if self.num_labels == 1:
            logits, labels = logits.flatten(), labels.to(logits.dtype)
        yield LossPart("loss", self.loss_fct(logits, labels))

    def check_labels(self, labels: Any) -> None:
        super().check_labels(labels)
        if isinstance(self.loss_fct, nn.CrossEntropyLoss):
            check_classes(labels, self.num_labels, left_out=self.loss_fct.ignore_index)
        elif isinstance(self.loss_fct, nn.BCEWithLogitsLoss):
            check_probabilities(labels, self.num_labels)

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        return {"loss_fct": fullname(self.loss_fct), "activation_fct": fullname(self.activation_fct)}


def pairs_and_labels(examples: Sequence[InputExample], num_labels: int) -> tuple[list[Pair], Tensor]:
    """The pairs of examples, and their labels as a model with this many scores takes them.

    Raises:
        ValueError: If an example is no pair of texts, or its label does not suit the model.
    """
    pairs = []
    for example in examples:
        if example.texts is None or not is_pair_of_texts(example.texts):
            raise ValueError(
                f"An InputExample has the texts {shown(example.texts)}, and a cross-encoder reads pairs. Give it two, "
                "such as InputExample(texts=['a question', 'an answer'], label=1)."
            )
        pairs.append(as_pair(example.texts))
    return pairs, suited(stack_labels([example.label for example in examples]), num_labels)


def suited(labels: Tensor, num_labels: int) -> Tensor:
    """Labels as a loss over this many scores takes them, see `smart_batching_collate`."""
    wanted = "one number" if num_labels == 1 else f"the number of a class, or {num_labels} numbers"
    if labels.dim() != 1 and (num_labels == 1 or tuple(labels.shape[1:]) != (num_labels,)):
        raise ValueError(
            f"The label of an InputExample has the shape {tuple(labels.shape[1:])}, and this model gives num_labels="
            f"{num_labels} for each pair: a label is {wanted}."
        )
    if num_labels == 1 or labels.dim() == 2:
        return labels.float()
    parts = labels[labels != labels.round()] if labels.is_floating_point() else labels[:0]
    if parts.numel():
        raise ValueError(
            f"The label {parts[0].item():.6g} is not the number of a class, and this model gives num_labels="
            f"{num_labels} for each pair: a label is {wanted}. For labels that are scores, build the model with "
            "num_labels=1."
        )
    return labels.long()


def check_function(loss_fct: Any, num_labels: int) -> None:
    """Stop if something is no function of logits and labels, or none for this many scores."""
    if isinstance(loss_fct, EmbeddingLoss):
        raise ValueError(
            f"loss_fct is a {type(loss_fct).__name__}, which takes texts. Train with it in CrossEncoderTrainer; fit "
            "takes a function of logits and labels, such as torch.nn.MSELoss()."
        )
    if isinstance(loss_fct, type) or not callable(loss_fct):
        raise ValueError(
            f"loss_fct is {shown(loss_fct)}, and not a function of logits and labels. Pass one, such as "
            "torch.nn.MSELoss()."
        )
    if isinstance(loss_fct, nn.CrossEntropyLoss) and num_labels == 1:
        raise ValueError(
            "loss_fct is a CrossEntropyLoss, which chooses between classes, and the model gives one score for each "
            "pair. Build it with num_labels=… set to the number of classes, or use torch.nn.BCEWithLogitsLoss()."
        )


def check_probabilities(labels: Tensor, num_labels: int) -> None:
    """Stop if labels are not numbers between 0 and 1, one for each score."""
    if labels.numel() != len(labels) * num_labels:
        raise ValueError(
            f"BCEWithLogitsLoss needs {num_labels} numbers between 0 and 1 for each pair, and was given labels of "
            f"shape {tuple(labels.shape)}. For classes use torch.nn.CrossEntropyLoss()."
        )
    outside = labels[(labels < 0) | (labels > 1)]
    if outside.numel():
        raise ValueError(
            f"BCEWithLogitsLoss needs labels between 0 and 1, and was given {outside.flatten()[0].item():.6g}. Divide "
            "scores by the largest possible one, or pass loss_fct=torch.nn.MSELoss(); for classes build the model "
            "with num_labels=… set to their number."
        )
