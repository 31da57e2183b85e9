"""How good a model is, on files that a user names: similarity of sentences, or retrieval.

A table (.tsv, .csv, .jsonl, .parquet, also with .gz) with `sentence1`, `sentence2` and `score` is judged by
Spearman's correlation of the cosine; one with two texts and a `label`, which is 1 where they belong together and
else 0, by the average precision of the cosine. A folder is a retrieval set: `corpus`, `queries` and `qrels`, each
.jsonl or .tsv, perhaps with the split in the name and .gz behind it; it is judged by nDCG@10, with the
model's own similarity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sentence_transformers.recipes.tables import read_retrieval_set, read_rows

SCORED, LABEL = ("sentence1", "sentence2", "score"), "label"


class Judge:
    """One evaluator, and the one figure of it that counts.

    Args:
        path: A table or a folder, as above.
        name: What the evaluator is called: "dev", or "test".
        of: What it is judged on, in the figure's name; the folder's name if none is given.
    """

    def __init__(self, path: Path, name: str, *, of: str | None = None) -> None:
        from sentence_transformers.evaluation.binary_classification import BinaryClassificationEvaluator
        from sentence_transformers.evaluation.embedding_similarity import EmbeddingSimilarityEvaluator
        from sentence_transformers.evaluation.information_retrieval import InformationRetrievalEvaluator

        self.name = name
        self.evaluator: Any
        if path.is_dir():
            found = read_retrieval_set(path, name)
            self.evaluator = InformationRetrievalEvaluator(
                found.queries, found.documents, found.relevant, name=name, write_csv=False
            )
            self._metric = f"{name}_{{similarity}}_ndcg@10"
            self.label = f"{of or path.absolute().name} {name} nDCG@10"
            return
        rows = read_rows(path)
        # The file of a test set is often called test.tsv, and its folder says of what.
        of = f"{of or path.absolute().parent.name} {name}"
        if LABEL in rows[0] and "score" not in rows[0] and len(rows[0]) == 3:
            one, other = (column for column in rows[0] if column != LABEL)
            self.evaluator = BinaryClassificationEvaluator(
                [row[one] for row in rows],
                [row[other] for row in rows],
                [int(row[LABEL]) for row in rows],
                similarity_fn_names=["cosine"],
                name=name,
                write_csv=False,
            )
            self._metric, self.label = f"{name}_cosine_ap", f"{of} AP"
        else:
            rows = read_rows(path, SCORED)
            self.evaluator = EmbeddingSimilarityEvaluator(
                [row["sentence1"] for row in rows],
                [row["sentence2"] for row in rows],
                [float(row["score"]) for row in rows],
                main_similarity="cosine",
                name=name,
                write_csv=False,
            )
            self._metric, self.label = f"{name}_spearman_cosine", f"{of} Spearman"

    def metric(self, model: Any) -> str:
        """What the figure is called among those of the evaluator, for a model."""
        return self._metric.format(similarity=model.similarity_fn_name)

    def __call__(self, model: Any) -> float:
        """The figure, in per cent."""
        return round(100 * float(self.evaluator(model)[self.metric(model)]), 2)


def judges(dev: Path | None, test: Sequence[Path]) -> list[Judge]:
    """The judges of a config: the one of dev first, if there is one.

    Two of the same folder are told apart by the names of their files.

    Raises:
        ValueError: If two test sets cannot be told apart.
    """
    found = [Judge(path, "test") for path in test]
    labels = Counter(judge.label for judge in found)
    for place, path in enumerate(test):
        if labels[found[place].label] > 1:
            found[place] = Judge(
                path, "test", of=f"{path.absolute().parent.name} {path.name.partition('.')[0]}"
            )
    labels = Counter(judge.label for judge in found)
    for judge, path in zip(found, test, strict=True):
        if labels[judge.label] > 1:
            raise ValueError(
                f"{path} and another test set are both called {judge.label!r} in the table. Pass each once, and keep "
                "them in folders of different names."
            )
    return [*([Judge(dev, "dev")] if dev is not None else []), *found]


def dev_judge(all_judges: Sequence[Judge]) -> Judge | None:
    """The judge of dev, if there is one: the one that looks at every epoch."""
    return next((judge for judge in all_judges if judge.name == "dev"), None)


def judged(model: Any, by: Sequence[Judge]) -> dict[str, float]:
    """A model's figures, by what they are called in a table."""
    return {judge.label: judge(model) for judge in by}
