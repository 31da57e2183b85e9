"""How well a model finds the paraphrases in a collection of sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from sentence_transformers.evaluation.base import check_rows, named_part
from sentence_transformers.evaluation.metrics import Separation
from sentence_transformers.evaluation.report import Measurement
from sentence_transformers.evaluation.scoring import EmbeddingEvaluator
from sentence_transformers.search.retrieval import paraphrase_mining_embeddings
from sentence_transformers.tensors.blocks import check_sizes


class ParaphraseMiningEvaluator(EmbeddingEvaluator):
    """Average precision of the most similar pairs of sentences, and the best F1 with its threshold.

    All sentences are compared with each other by cosine similarity. Paraphrases that are not among the mined pairs
    count as missed. The main score is the average precision.

    Args:
        sentences_map: The sentences, by id.
        duplicates_list: Pairs of ids of sentences that say the same. Ids without a sentence are passed over.
        duplicates_dict: The same as dictionaries: `{id: {other id: True}}`; one direction is enough.
        add_transitive_closure: Whether a and c say the same if a and b do, and b and c.
        query_chunk_size: See `paraphrase_mining_embeddings`, as for the next three.
        corpus_chunk_size: See there.
        max_pairs: See there.
        top_k: See there.
        show_progress_bar: Whether to show progress.
        batch_size: Inputs of a batch at most.
        name: Put in front of the metrics' names, and part of the file's.
        write_csv: Whether to add a row to a CSV file, in those calls that name a folder.
        truncate_dim: Keep this many leading dimensions; None for the model's own setting.

    Raises:
        EvaluationDataError: If there are no sentences.
        ValueError: If a size is below 1.

    Example:
        >>> evaluator = ParaphraseMiningEvaluator(
        ...     {"a": "It rains.", "b": "Rain is falling.", "c": "A man eats."}, [("a", "b")], name="dev"
        ... )
        >>> evaluator(model)["dev_average_precision"]
        1.0
    """

    csv_columns = ("precision", "recall", "f1", "threshold", "average_precision")

    def __init__(
        self,
        sentences_map: dict[str, str],
        duplicates_list: list[tuple[str, str]] | None = None,
        duplicates_dict: dict[str, dict[str, bool]] | None = None,
        add_transitive_closure: bool = False,
        query_chunk_size: int = 5000,
        corpus_chunk_size: int = 100000,
        max_pairs: int = 500000,
        top_k: int = 100,
        show_progress_bar: bool = False,
        batch_size: int = 16,
        name: str = "",
        write_csv: bool = True,
        truncate_dim: int | None = None,
    ) -> None:
        check_rows(type(self).__name__, sentences_map=sentences_map)
        check_sizes(
            query_chunk_size=query_chunk_size,
            corpus_chunk_size=corpus_chunk_size,
            max_pairs=max_pairs,
            top_k=top_k,
        )
        super().__init__(
            name=name,
            write_csv=write_csv,
            csv_file=f"paraphrase_mining_evaluation{named_part(name)}_results.csv",
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            truncate_dim=truncate_dim,
        )
        self.ids = list(sentences_map)
        self.sentences = list(sentences_map.values())
        self.query_chunk_size = query_chunk_size
        self.corpus_chunk_size = corpus_chunk_size
        self.max_pairs = max_pairs
        self.top_k = top_k
        self.is_closed = add_transitive_closure
        pairs = [*(duplicates_list or ()), *listed_pairs(duplicates_dict or {})]
        self.duplicates = both_ways(pairs, known=set(self.ids))
        if add_transitive_closure:
            self.duplicates = self.add_transitive_closure(self.duplicates)
        self.total_num_duplicates = sum(map(len, self.duplicates.values())) // 2

    @staticmethod
    def add_transitive_closure(graph: dict[str, dict[str, bool]]) -> dict[str, dict[str, bool]]:
        """Link everything that is linked over others.

        Args:
            graph: Links, in both directions; left as it is.

        Returns:
            A graph of the same form, in which each id is linked to all others of its group.
        """
        closed: dict[str, dict[str, bool]] = {}
        for start in graph:
            if start in closed:
                continue
            group, waiting = {start: True}, [start]
            while waiting:
                linked = [other for other in graph[waiting.pop()] if other not in group]
                group.update(dict.fromkeys(linked, True))
                waiting.extend(linked)
            for member in group:
                closed[member] = {other: True for other in group if other != member}
        return closed

    def get_config_dict(self) -> dict[str, Any]:
        """The settings that a reader of the results should know."""
        return {
            **super().get_config_dict(),
            "add_transitive_closure": self.is_closed,
            "max_pairs": self.max_pairs,
            "top_k": self.top_k,
        }

    def measure(self, model: Any) -> Measurement:
        pairs = paraphrase_mining_embeddings(
            self.scorer(model).encode(self.sentences),
            query_chunk_size=self.query_chunk_size,
            corpus_chunk_size=self.corpus_chunk_size,
            max_pairs=self.max_pairs,
            top_k=self.top_k,
        )
        is_duplicate = [
            self.ids[int(second)] in self.duplicates.get(self.ids[int(first)], ())
            for _score, first, second in pairs
        ]
        # In float32, as they were computed: the threshold lies between two neighbouring scores.
        scores = np.array([pair[0] for pair in pairs], dtype=np.float32)
        labels = np.array(is_duplicate, dtype=np.int64)
        separation = Separation(scores, labels, missed=self.total_num_duplicates - int(labels.sum()))
        best = separation.best_f1()
        values = {
            "average_precision": separation.average_precision(),
            "f1": best.f1,
            "precision": best.precision,
            "recall": best.recall,
            "threshold": best.threshold,
        }
        return Measurement(
            metrics=values,
            primary="average_precision",
            columns={name: values[name] for name in self.csv_columns},
        )


def listed_pairs(links: Mapping[str, Mapping[str, bool]]) -> list[tuple[str, str]]:
    """The pairs of ids that nested dictionaries call true."""
    return [(first, second) for first, others in links.items() for second, holds in others.items() if holds]


def both_ways(pairs: Iterable[tuple[str, str]], *, known: set[str]) -> dict[str, dict[str, bool]]:
    """Pairs of known ids as links in both directions; an id is not linked with itself."""
    graph: dict[str, dict[str, bool]] = {}
    for first, second in pairs:
        if first in known and second in known and first != second:
            graph.setdefault(first, {})[second] = True
            graph.setdefault(second, {})[first] = True
    return graph
