"""How well similarities of embeddings follow known scores, such as the ratings of STS benchmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch

from sentence_transformers.evaluation.base import check_rows, columns_of, named_part
from sentence_transformers.evaluation.metrics import largest, pearson, spearman
from sentence_transformers.evaluation.report import Measurement
from sentence_transformers.evaluation.scoring import EmbeddingEvaluator, checked_similarities
from sentence_transformers.tensors.similarity import SimilarityFunction, similarity_named

if TYPE_CHECKING:
    from sentence_transformers.inputs.example import InputExample

BIT_VALUES = (128, 64, 32, 16, 8, 4, 2, 1)


class EmbeddingSimilarityEvaluator(EmbeddingEvaluator):
    """Correlation of the similarity of two texts with a known score, after Pearson and after Spearman.

    The main score is the Spearman correlation, as Reimers et al. 2016 advise, "Task-Oriented Intrinsic
    Evaluation of Semantic Textual Similarity".

    Args:
        sentences1: The first text of each pair.
        sentences2: The second one.
        scores: How alike they are; higher is more alike, on any scale.
        batch_size: Inputs of a batch at most.
        main_similarity: Which similarity gives the main score; None for the best of several.
        similarity_fn_names: Similarities to evaluate; None for `main_similarity`, or else the model's own.
        name: Put in front of the metrics' names, and part of the file's.
        show_progress_bar: Whether to show progress.
        write_csv: Whether to add a row to a CSV file, in those calls that name a folder.
        precision: "float32", "int8", "uint8", "binary" or "ubinary": embeddings are normalised, and compared as
            they are when stored like that. None leaves them as they are.
        truncate_dim: Keep this many leading dimensions; None for the model's own setting.

    Raises:
        EvaluationDataError: If the lists are empty or of different lengths; a `ValueError` and `AssertionError`.
        ValueError: If there is no similarity of a given name.

    Example:
        >>> evaluator = EmbeddingSimilarityEvaluator(
        ...     ["A man eats.", "It rains.", "A cat sleeps."],
        ...     ["A man is eating food.", "The sun shines.", "A kitten naps."],
        ...     [0.9, 0.2, 0.8],
        ...     name="sts-dev",
        ... )
        >>> sorted(evaluator(model))
        ['sts-dev_pearson_cosine', 'sts-dev_spearman_cosine']
    """

    def __init__(
        self,
        sentences1: list[str],
        sentences2: list[str],
        scores: list[float],
        batch_size: int = 16,
        main_similarity: str | SimilarityFunction | None = None,
        similarity_fn_names: list[Literal["cosine", "euclidean", "manhattan", "dot"]] | None = None,
        name: str = "",
        show_progress_bar: bool = False,
        write_csv: bool = True,
        precision: Literal["float32", "int8", "uint8", "binary", "ubinary"] | None = None,
        truncate_dim: int | None = None,
    ) -> None:
        check_rows(type(self).__name__, sentences1=sentences1, sentences2=sentences2, scores=scores)
        super().__init__(
            name=name,
            write_csv=write_csv,
            csv_file=f"similarity_evaluation{named_part(name)}{named_part(precision or '')}_results.csv",
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            truncate_dim=truncate_dim,
        )
        self.sentences1 = sentences1
        self.sentences2 = sentences2
        self.scores = scores
        self.main_similarity = None if main_similarity is None else similarity_named(main_similarity)
        self.similarity_fn_names = checked_similarities(similarity_fn_names, self.main_similarity)
        self.precision = precision

    @classmethod
    def from_input_examples(cls, examples: list[InputExample], **kwargs: Any) -> EmbeddingSimilarityEvaluator:
        """Evaluate on examples with two texts and a score each.

        Args:
            examples: The examples.
            **kwargs: Further arguments of the class.
        """
        sentences1, sentences2 = columns_of(examples, 2)
        return cls(sentences1, sentences2, [example.label for example in examples], **kwargs)

    @property
    def description(self) -> str:
        """What is evaluated, for people."""
        return "Semantic Similarity"

    def get_config_dict(self) -> dict[str, Any]:
        """The settings that a reader of the results should know."""
        precision = {} if self.precision is None else {"precision": self.precision}
        return {**super().get_config_dict(), **precision}

    def measure(self, model: Any) -> Measurement:
        scorer = self.scorer(model, self.similarity_fn_names)
        # Stored values are of no use where lengths differ: their ranges are those of unit vectors.
        options = {"precision": self.precision, "normalize_embeddings": True} if self.precision else {}
        first, second = scorer.encode_together(self.sentences1, self.sentences2, **options)
        if self.precision in ("binary", "ubinary"):
            first, second = bits(first), bits(second)
        metrics, columns = {}, {}
        for name in scorer.names:
            similarity = scorer.pairs(first, second, name).cpu().numpy()  # (N,)
            for kind, correlation in (("pearson", pearson), ("spearman", spearman)):
                value = correlation(similarity, self.scores)
                metrics[f"{kind}_{name}"] = columns[f"{name}_{kind}"] = value
        if len(scorer.names) > 1:
            for kind in ("pearson", "spearman"):
                metrics[f"{kind}_max"] = largest(metrics[f"{kind}_{name}"] for name in scorer.names)
        best = "max" if len(scorer.names) > 1 else scorer.names[0]
        main = best if self.main_similarity is None else self.main_similarity.value
        return Measurement(metrics=metrics, primary=f"spearman_{main}", columns=columns)


def bits(codes: torch.Tensor) -> torch.Tensor:
    """The bits of binary embeddings as floats: (N, D / 8) of uint8, or of int8 as `binary` has them, -> (N, D)."""
    codes = codes.int() + (128 if codes.dtype == torch.int8 else 0)
    values = torch.tensor(BIT_VALUES, device=codes.device)
    return (codes.unsqueeze(-1) & values).ne(0).flatten(start_dim=1).float()
