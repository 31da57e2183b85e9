"""How well a model puts the relevant ones of a few given documents first, for each query."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sentence_transformers.evaluation.base import EvaluationDataError, named_part
from sentence_transformers.evaluation.ranking_metrics import rank_by_score
from sentence_transformers.evaluation.report import Measurement
from sentence_transformers.evaluation.scoring import EmbeddingEvaluator, EmbeddingScorer
from sentence_transformers.tensors.blocks import check_sizes, some_rows
from sentence_transformers.tensors.similarity import cos_sim

logger = logging.getLogger(__name__)


class RerankingEvaluator(EmbeddingEvaluator):
    """Quality of the order in which a model puts given documents: MAP, MRR at k and NDCG at k.

    Documents that score the same get no order: they share their places in MAP and NDCG, and for the MRR those that
    are not relevant come first. The main score is the NDCG.

    Args:
        samples: Dictionaries with `query`, a text, and `positive` and `negative`, lists of texts that are relevant or
            not; or a mapping with such values. A sample without positives or without negatives is left out.
        at_k: Up to which place MRR and NDCG are measured.
        name: Put in front of the metrics' names, and part of the file's.
        write_csv: Whether to add a row to a CSV file, in those calls that name a folder.
        similarity_fct: Takes embeddings of a query, (1, D), and of documents, (N, D); gives scores (1, N), higher for
            more relevant.
        batch_size: Inputs of a batch at most.
        show_progress_bar: Whether to show progress.
        use_batched_encoding: Embed the texts of all samples at once, which is faster; otherwise sample by sample,
            which keeps fewer embeddings in memory.
        truncate_dim: Keep this many leading dimensions; None for the model's own setting.
        mrr_at_k: Older name of `at_k`.

    Raises:
        EvaluationDataError: If no sample has both positives and negatives.
        ValueError: If `at_k` is below 1.

    Example:
        >>> evaluator = RerankingEvaluator(
        ...     [{"query": "What flies?", "positive": ["Birds fly."], "negative": ["Stones lie."]}], name="dev"
        ... )
        >>> evaluator(model)
        {'dev_map': 1.0, 'dev_mrr@10': 1.0, 'dev_ndcg@10': 1.0}
    """

    def __init__(
        self,
        samples: Any,
        at_k: int = 10,
        name: str = "",
        write_csv: bool = True,
        similarity_fct: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = cos_sim,
        batch_size: int = 64,
        show_progress_bar: bool = False,
        use_batched_encoding: bool = True,
        truncate_dim: int | None = None,
        mrr_at_k: int | None = None,
    ) -> None:
        if mrr_at_k is not None:
            logger.warning("mrr_at_k is the older name of at_k, and will go. Pass at_k=%d.", mrr_at_k)
            at_k = mrr_at_k
        check_sizes(at_k=at_k)
        super().__init__(
            name=name,
            write_csv=write_csv,
            csv_file=f"RerankingEvaluator{named_part(name)}_results_@{at_k}.csv",
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            truncate_dim=truncate_dim,
        )
        self.samples = usable_samples(samples, type(self).__name__)
        self.at_k = at_k
        self.similarity_fct = similarity_fct
        self.use_batched_encoding = use_batched_encoding
        self.csv_headers = ["epoch", "steps", *self.columns({})]

    def get_config_dict(self) -> dict[str, Any]:
        """The settings that a reader of the results should know."""
        return {**super().get_config_dict(), "at_k": self.at_k}

    def measure(self, model: Any) -> Measurement:
        values = self.compute_metrics(model)
        metrics = {
            "map": values["map"],
            f"mrr@{self.at_k}": values["mrr"],
            f"ndcg@{self.at_k}": values["ndcg"],
        }
        return Measurement(metrics=metrics, primary=f"ndcg@{self.at_k}", columns=self.columns(values))

    def columns(self, values: Mapping[str, float]) -> dict[str, float | None]:
        """The columns of the CSV file."""
        return {
            "MAP": values.get("map"),
            f"MRR@{self.at_k}": values.get("mrr"),
            f"NDCG@{self.at_k}": values.get("ndcg"),
        }

    def compute_metrics(self, model: Any) -> dict[str, float]:
        """The means over all samples, under `map`, `mrr` and `ndcg`.

        Args:
            model: The model.
        """
        scorer = self.scorer(model)
        if self.use_batched_encoding:
            scores = self.scores_of(scorer, self.samples)
        else:
            scores = [self.scores_of(scorer, [sample])[0] for sample in self.samples]
        ranking = rank_by_score(
            [row.numpy() for row in scores],
            [[1] * len(sample["positive"]) + [0] * len(sample["negative"]) for sample in self.samples],
        )
        return {
            "map": float(ranking.average_precision().mean()),
            "mrr": float(ranking.reciprocal_rank_at_k(k=self.at_k).mean()),
            "ndcg": float(ranking.ndcg_at_k(k=self.at_k).mean()),
        }

    def compute_metrices(self, model: Any) -> dict[str, float]:
        """Older name of `compute_metrics`."""
        return self.compute_metrics(model)

    def scores_of(self, scorer: EmbeddingScorer, samples: Sequence[Mapping[str, Any]]) -> list[Tensor]:
        """Scores of the documents of each sample, the positive ones first, (N,)."""
        documents = [[*sample["positive"], *sample["negative"]] for sample in samples]
        queries = scorer.encode([sample["query"] for sample in samples], "query")
        together = scorer.encode([text for texts in documents for text in texts], "document")
        scores, start = [], 0
        for row, texts in enumerate(documents):
            rows = range(start, start + len(texts))
            score = self.similarity_fct(
                some_rows(queries, range(row, row + 1)), some_rows(together, rows)
            )  # (1, N)
            scores.append(score.reshape(-1).float().cpu())
            start = rows.stop
        return scores


def usable_samples(samples: Any, evaluator: str) -> list[Mapping[str, Any]]:
    """The samples in which there is something to order.

    Raises:
        EvaluationDataError: If there are none.
    """
    samples = list(samples.values() if isinstance(samples, Mapping) else samples)
    usable = [sample for sample in samples if len(sample["positive"]) and len(sample["negative"])]
    if not usable:
        raise EvaluationDataError(
            f"{evaluator} got {len(samples)} samples, and no one with both positive and negative documents. Pass at "
            "least one."
        )
    return usable
