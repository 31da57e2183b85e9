"""Score the pairs that an evaluator holds.

The only place of this room that calls a model's `predict`, by which alone models are known here. Which numbers
come of the scores stands in the evaluators.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import Self

from sentence_transformers.evaluation.base import MeasuringEvaluator, check_rows, columns_of

if TYPE_CHECKING:
    from sentence_transformers.inputs.example import InputExample

Pair = Sequence[str]
"""Two texts."""


class PairEvaluator(MeasuringEvaluator):
    """An evaluator of models that score pairs.

    Args:
        name: Put in front of the metrics' names, and part of the file's.
        write_csv: Whether to add a row to a CSV file, in those calls that name a folder.
        csv_file: Name of that file.
        batch_size: Pairs of a batch at most.
        show_progress_bar: Whether to show progress; None as the model's `predict` has it.
        prompt_name: Name of one of the model's prompts; None for its default.
    """

    def __init__(
        self,
        *,
        name: str,
        write_csv: bool,
        csv_file: str,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        prompt_name: str | None = None,
    ) -> None:
        super().__init__(name=name, write_csv=write_csv, csv_file=csv_file)
        self.batch_size = batch_size
        self.show_progress_bar = show_progress_bar
        self.prompt_name = prompt_name

    def predict(self, model: Any, pairs: Sequence[Pair]) -> np.ndarray:
        """Score pairs with this evaluator's settings.

        Args:
            model: The model.
            pairs: The pairs.

        Returns:
            (N,) for a model with one score, (N, n) for one with n.
        """
        prompt = {} if self.prompt_name is None else {"prompt_name": self.prompt_name}
        return np.asarray(
            model.predict(
                pairs,
                batch_size=self.batch_size,
                show_progress_bar=self.show_progress_bar,
                convert_to_numpy=True,
                **prompt,
            )
        )

    def predict_one(self, model: Any, pairs: Sequence[Pair]) -> np.ndarray:
        """The same, (N,), from a model with one score.

        Raises:
            ValueError: If the model gives several scores.
        """
        scores = self.predict(model, pairs)
        if scores.ndim != 1:
            raise ValueError(
                f"{type(self).__name__} needs a model with one score for each pair, and this one gives "
                f"{scores.shape[1]}. Evaluate it with CrossEncoderClassificationEvaluator."
            )
        return scores

    def get_config_dict(self) -> dict[str, Any]:
        """The settings that a reader of the results should know."""
        return {} if self.prompt_name is None else {"prompt_name": self.prompt_name}


class LabelledPairsEvaluator(PairEvaluator):
    """An evaluator of pairs of which each has a label.

    Args:
        sentence_pairs: The pairs.
        labels: Their labels.
        **settings: As of `PairEvaluator`.

    Raises:
        EvaluationDataError: If the lists are empty or of different lengths; a `ValueError` and `AssertionError`.
    """

    labels_argument = "labels"
    """What a subclass calls its labels, for messages."""

    def __init__(self, sentence_pairs: Sequence[Pair], labels: Sequence[Any], **settings: Any) -> None:
        check_rows(type(self).__name__, **{"sentence_pairs": sentence_pairs, self.labels_argument: labels})
        super().__init__(**settings)
        self.sentence_pairs = sentence_pairs
        self.labels: Any = labels

    @classmethod
    def from_input_examples(cls, examples: list[InputExample], **kwargs: Any) -> Self:
        """Evaluate on examples with two texts and a label each.

        Args:
            examples: The examples.
            **kwargs: Further arguments of the class.
        """
        pairs = [list(pair) for pair in zip(*columns_of(examples, 2))]
        return cls(pairs, [example.label for example in examples], **kwargs)
