"""How well a model puts the relevant ones of a few given documents first, for each query."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sentence_transformers.cross_encoder.evaluation.pairs import PairEvaluator
from sentence_transformers.evaluation.base import EvaluationDataError, named_part
from sentence_transformers.evaluation.ranking_metrics import ScoredRanking, rank_by_score
from sentence_transformers.evaluation.report import Measurement
from sentence_transformers.tensors.blocks import check_sizes

logger = logging.getLogger(__name__)


class CrossEncoderRerankingEvaluator(PairEvaluator):
    """Quality of the order in which a model puts given documents: MAP, MRR at k and NDCG at k, the main score.

    Documents that score the same get no order: they share their places in MAP and NDCG, and for the MRR those that
    are not relevant come first.

    Args:
        samples: Dictionaries with `query`, a text, `positive`, a list of the relevant texts, and either `negative`, a
            list of others, or `documents`, what a first search has found, best first, with or without the relevant
            texts. A mapping with such values is taken, too. With `documents`, the metrics of the first search are
            given as well, as `base_…`: what it missed stands behind all it found, or, where it found nothing
            relevant, counts as never found. A sample without relevant texts counts as 0.
        at_k: Up to which place MRR and NDCG are measured.
        always_rerank_positives: Whether relevant texts that the first search has missed are among what the model
            orders; otherwise it orders `documents`, and what is not among them does not count.
        name: Put in front of the metrics' names, and part of the file's.
        prompt_name: Name of one of the model's prompts; None for its default.
        batch_size: Pairs of a batch at most.
        show_progress_bar: Whether to show progress.
        write_csv: Whether to add a row to a CSV file, in those calls that name a folder.
        mrr_at_k: Older name of `at_k`.

    Raises:
        EvaluationDataError: If a sample lacks a part, or none has a relevant text; a `ValueError` and `AssertionError`.
        ValueError: If `at_k` is below 1; in a call, if the model gives several scores.

    Example:
        >>> evaluator = CrossEncoderRerankingEvaluator(
        ...     [{"query": "What flies?", "positive": ["Birds fly."], "negative": ["Stones lie."]}], name="dev"
        ... )
        >>> evaluator(model)
        {'dev_map': 1.0, 'dev_mrr@10': 1.0, 'dev_ndcg@10': 1.0}
    """

    file_title = "CrossEncoderRerankingEvaluator"
    """What the file's name begins with."""

    def __init__(
        self,
        samples: Any,
        at_k: int = 10,
        always_rerank_positives: bool = True,
        name: str = "",
        prompt_name: str | None = None,
        batch_size: int = 64,
        show_progress_bar: bool | None = False,
        write_csv: bool = True,
        mrr_at_k: int | None = None,
    ) -> None:
        if mrr_at_k is not None:
            logger.warning("mrr_at_k is the older name of at_k, and will go. Pass at_k=%d.", mrr_at_k)
            at_k = mrr_at_k
        check_sizes(at_k=at_k)
        super().__init__(
            name=name,
            write_csv=write_csv,
            csv_file=f"{self.file_title}{named_part(name)}_results_@{at_k}.csv",
            prompt_name=prompt_name,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
        )
        self.samples = checked_samples(samples, type(self).__name__)
        self.at_k = at_k
        self.always_rerank_positives = always_rerank_positives

    def get_config_dict(self) -> dict[str, Any]:
        """The settings that a reader of the results should know."""
        searched = any("documents" in sample for sample in self.samples)
        reranked = {"always_rerank_positives": self.always_rerank_positives} if searched else {}
        return {**super().get_config_dict(), "at_k": self.at_k, **reranked}

    def measure(self, model: Any) -> Measurement:
        lists = [documents_of(sample, self.always_rerank_positives) for sample in self.samples]
        relevant = [set(sample["positive"]) for sample in self.samples]
        pairs = [(sample["query"], text) for sample, texts in zip(self.samples, lists) for text in texts]
        scores = self.predict_one(model, pairs) if pairs else np.empty(0)
        ends = np.cumsum([len(texts) for texts in lists])
        metrics = self.of_orders(np.split(scores, ends[:-1]), lists, relevant)
        searched = [
            (sample["documents"], own) for sample, own in zip(self.samples, relevant) if "documents" in sample
        ]
        base: dict[str, float] = {}
        if searched:
            # What was missed stands behind all that was found; finding nothing at all counts for nothing.
            found = [[*texts, *sorted(own.difference(texts))] for texts, own in searched]
            wanted = [own if own.intersection(texts) else set[str]() for texts, own in searched]
            base = self.of_orders([np.arange(len(texts), 0, -1) for texts in found], found, wanted)
        return Measurement(
            metrics={**metrics, **{f"base_{key}": value for key, value in base.items()}},
            primary=f"ndcg@{self.at_k}",
            columns=columns_of(metrics),
        )

    def of_orders(
        self,
        scores: Sequence[np.ndarray],
        lists: Sequence[Sequence[str]],
        relevant: Sequence[set[str]],
    ) -> dict[str, float]:
        """The means over samples.

        Args:
            scores: Of the documents of each sample, (N,).
            lists: Those documents.
            relevant: The relevant ones; those that are not in the list do not count.
        """
        gains = [[int(text in own) for text in texts] for texts, own in zip(lists, relevant)]
        return self.of_ranking(rank_by_score(scores, gains))

    def of_ranking(self, ranking: ScoredRanking) -> dict[str, float]:
        """The means of the metrics of rankings, by name."""
        return {
            "map": float(ranking.average_precision().mean()),
            f"mrr@{self.at_k}": float(ranking.reciprocal_rank_at_k(k=self.at_k).mean()),
            f"ndcg@{self.at_k}": float(ranking.ndcg_at_k(k=self.at_k).mean()),
        }

    def compute_metrics(self, y_true: Any, y_pred: Any) -> tuple[float, float, float]:
        """Average precision, reciprocal rank at k and NDCG at k of one ranking.

        Args:
            y_true: 1 for each relevant document, 0 for others, (N,).
            y_pred: Their scores, (N,).
        """
        return tuple(self.of_ranking(rank_by_score([y_pred], [y_true])).values())  # type: ignore[return-value]


