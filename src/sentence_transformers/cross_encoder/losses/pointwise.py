"""Losses over one pair at a time: its score against its label."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from sentence_transformers.cross_encoder.losses.base import AS_IT_IS, Activation, ScoreLoss


class BinaryCrossEntropyLoss(ScoreLoss):
    """Cross entropy of telling pairs that belong together from those that do not.

    Takes two text columns and a label between 0 and 1, and a model with one score: a logit, whose sigmoid is the
    probability. -y log sigmoid(s) - (1 - y) log(1 - sigmoid(s)), the mean over rows. A reranker learns with it from
    positives and hard negatives as pairs of their own (Nogueira and Cho 2019, "Passage Re-ranking with BERT").

    Args:
        model: The model.
        activation_fn: Applied to the logits before the sigmoid, which the loss applies itself; None for nothing.
        pos_weight: How much more a positive counts than a negative, about the number of negatives for each
            positive; None for no more.
        **kwargs: Further arguments of `torch.nn.BCEWithLogitsLoss`.

    Raises:
        ValueError: If the model gives several scores.
    """

    max_columns: ClassVar[int | None] = 2
    labels: ClassVar[str] = "score"

    def __init__(
        self,
        model: Any,
        activation_fn: Activation = AS_IT_IS,
        pos_weight: Tensor | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(model, activation_fn)
        self.pos_weight = pos_weight
        self.bce_with_logits_loss = nn.BCEWithLogitsLoss(pos_weight=pos_weight, **kwargs).to(model.device)

    def value(self, scores: Tensor, labels: Any, counts: list[int]) -> Tensor:
        value: Tensor = self.bce_with_logits_loss(scores, labels.flatten().to(scores))
        return value

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        weight = self.pos_weight
        told = weight.tolist() if isinstance(weight, Tensor) else weight
        return {**super().get_config_dict(), "pos_weight": told}


class CrossEntropyLoss(ScoreLoss):
    """Cross entropy of choosing the class of a pair.

    Takes two text columns and a label, the number of the class or the probabilities of all classes, and a model
    with a score for each class. -log softmax(s)[y], the mean over rows.

    Args:
        model: The model.
        activation_fn: Applied to the logits before the softmax, which the loss applies itself; None for nothing.
        **kwargs: Further arguments of `torch.nn.CrossEntropyLoss`.

    Raises:
        ValueError: If the model gives a single score; in a call, if a label is no class of the model.
    """

    max_columns: ClassVar[int | None] = 2
    labels: ClassVar[str] = "target"
    outputs: ClassVar[int | None] = None

    def __init__(self, model: Any, activation_fn: Activation = AS_IT_IS, **kwargs: Any) -> None:
        super().__init__(model, activation_fn)
        self.num_labels = model.num_labels
        self.ce_loss = nn.CrossEntropyLoss(**kwargs).to(model.device)

    def value(self, scores: Tensor, labels: Any, counts: list[int]) -> Tensor:
        are_probabilities = are_probabilities_of(labels, self.num_labels)
        targets = labels.to(scores) if are_probabilities else labels.flatten().to(scores.device)
        value: Tensor = self.ce_loss(scores, targets)
        return value

    def check_labels(self, labels: Any) -> None:
        super().check_labels(labels)
        check_classes(labels, self.num_labels, left_out=self.ce_loss.ignore_index)


class MSELoss(ScoreLoss):
    """Mean squared difference of a pair's score and its label, such as a teacher's score.

    Takes two text columns and a number, and a model with one score. For distillation after Hofstätter et al. 2020,
    "Improving Efficient Neural Ranking Models with Cross-Architecture Knowledge Distillation".

    Args:
        model: The model.
        activation_fn: Applied to the scores; None for nothing.
        **kwargs: Further arguments of `torch.nn.MSELoss`.

    Raises:
        ValueError: If the model gives several scores.
    """

    max_columns: ClassVar[int | None] = 2
    labels: ClassVar[str] = "score"

    def __init__(self, model: Any, activation_fn: Activation = AS_IT_IS, **kwargs: Any) -> None:
        super().__init__(model, activation_fn)
        self.loss_fct = nn.MSELoss(**kwargs)

    def value(self, scores: Tensor, labels: Any, counts: list[int]) -> Tensor:
        value: Tensor = self.loss_fct(scores, labels.flatten().to(scores))
        return value


def are_probabilities_of(labels: Tensor, classes: int) -> bool:
    """Whether a label is a number for each class, rather than the number of a class."""
    return labels.is_floating_point() and tuple(labels.shape[1:]) == (classes,)


def check_classes(labels: Tensor, classes: int, *, left_out: int) -> None:
    """Stop if labels are neither classes nor probabilities of them.

    Args:
        labels: Of each row.
        classes: How many classes there are.
        left_out: Label of a row that does not count.
    """
    if are_probabilities_of(labels, classes):
        return
    if labels.is_floating_point() or labels.numel() != len(labels):
        raise ValueError(
            f"CrossEntropyLoss needs an int, the class of each row, or {classes} probabilities, and was "
            f"given labels of type {labels.dtype} and shape {tuple(labels.shape)}."
        )
    wrong = labels[((labels < 0) | (labels >= classes)) & (labels != left_out)]
    if wrong.numel():
        raise ValueError(
            f"CrossEntropyLoss was given the class {int(wrong.flatten()[0])}, and the model has the classes 0 to "
            f"{classes - 1}. Build the model with num_labels=… set to the number of classes."
        )
