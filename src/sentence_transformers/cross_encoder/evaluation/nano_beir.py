"""Reranking on NanoBEIR, of what BM25 finds in thirteen small samples of the BEIR benchmark.

Where the sets come from, and what becomes of the results of several, stands in `evaluation/nano_beir.py`; what is
measured on each in `reranking.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sentence_transformers.cross_encoder.evaluation.pairs import PairEvaluator
from sentence_transformers.cross_encoder.evaluation.reranking import (
    CrossEncoderRerankingEvaluator,
    columns_of,
)
from sentence_transformers.evaluation.nano_beir import (
    NANO_BEIR,
    TITLES,
    DatasetNameType,
    OverSets,
    nano_rows,
    nano_set,
    splits_of,
)
from sentence_transformers.evaluation.report import Measurement
from sentence_transformers.tensors.blocks import check_sizes


class CrossEncoderNanoBEIREvaluator(OverSets, PairEvaluator):
    """Quality of the order in which a model puts what BM25 finds, on each set of NanoBEIR, and the mean over the sets.

    Each set has 50 queries of a set of BEIR (Thakur et al. 2021, "BEIR: A Heterogeneous Benchmark for Zero-shot
    Evaluation of Information Retrieval Models"). The sets are loaded when the evaluator is built.

    Args:
        dataset_names: Short names of sets, such as "msmarco", in upper or lower case; None for all thirteen. Another
            `dataset_id` may have sets of other names.
        dataset_id: Where the sets are, as of `NanoBEIREvaluator`; with a further configuration `bm25` (columns
            `query-id` and `corpus-ids`, best first).
        rerank_k: How many of the documents that BM25 finds are put in order.
        at_k: Up to which place MRR and NDCG are measured.
        always_rerank_positives: As of `CrossEncoderRerankingEvaluator`.
        prompt_name: Name of one of the model's prompts; None for its default.
        batch_size: Pairs of a batch at most.
        show_progress_bar: Whether to show progress.
        write_csv: Whether to add rows to CSV files, in those calls that name a folder.
        aggregate_fn: Makes one number of the numbers of all sets.
        aggregate_key: Its name, part of the metrics' names and the file's.

    Raises:
        ValueError: If there is no set of a given name, a set cannot be loaded, or a number is below 1.
        ImportError: If `datasets` is not installed.

    Example:
        >>> evaluator = CrossEncoderNanoBEIREvaluator(["msmarco", "nq"])
        >>> evaluator(model)["NanoBEIR_R100_mean_ndcg@10"]
    """

    def __init__(
        self,
        dataset_names: Sequence[DatasetNameType | str] | None = None,
        dataset_id: str = NANO_BEIR,
        rerank_k: int = 100,
        at_k: int = 10,
        always_rerank_positives: bool = True,
        prompt_name: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool = False,
        write_csv: bool = True,
        aggregate_fn: Callable[[list[float]], float] = np.mean,
        aggregate_key: str = "mean",
    ) -> None:
        check_sizes(rerank_k=rerank_k, at_k=at_k)
        shared: dict[str, Any] = {
            "prompt_name": prompt_name,
            "batch_size": batch_size,
            "show_progress_bar": show_progress_bar,
            "write_csv": write_csv,
        }
        super().__init__(
            **shared,
            name=f"NanoBEIR_R{rerank_k}_{aggregate_key}",
            csv_file=f"NanoBEIR_evaluation_{aggregate_key}_results.csv",
        )
        self.dataset_names = list(TITLES) if dataset_names is None else list(dataset_names)
        self.dataset_id = dataset_id
        self.rerank_k = rerank_k
        self.at_k = at_k
        self.always_rerank_positives = always_rerank_positives
        self.aggregate_fn = aggregate_fn
        self.aggregate_key = aggregate_key
        self.evaluators = [
            CrossEncoderRerankingEvaluator(
                nano_samples(dataset_id, split, rerank_k),
                at_k=at_k,
                always_rerank_positives=always_rerank_positives,
                name=f"{split}_R{rerank_k}",
                **shared,
            )
            for split in splits_of(self.dataset_names, dataset_id).values()
        ]

    def get_config_dict(self) -> dict[str, Any]:
        """The settings that a reader of the results should know."""
        return {
            "dataset_names": self.dataset_names,
            "dataset_id": self.dataset_id,
            "rerank_k": self.rerank_k,
            "at_k": self.at_k,
            "always_rerank_positives": self.always_rerank_positives,
            **super().get_config_dict(),
        }

    def measurement(self, metrics: Mapping[str, float]) -> Measurement:
        return Measurement(metrics=metrics, primary=f"ndcg@{self.at_k}", columns=columns_of(metrics))


def nano_samples(dataset_id: str, split: str, count: int) -> list[dict[str, Any]]:
    """Queries of a set with their relevant texts, and the first that BM25 found, best first.

    Args:
        dataset_id: As of `CrossEncoderNanoBEIREvaluator`.
        split: Which set, such as "NanoMSMARCO".
        count: How many found documents.
    """
    loaded = nano_set(dataset_id, split)
    queries, corpus, relevant = loaded["queries"], loaded["corpus"], loaded["relevant_docs"]
    found = {
        row["query-id"]: row["corpus-ids"]
        for row in nano_rows(dataset_id, "bm25", split, ("query-id", "corpus-ids"))
    }
    return [
        {
            "query": text,
            "positive": [
                corpus[document] for document in sorted(relevant.get(query, ())) if document in corpus
            ],
            "documents": [
                corpus[document] for document in found.get(query, [])[:count] if document in corpus
            ],
        }
        for query, text in queries.items()
    ]
