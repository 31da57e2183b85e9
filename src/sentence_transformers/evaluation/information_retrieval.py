"""How well a model finds the relevant documents of a corpus for each query."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from sentence_transformers.evaluation import ranking_metrics
from sentence_transformers.evaluation.base import EvaluationDataError, named_part, undisturbed
from sentence_transformers.evaluation.report import Measurement
from sentence_transformers.evaluation.scoring import EmbeddingEvaluator, EmbeddingScorer, checked_similarities
from sentence_transformers.search.retrieval import Hit, hits_of
from sentence_transformers.tensors.blocks import check_sizes, ranges, row_count
from sentence_transformers.tensors.similarity import Similarity, SimilarityFunction
from sentence_transformers.tensors.topk import Best, TopK

logger = logging.getLogger(__name__)

METRICS = ("accuracy", "precision", "recall", "ndcg", "mrr", "map")
"""Metrics in the order in which they are returned; each is followed by `@k`."""

MAIN_METRICS = ("ndcg", "map", "mrr", "recall", "precision", "accuracy")
"""Which of the metrics that are measured is the main one, in order of preference."""

TITLES = {
    "accuracy": "Accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "mrr": "MRR",
    "ndcg": "NDCG",
    "map": "MAP",
}
"""Names of the metrics in CSV files."""

METRICS_AT_K = dict[str, dict[int, float]]


class RankingEvaluator(EmbeddingEvaluator):
    """What evaluators of rankings share: at which places they measure, with which similarities, and the names.

    Args:
        mrr_at_k: Places k up to which each metric is measured.
        ndcg_at_k: The same.
        accuracy_at_k: The same.
        precision_recall_at_k: The same.
        map_at_k: The same.
        score_functions: Similarities to rank with, by name; None for `main_score_function`, or else the model's.
        main_score_function: Which of them gives the main score; None for the best.
        **settings: Of `EmbeddingEvaluator`.

    Raises:
        ValueError: If a k is below 1, or there is none; or if there is no similarity of the main one's name.
    """

    def __init__(
        self,
        *,
        mrr_at_k: Sequence[int],
        ndcg_at_k: Sequence[int],
        accuracy_at_k: Sequence[int],
        precision_recall_at_k: Sequence[int],
        map_at_k: Sequence[int],
        score_functions: Mapping[str, Similarity] | None,
        main_score_function: str | SimilarityFunction | None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.mrr_at_k = mrr_at_k
        self.ndcg_at_k = ndcg_at_k
        self.accuracy_at_k = accuracy_at_k
        self.precision_recall_at_k = precision_recall_at_k
        self.map_at_k = map_at_k
        for metric, places in self.places.items():
            check_sizes(**{f"{metric}_at_k": min(places, default=None)})
        if not any(self.places.values()):
            raise ValueError(
                f"{type(self).__name__} got no k to measure at. Pass one, such as ndcg_at_k=[10]."
            )
        if isinstance(main_score_function, SimilarityFunction):
            main_score_function = main_score_function.value
        self.main_score_function = main_score_function
        self.score_functions: Mapping[str, Similarity] | None = None
        self.score_function_names: list[str] = []
        if score_functions:
            self.score_functions = dict(score_functions)
            self.score_function_names = sorted(score_functions)
            self.csv_headers = ["epoch", "steps", *self.columns({}, self.score_function_names)]
            if main_score_function is not None and main_score_function not in self.score_functions:
                raise ValueError(
                    f"main_score_function={main_score_function!r} is none of the score_functions "
                    f"{', '.join(self.score_function_names)}. Pass one of them, or None for the best."
                )
        elif main_score_function is not None:
            checked_similarities([main_score_function])

    @property
    def places(self) -> dict[str, Sequence[int]]:
        """At which places each metric is measured."""
        return {
            "accuracy": self.accuracy_at_k,
            "precision": self.precision_recall_at_k,
            "recall": self.precision_recall_at_k,
            "ndcg": self.ndcg_at_k,
            "mrr": self.mrr_at_k,
            "map": self.map_at_k,
        }

    def scorer_of_rankings(self, model: Any) -> EmbeddingScorer:
        """A scorer with the similarities to rank with."""
        main = self.main_score_function
        similarities = self.score_functions or (None if main is None else checked_similarities([main]))
        scorer = self.scorer(model, similarities)
        self.score_function_names = sorted(scorer.names)
        return scorer

    def measurement(self, metrics: Mapping[str, float]) -> Measurement:
        """Say which metric is the main one, and what goes into the CSV file.

        Args:
            metrics: Numbers under names like `cosine_ndcg@10`.
        """
        metric = next(metric for metric in MAIN_METRICS if self.places[metric])
        main = f"{metric}@{max(self.places[metric])}"
        name = self.main_score_function or max(
            self.score_function_names, key=lambda name: metrics[f"{name}_{main}"]
        )
        return Measurement(
            metrics=metrics,
            primary=f"{name}_{main}",
            columns=self.columns(metrics, self.score_function_names),
        )

    def columns(self, metrics: Mapping[str, float], names: Iterable[str]) -> dict[str, float | None]:
        """The columns of the CSV file: per similarity, with precision and recall side by side."""
        in_order = [
            *(("accuracy", k) for k in self.accuracy_at_k),
            *((metric, k) for k in self.precision_recall_at_k for metric in ("precision", "recall")),
            *((metric, k) for metric in ("mrr", "ndcg", "map") for k in self.places[metric]),
        ]
        return {
            f"{name}-{TITLES[metric]}@{k}": metrics.get(f"{name}_{metric}@{k}")
            for name in names
            for metric, k in in_order
        }


class InformationRetrievalEvaluator(RankingEvaluator):
    """Quality of the ranking of a corpus for each query: accuracy, precision, recall, MRR, NDCG and MAP at k.

    The corpus is embedded and searched chunk by chunk, and only the best documents of each query are kept. Of
    documents that score the same, the first of the corpus ranks first. The main score is the NDCG at the largest k.

    Args:
        queries: Text of each query, by its id.
        corpus: Text of each document, by its id.
        relevant_docs: For each query's id the ids of its relevant documents; or a mapping from these to grades, of
            which those above 0 count as relevant. A query without relevant documents is left out. A document that is
            not in the corpus counts as never found.
        corpus_chunk_size: Documents that are embedded before they are searched and forgotten.
        mrr_at_k: Places k up to which the mean reciprocal rank is measured.
        ndcg_at_k: The same for the normalised discounted cumulative gain.
        accuracy_at_k: The same for the share of queries that find anything relevant.
        precision_recall_at_k: The same for precision and recall.
        map_at_k: The same for the mean average precision.
        show_progress_bar: Whether to show progress.
        batch_size: Inputs of a batch at most.
        name: Put in front of the metrics' names, and part of the file's.
        write_csv: Whether to add a row to a CSV file, in those calls that name a folder.
        truncate_dim: Keep this many leading dimensions; None for the model's own setting.
        score_functions: Similarities to rank with, by name; None for `main_score_function`, or else the model's own.
        main_score_function: Which of them gives the main score; None for the best.
        query_prompt: Put in front of each query; None for the model's own.
        query_prompt_name: Name of a prompt of the model, for queries.
        corpus_prompt: Put in front of each document; None for the model's own.
        corpus_prompt_name: Name of a prompt of the model, for documents.
        write_predictions: Whether to write the rankings, one JSON line per query, to a file per similarity, in those
            calls that name a folder.

    Raises:
        EvaluationDataError: If there are no documents, or no query has a relevant one.
        ValueError: If a size is below 1; or if there is no similarity of the main one's name.

    Example:
        >>> evaluator = InformationRetrievalEvaluator(
        ...     {"q1": "What flies?"}, {"d1": "Birds fly.", "d2": "Stones lie."}, {"q1": {"d1"}}, name="dev"
        ... )
        >>> evaluator(model)["dev_cosine_ndcg@10"]
        1.0
    """

    def __init__(
        self,
        queries: dict[str, str],
        corpus: dict[str, str],
        relevant_docs: dict[str, set[str]],
        corpus_chunk_size: int = 50000,
        mrr_at_k: list[int] = [10],  # noqa: B006, never changed
        ndcg_at_k: list[int] = [10],  # noqa: B006
        accuracy_at_k: list[int] = [1, 3, 5, 10],  # noqa: B006
        precision_recall_at_k: list[int] = [1, 3, 5, 10],  # noqa: B006
        map_at_k: list[int] = [100],  # noqa: B006
        show_progress_bar: bool = False,
        batch_size: int = 32,
        name: str = "",
        write_csv: bool = True,
        truncate_dim: int | None = None,
        score_functions: dict[str, Callable[[Tensor, Tensor], Tensor]] | None = None,
        main_score_function: str | SimilarityFunction | None = None,
        query_prompt: str | None = None,
        query_prompt_name: str | None = None,
        corpus_prompt: str | None = None,
        corpus_prompt_name: str | None = None,
        write_predictions: bool = False,
    ) -> None:
        super().__init__(
            mrr_at_k=mrr_at_k,
            ndcg_at_k=ndcg_at_k,
            accuracy_at_k=accuracy_at_k,
            precision_recall_at_k=precision_recall_at_k,
            map_at_k=map_at_k,
            score_functions=score_functions,
            main_score_function=main_score_function,
            name=name,
            write_csv=write_csv,
            csv_file=f"Information-Retrieval_evaluation{named_part(name)}_results.csv",
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            truncate_dim=truncate_dim,
        )
        check_sizes(corpus_chunk_size=corpus_chunk_size)
        self.relevant_docs = {
            query: found for query, documents in relevant_docs.items() if (found := relevant_ids(documents))
        }
        self.queries_ids = [query for query in queries if query in self.relevant_docs]
        self.queries = [queries[query] for query in self.queries_ids]
        self.corpus_ids = list(corpus)
        self.corpus = list(corpus.values())
        self.check_data(len(queries))
        self.corpus_chunk_size = corpus_chunk_size
        self.query_prompt = query_prompt
        self.query_prompt_name = query_prompt_name
        self.corpus_prompt = corpus_prompt
        self.corpus_prompt_name = corpus_prompt_name
        self.write_predictions = write_predictions
        self.predictions_file = f"Information-Retrieval_evaluation{named_part(name)}_predictions.jsonl"

    def check_data(self, query_count: int) -> None:
        """Check that there is something to find; warn about documents that cannot be found."""
        kind = type(self).__name__
        if not self.corpus:
            raise EvaluationDataError(f"{kind} got no documents to search. Pass a corpus.")
        if not self.queries:
            raise EvaluationDataError(
                f"{kind} got {query_count} queries, and no relevant documents for any of them. Give relevant_docs "
                "the ids of the queries."
            )
        known = set(self.corpus_ids)
        unknown = [
            document
            for query in self.queries_ids
            for document in self.relevant_docs[query]
            if document not in known
        ]
        if unknown:
            logger.warning(
                "%d ids of relevant_docs are not in the corpus, such as %r; they count as documents that no model finds.",
                len(unknown),
                unknown[0],
            )

    def get_config_dict(self) -> dict[str, Any]:
        """The settings that a reader of the results should know."""
        prompts = {
            "query_prompt": self.query_prompt,
            "query_prompt_name": self.query_prompt_name,
            "corpus_prompt": self.corpus_prompt,
            "corpus_prompt_name": self.corpus_prompt_name,
        }
        given = {name: prompt for name, prompt in prompts.items() if prompt is not None}
        return {**super().get_config_dict(), **given}

    def __call__(
        self,
        model: Any,
        output_path: str | None = None,
        epoch: int = -1,
        steps: int = -1,
        *args: Any,
        **kwargs: Any,
    ) -> dict[str, float]:
        """Score a model.

        Args:
            model: The model; it is left as it was.
            output_path: Folder for the files; made if need be. None writes none.
            epoch: When in training this is; -1 for outside of it.
            steps: Steps of that epoch; -1 for its end.
            *args: Further arguments of `compute_metrices`.
            **kwargs: The same.

        Returns:
            Numbers by name, of which `primary_metric` is the main one.
        """
        with undisturbed(model):
            by_similarity = self.compute_metrices(model, *args, output_path=output_path, **kwargs)
        metrics = {
            f"{name}_{metric}": value
            for name, values in by_similarity.items()
            for metric, value in under_flat_names(values).items()
        }
        return self.report(model, self.measurement(metrics), output_path, epoch, steps)

    def compute_metrices(
        self,
        model: Any,
        corpus_model: Any = None,
        corpus_embeddings: Any = None,
        output_path: str | None = None,
    ) -> dict[str, METRICS_AT_K]:
        """Rank the corpus for each query, and measure.

        Args:
            model: The model.
            corpus_model: Another model for the documents; None for the same.
            corpus_embeddings: Embeddings of the documents, (N, D), in the order of the corpus; None embeds them.
            output_path: Folder for the rankings if they are written; None writes none.

        Returns:
            For each similarity, what `compute_metrics` returns.
        """
        scorer = self.scorer_of_rankings(model)
        corpus_scorer = scorer if corpus_model is None else self.scorer(corpus_model)
        queries = scorer.encode(
            self.queries, "query", prompt=self.query_prompt, prompt_name=self.query_prompt_name
        )
        k = max(max(places, default=1) for places in self.places.values())
        searches = {
            name: TopK(queries, k, similarity=matrix) for name, (matrix, _) in scorer.similarities.items()
        }
        if corpus_embeddings is not None and row_count(corpus_embeddings) != len(self.corpus):
            raise EvaluationDataError(
                f"corpus_embeddings has {row_count(corpus_embeddings)} rows, and the corpus {len(self.corpus)} "
                "documents. Pass one row per document."
            )
        for chunk in self.corpus_chunks(corpus_scorer) if corpus_embeddings is None else [corpus_embeddings]:
            for search in searches.values():
                search.add(chunk)
        if self.write_predictions and output_path is not None:
            for name, search in searches.items():
                self.write_rankings(Path(output_path), name, search.best)
        return {name: self.metrics_of_hits(self.hits(search.best)) for name, search in searches.items()}

    def corpus_chunks(self, scorer: EmbeddingScorer) -> Iterator[Any]:
        """Embeddings of the corpus, so many documents at a time as are kept in memory."""
        for rows in ranges(len(self.corpus), self.corpus_chunk_size):
            yield scorer.encode(
                self.corpus[rows.start : rows.stop],
                "document",
                prompt=self.corpus_prompt,
                prompt_name=self.corpus_prompt_name,
            )

    def hits(self, best: Best) -> np.ndarray:
        """Whether each of the best documents is relevant, (Q, K)."""
        row_of = {document: row for row, document in enumerate(self.corpus_ids)}
        count = len(self.corpus_ids)
        # A query and a document are one number, so that all are looked up at once.
        relevant = [
            number * count + row_of[document]
            for number, query in enumerate(self.queries_ids)
            for document in self.relevant_docs[query]
            if document in row_of
        ]
        rows = best.rows.cpu().numpy()
        found = np.arange(len(rows))[:, None] * count + rows
        return np.isin(found, np.asarray(relevant, dtype=np.int64)) & (rows >= 0)

    def compute_metrics(self, queries_result_list: list[object]) -> METRICS_AT_K:
        """Measure rankings that are given.

        Args:
            queries_result_list: For each of `queries_ids` a list of dictionaries with `corpus_id`, the document's id,
                and `score`, in any order.

        Returns:
            The means over all queries by place k, under `accuracy@k`, `precision@k`, `recall@k`, `ndcg@k`, `mrr@k`
            and `map@k`.
        """
        results: list[Any] = queries_result_list
        if len(results) != len(self.queries_ids):
            raise EvaluationDataError(
                f"There are {len(results)} rankings for {len(self.queries_ids)} queries. Pass one for each of "
                "queries_ids."
            )
        hits = np.zeros((len(results), max(map(len, results), default=0)), dtype=bool)
        for row, (query, result) in enumerate(zip(self.queries_ids, results, strict=True)):
            ranked = sorted(result, key=lambda hit: -hit["score"])
            hits[row, : len(ranked)] = [hit["corpus_id"] in self.relevant_docs[query] for hit in ranked]
        return self.metrics_of_hits(hits)

    def metrics_of_hits(self, hits: np.ndarray) -> METRICS_AT_K:
        """The means over all queries, where hits (Q, K) says which documents of the rankings are relevant."""
        relevant = np.array([len(self.relevant_docs[query]) for query in self.queries_ids])  # (Q,)
        measures: dict[str, Callable[[int], np.ndarray]] = {
            "accuracy": lambda k: ranking_metrics.accuracy_at_k(hits, k=k),
            "precision": lambda k: ranking_metrics.precision_at_k(hits, k=k),
            "recall": lambda k: ranking_metrics.recall_at_k(hits, k=k, relevant=relevant),
            "ndcg": lambda k: ranking_metrics.ndcg_at_k(
                hits, k=k, ideal=ranking_metrics.ideal_of_counts(relevant, k=k)
            ),
            "mrr": lambda k: ranking_metrics.reciprocal_rank_at_k(hits, k=k),
            "map": lambda k: ranking_metrics.average_precision_at_k(hits, k=k, relevant=relevant),
        }
        return {
            f"{metric}@k": {k: float(measures[metric](k).mean()) for k in self.places[metric]}
            for metric in METRICS
        }

    def write_rankings(self, folder: Path, name: str, best: Best) -> None:
        """Write the ranking of each query by one similarity, one JSON line each; an older file is replaced."""
        folder.mkdir(parents=True, exist_ok=True)
        stem, _, ending = self.predictions_file.rpartition(".")
        with open(folder / f"{stem}_{name}.{ending}", "w", encoding="utf-8") as file:
            for query, text, hits in zip(self.queries_ids, self.queries, hits_of(best), strict=True):
                results = [self.named(hit) for hit in hits]
                line = {"query_id": query, "query": text, "results": results}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def named(self, hit: Hit) -> dict[str, Any]:
        """A hit with the document's id in place of its number."""
        return {"corpus_id": self.corpus_ids[int(hit["corpus_id"])], "score": hit["score"]}


def relevant_ids(documents: Any) -> set[str]:
    """Ids of the relevant documents; of graded ones, those with a grade above 0."""
    if isinstance(documents, Mapping):
        return {document for document, grade in documents.items() if grade > 0}
    return set(documents)


def under_flat_names(metrics: METRICS_AT_K) -> dict[str, float]:
    """`{"ndcg@k": {10: value}}` as `{"ndcg@10": value}`."""
    return {
        f"{metric.removesuffix('@k')}@{k}": value
        for metric, values in metrics.items()
        for k, value in values.items()
    }
