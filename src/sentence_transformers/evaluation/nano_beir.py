"""Retrieval on NanoBEIR: thirteen small samples of the BEIR benchmark, or other sets of the same form.

How such a set is read, from the hub or a folder, and how the results of several sets become one. What is measured
on each stands in `information_retrieval.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from sentence_transformers.evaluation.base import MeasuringEvaluator
from sentence_transformers.evaluation.information_retrieval import (
    InformationRetrievalEvaluator,
    RankingEvaluator,
)
from sentence_transformers.evaluation.report import Measurement
from sentence_transformers.tensors.similarity import SimilarityFunction

logger = logging.getLogger(__name__)

DatasetNameType = Literal[
    "climatefever",
    "dbpedia",
    "fever",
    "fiqa2018",
    "hotpotqa",
    "msmarco",
    "nfcorpus",
    "nq",
    "quoraretrieval",
    "scidocs",
    "arguana",
    "scifact",
    "touche2020",
]

NANO_BEIR = "sentence-transformers/NanoBEIR-en"

TITLES: Mapping[str, str] = {
    "climatefever": "ClimateFEVER",
    "dbpedia": "DBPedia",
    "fever": "FEVER",
    "fiqa2018": "FiQA2018",
    "hotpotqa": "HotpotQA",
    "msmarco": "MSMARCO",
    "nfcorpus": "NFCorpus",
    "nq": "NQ",
    "quoraretrieval": "QuoraRetrieval",
    "scidocs": "SCIDOCS",
    "arguana": "ArguAna",
    "scifact": "SciFact",
    "touche2020": "Touche2020",
}
"""The sets of NanoBEIR by their short names, and how they are written."""


class OverSets(MeasuringEvaluator):
    """An evaluator that runs others, one for each of several sets, and makes one number of all of theirs.

    Subclasses write `measurement`, which is given the numbers of all sets by name, and set `evaluators`, of which
    each has a `name`, and `aggregate_fn`.
    """

    evaluators: Sequence[Any]
    aggregate_fn: Callable[[list[float]], float]

    def measurement(self, metrics: Mapping[str, float]) -> Measurement:
        """What is reported of the numbers of all sets."""
        raise NotImplementedError

    def __call__(
        self,
        model: Any,
        output_path: str | None = None,
        epoch: int = -1,
        steps: int = -1,
        *args: Any,
        **kwargs: Any,
    ) -> dict[str, float]:
        """Score a model on every set.

        Args:
            model: The model; it is left as it was.
            output_path: Folder for the files, one of each set and one of all; made if need be. None writes none.
            epoch: When in training this is; -1 for outside of it.
            steps: Steps of that epoch; -1 for its end.
            *args: Further arguments for each set's evaluator.
            **kwargs: The same.

        Returns:
            Numbers of each set, and of all, by name; `primary_metric` is the main one.
        """
        of_sets: dict[str, float] = {}
        by_metric: dict[str, list[float]] = {}
        for evaluator in self.evaluators:
            logger.info("%s: %s", type(self).__name__, evaluator.name)
            metrics = evaluator(model, output_path, epoch, steps, *args, **kwargs)
            of_sets.update(metrics)
            for key, value in metrics.items():
                by_metric.setdefault(key.removeprefix(f"{evaluator.name}_"), []).append(value)
        of_all = {key: float(self.aggregate_fn(values)) for key, values in by_metric.items()}
        return {**of_sets, **self.report(model, self.measurement(of_all), output_path, epoch, steps)}


class NanoBEIREvaluator(OverSets, RankingEvaluator):
    """Quality of retrieval on each set of NanoBEIR, and the mean over the sets.

    Each set has 50 queries and up to 10,000 documents of a set of BEIR (Thakur et al. 2021, "BEIR: A Heterogeneous
    Benchmark for Zero-shot Evaluation of Information Retrieval Models"). The sets are loaded when the evaluator is
    built.

    Args:
        dataset_names: Short names of sets, such as "msmarco", in upper or lower case; None for all thirteen. Another
            `dataset_id` may have sets of other names.
        mrr_at_k: As of `InformationRetrievalEvaluator`, as all up to `main_score_function`.
        ndcg_at_k: See there.
        accuracy_at_k: See there.
        precision_recall_at_k: See there.
        map_at_k: See there.
        show_progress_bar: See there.
        batch_size: See there.
        write_csv: See there.
        truncate_dim: See there.
        score_functions: See there.
        main_score_function: See there.
        aggregate_fn: Makes one number of the numbers of all sets.
        aggregate_key: Its name, part of the metrics' names and the file's.
        query_prompts: Put in front of each query: one for all sets, or one for each by its name.
        corpus_prompts: The same for documents.
        dataset_id: Where the sets are: a repository of the hub or a local folder that `datasets.load_dataset` reads,
            with the configurations `corpus` (columns `_id` and `text`), `queries` (the same) and `qrels` (`query-id`,
            `corpus-id`), and a split of each for every set, such as `NanoMSMARCO`. Or a local folder with one folder
            for each set, such as `NanoMSMARCO`, whose split is `train`.
        write_predictions: As of `InformationRetrievalEvaluator`.

    Raises:
        ValueError: If there is no set of a given name, a set cannot be loaded, or a prompt is missing.
        ImportError: If `datasets` is not installed.

    Example:
        >>> evaluator = NanoBEIREvaluator(["msmarco", "nq"], query_prompts="query: ")
        >>> evaluator(model)["NanoBEIR_mean_cosine_ndcg@10"]
    """

    information_retrieval_class: type[InformationRetrievalEvaluator] = InformationRetrievalEvaluator
    """What evaluates each set; for subclasses to change."""

    def __init__(
        self,
        dataset_names: Sequence[DatasetNameType | str] | None = None,
        mrr_at_k: list[int] = [10],  # noqa: B006, never changed
        ndcg_at_k: list[int] = [10],  # noqa: B006
        accuracy_at_k: list[int] = [1, 3, 5, 10],  # noqa: B006
        precision_recall_at_k: list[int] = [1, 3, 5, 10],  # noqa: B006
        map_at_k: list[int] = [100],  # noqa: B006
        show_progress_bar: bool = False,
        batch_size: int = 32,
        write_csv: bool = True,
        truncate_dim: int | None = None,
        score_functions: dict[str, Callable[[Tensor, Tensor], Tensor]] | None = None,
        main_score_function: str | SimilarityFunction | None = None,
        aggregate_fn: Callable[[list[float]], float] = np.mean,
        aggregate_key: str = "mean",
        query_prompts: str | dict[str, str] | None = None,
        corpus_prompts: str | dict[str, str] | None = None,
        *,
        dataset_id: str = NANO_BEIR,
        write_predictions: bool = False,
    ) -> None:
        at_k: dict[str, Any] = {
            "mrr_at_k": mrr_at_k,
            "ndcg_at_k": ndcg_at_k,
            "accuracy_at_k": accuracy_at_k,
            "precision_recall_at_k": precision_recall_at_k,
            "map_at_k": map_at_k,
        }
        shared: dict[str, Any] = {
            **at_k,
            "show_progress_bar": show_progress_bar,
            "batch_size": batch_size,
            "write_csv": write_csv,
            "truncate_dim": truncate_dim,
            "score_functions": score_functions,
            "main_score_function": main_score_function,
        }
        dimension = "" if truncate_dim is None else f"_{truncate_dim}"
        super().__init__(
            **shared,
            name=f"NanoBEIR_{aggregate_key}{dimension}",
            csv_file=f"NanoBEIR_evaluation_{aggregate_key}_results.csv",
        )
        self.dataset_names = list(TITLES) if dataset_names is None else list(dataset_names)
        self.dataset_id = dataset_id
        self.aggregate_fn = aggregate_fn
        self.aggregate_key = aggregate_key
        self.query_prompts = prompts_of(self.dataset_names, query_prompts, "query_prompts")
        self.corpus_prompts = prompts_of(self.dataset_names, corpus_prompts, "corpus_prompts")
        splits = splits_of(self.dataset_names, dataset_id)
        self.evaluators = [
            self.information_retrieval_class(
                **nano_set(dataset_id, split),
                **shared,
                name=f"{split}{dimension}",
                query_prompt=self.query_prompts.get(name),
                corpus_prompt=self.corpus_prompts.get(name),
                write_predictions=write_predictions,
            )
            for name, split in splits.items()
        ]

    def get_config_dict(self) -> dict[str, Any]:
        """The settings that a reader of the results should know."""
        prompts = {"query_prompts": self.query_prompts, "corpus_prompts": self.corpus_prompts}
        return {
            "dataset_names": self.dataset_names,
            "dataset_id": self.dataset_id,
            **super().get_config_dict(),
            **{key: value for key, value in prompts.items() if value},
        }

    def measurement(self, metrics: Mapping[str, float]) -> Measurement:
        self.score_function_names = self.evaluators[0].score_function_names
        return RankingEvaluator.measurement(self, metrics)


def splits_of(names: Sequence[str], dataset_id: str) -> dict[str, str]:
    """Short names of sets, and the splits in which they are: `{"msmarco": "NanoMSMARCO"}`.

    Raises:
        ValueError: If there are no names, or NanoBEIR itself has no set of a name.
    """
    if not names:
        raise ValueError("dataset_names is empty. Pass names of sets, or None for all of them.")
    splits = {}
    for name in names:
        bare = name[4:] if name.lower().startswith("nano") else name
        if bare.lower() not in TITLES and dataset_id == NANO_BEIR:
            raise ValueError(f"NanoBEIR has no set {name!r}. It has: {', '.join(TITLES)}.")
        splits[name] = f"Nano{TITLES.get(bare.lower(), bare)}"
    return splits


def prompts_of(
    names: Sequence[str], prompts: str | Mapping[str, str] | None, argument: str
) -> dict[str, str]:
    """The prompt of each set.

    Raises:
        ValueError: If prompts are given by name, and one is missing.
    """
    if prompts is None:
        return {}
    if isinstance(prompts, str):
        return dict.fromkeys(names, prompts)
    by_lower_name = {name.lower(): prompt for name, prompt in prompts.items()}
    missing = [name for name in names if name.lower() not in by_lower_name]
    if missing:
        raise ValueError(
            f"{argument} has no prompt for {', '.join(missing)}. Give every set one, or pass one text."
        )
    return {name: by_lower_name[name.lower()] for name in names}


def nano_set(dataset_id: str, split: str) -> dict[str, Any]:
    """Load a set: the queries, corpus and relevant_docs of an `InformationRetrievalEvaluator`.

    Args:
        dataset_id: As of `NanoBEIREvaluator`.
        split: Which set, such as "NanoMSMARCO".
    """
    relevant_docs: dict[str, set[str]] = {}
    for row in nano_rows(dataset_id, "qrels", split, ("query-id", "corpus-id")):
        relevant_docs.setdefault(row["query-id"], set()).add(row["corpus-id"])
    texts = {
        part: {
            row["_id"]: row["text"]
            for row in nano_rows(dataset_id, part, split, ("_id", "text"))
            if row["text"]
        }
        for part in ("queries", "corpus")
    }
    return {**texts, "relevant_docs": relevant_docs}


def nano_rows(dataset_id: str, part: str, split: str, columns: Sequence[str]) -> Any:
    """Rows of one part of a set.

    Raises:
        ValueError: If it cannot be loaded, or lacks a column.
        ImportError: If `datasets` is not installed.
    """
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise ImportError(
            "Loading NanoBEIR needs datasets. Install it with: pip install -U datasets"
        ) from error
    folder = Path(dataset_id) / split
    place, split_there = (str(folder), "train") if folder.is_dir() else (dataset_id, split)
    try:
        rows = load_dataset(place, part, split=split_there)
    # No network, no such repository or folder, no such configuration, no such split.
    except (OSError, ValueError) as error:
        raise ValueError(
            f"The split {split_there!r} of {part!r} could not be loaded from {place!r}: {error} Without a network, pass "
            "the path of a local copy as dataset_id."
        ) from error
    missing = set(columns) - set(rows.column_names)
    if missing:
        raise ValueError(
            f"{part!r} in {place!r} has the columns {', '.join(rows.column_names)}, and lacks "
            f"{', '.join(sorted(missing))}."
        )
    return rows.select_columns(list(columns))
