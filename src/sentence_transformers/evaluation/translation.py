"""How often a text's own translation is the nearest one."""

from __future__ import annotations

from typing import Any

from sentence_transformers.evaluation.base import check_rows, named_part
from sentence_transformers.evaluation.report import Measurement
from sentence_transformers.evaluation.scoring import EmbeddingEvaluator, EmbeddingScorer
from sentence_transformers.tensors.topk import top_k

SHOWN_WRONG_MATCHES = 5


class TranslationEvaluator(EmbeddingEvaluator):
    """Share of texts whose nearest one in the other language, by cosine, is their own translation.

    Measured in both directions; the main score is the mean of the two. Texts that occur twice count as
    different: only the translation in the same row is right.

    Args:
        source_sentences: Texts in one language.
        target_sentences: Their translations.
        show_progress_bar: Whether to show progress.
        batch_size: Inputs of a batch at most.
        name: Put in front of the metrics' names, and part of the file's.
        print_wrong_matches: Print the texts whose nearest one is not their own, with the nearest five.
        write_csv: Whether to add a row to a CSV file, in those calls that name a folder.
        truncate_dim: Keep this many leading dimensions; None for the model's own setting.

    Raises:
        EvaluationDataError: If the lists are empty or of different lengths; a `ValueError` and `AssertionError`.

    Example:
        >>> evaluator = TranslationEvaluator(["A man eats.", "Rain"], ["Ein Mann isst.", "Regen"], name="en-de")
        >>> sorted(evaluator(model))
        ['en-de_mean_accuracy', 'en-de_src2trg_accuracy', 'en-de_trg2src_accuracy']
    """

    csv_columns = ("src2trg", "trg2src")

    def __init__(
        self,
        source_sentences: list[str],
        target_sentences: list[str],
        show_progress_bar: bool = False,
        batch_size: int = 16,
        name: str = "",
        print_wrong_matches: bool = False,
        write_csv: bool = True,
        truncate_dim: int | None = None,
    ) -> None:
        check_rows(type(self).__name__, source_sentences=source_sentences, target_sentences=target_sentences)
        super().__init__(
            name=name,
            write_csv=write_csv,
            csv_file=f"translation_evaluation{named_part(name)}_results.csv",
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            truncate_dim=truncate_dim,
        )
        self.source_sentences = source_sentences
        self.target_sentences = target_sentences
        self.print_wrong_matches = print_wrong_matches
        self.primary_metric = "mean_accuracy"

    def measure(self, model: Any) -> Measurement:
        scorer = self.scorer(model, ["cosine"])
        sources = scorer.encode(self.source_sentences)
        targets = scorer.encode(self.target_sentences)
        forth = self.accuracy(scorer, sources, targets)
        back = self.accuracy(scorer, targets, sources)
        if self.print_wrong_matches:
            self.print_matches(scorer, sources, targets)
        return Measurement(
            metrics={
                "src2trg_accuracy": forth,
                "trg2src_accuracy": back,
                "mean_accuracy": (forth + back) / 2,
            },
            primary="mean_accuracy",
            columns={"src2trg": forth, "trg2src": back},
        )

    def accuracy(self, scorer: EmbeddingScorer, queries: Any, documents: Any) -> float:
        """Share of queries whose nearest document is the one in the same row; the first of equally near ones."""
        nearest = top_k(queries, documents, 1, similarity=scorer.matrix).rows[:, 0].tolist()
        return sum(row == found for row, found in enumerate(nearest)) / len(nearest)

    def print_matches(self, scorer: EmbeddingScorer, sources: Any, targets: Any) -> None:
        """Print the sources whose nearest target is not their own, and the nearest few."""
        best = top_k(sources, targets, SHOWN_WRONG_MATCHES, similarity=scorer.matrix)
        own = scorer.pairs(sources, targets).tolist()
        for row, (found, scores) in enumerate(zip(best.rows.tolist(), best.scores.tolist())):
            if found[0] == row:
                continue
            print(f"\n{self.source_sentences[row]}")
            print(f"  own translation  {own[row]:.4f}  {self.target_sentences[row]}")
            for target, score in zip(found, scores):
                if target >= 0:
                    print(f"  nearest          {score:.4f}  {self.target_sentences[target]}")