def columns_of(metrics: Mapping[str, float]) -> dict[str, float]:
    """The columns of the CSV file."""
    return {key.upper(): value for key, value in metrics.items() if not key.startswith("base_")}


def documents_of(sample: Mapping[str, Any], always_rerank_positives: bool) -> list[str]:
    """What a model puts in order: the documents of a sample, with or without relevant ones a first search missed."""
    if "documents" in sample and not always_rerank_positives:
        return list(sample["documents"])
    positives = dict.fromkeys(sample["positive"])
    others = sample["documents"] if "documents" in sample else sample["negative"]
    return [*positives, *(text for text in others if text not in positives)]


def checked_samples(samples: Any, evaluator: str) -> list[Mapping[str, Any]]:
    """The samples as a list.

    Raises:
        EvaluationDataError: If one lacks a part, or none has a relevant document.
    """
    samples = list(samples.values() if isinstance(samples, Mapping) else samples)
    for number, sample in enumerate(samples):
        has_one = ("negative" in sample) != ("documents" in sample)
        if "query" not in sample or "positive" not in sample or not has_one:
            raise EvaluationDataError(
                f"Sample {number} of {evaluator} has the keys {sorted(sample)}. Give it 'query', 'positive', and "
                "either 'negative' or 'documents'."
            )
        if isinstance(sample["positive"], str):
            raise EvaluationDataError(
                f"Sample {number} of {evaluator} has one text as 'positive'. Give it a list of texts."
            )
    if not any(len(sample["positive"]) for sample in samples):
        raise EvaluationDataError(
            f"{evaluator} got {len(samples)} samples, and no one with a positive document. Pass at least one."
        )
    return samples
