"""How often a classifier over pairs of embeddings is right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sentence_transformers.evaluation.base import EvaluationDataError, MeasuringEvaluator, named_part
from sentence_transformers.evaluation.report import Measurement
from sentence_transformers.tensors.padding import batch_to_device

if TYPE_CHECKING:
    from torch.utils.data import DataLoader


class LabelAccuracyEvaluator(MeasuringEvaluator):
    """Accuracy of a classifier that was trained with the model, such as a `SoftmaxLoss`.

    Args:
        dataloader: Batches of `InputExample`, with class numbers for labels; its `collate_fn` is set to the
            model's in each call.
        name: Put in front of the metrics' names, and part of the file's.
        softmax_model: The classifier: called with the features of the texts and `labels=None`, it returns
            embeddings and logits (B, classes).
        write_csv: Whether to add a row to a CSV file, in those calls that name a folder.

    Raises:
        EvaluationDataError: In a call, if there are no examples; a `ValueError` and `AssertionError`.
        ValueError: In a call, if there is no classifier.
    """

    csv_columns = ("accuracy",)

    def __init__(
        self, dataloader: DataLoader, name: str = "", softmax_model: Any = None, write_csv: bool = True
    ) -> None:
        super().__init__(
            name=name, write_csv=write_csv, csv_file=f"accuracy_evaluation{named_part(name)}_results.csv"
        )
        self.dataloader = dataloader
        self.softmax_model = softmax_model
        self.primary_metric = "accuracy"

    def measure(self, model: Any) -> Measurement:
        if self.softmax_model is None:
            raise ValueError("There is no classifier to evaluate. Pass the SoftmaxLoss as softmax_model=….")
        model.eval()
        self.dataloader.collate_fn = model.smart_batching_collate
        right = total = 0
        for columns, labels in self.dataloader:
            features = [batch_to_device(column, model.device) for column in columns]
            _, logits = self.softmax_model(features, labels=None)  # (B, classes)
            right += int((logits.argmax(dim=1) == labels.to(logits.device)).sum())
            total += len(labels)
        if total == 0:
            raise EvaluationDataError("The dataloader gave no batch. Is its data set empty?")
        accuracy = right / total
        return Measurement(metrics={"accuracy": accuracy}, primary="accuracy", columns={"accuracy": accuracy})
