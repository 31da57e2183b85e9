"""Write mined negatives as the columns of a dataset, in the form that a loss or an evaluator takes.

The table `FORMATS` is the list of forms. Which negatives there are is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sentence_transformers.search.hard_negatives.texts import MiningTexts


@dataclass(frozen=True)
class MinedNegatives:
    """The negatives of every anchor."""

    texts: MiningTexts
    positive_scores: Tensor
    """How alike the two texts of each pair are, (P,)."""

    rows: Tensor
    """The negatives of each anchor as rows of the corpus, (A, n), best first, -1 where there are fewer."""

    scores: Tensor
    """Their scores, (A, n)."""

    def counts(self) -> Tensor:
        """How many negatives each anchor has, (A,)."""
        return (self.rows >= 0).count_nonzero(dim=1)


@dataclass(frozen=True)
class Written:
    """A dataset's columns, and which pairs and negatives they hold."""

    columns: dict[str, list[Any]]
    pairs: Tensor
    """Numbers of the pairs that are in it."""

    negatives: Tensor
    """Numbers of the pairs that its negatives stand beside, one for each negative."""

    places: Tensor
    """Which of its anchor's negatives each one is."""


Write = Callable[[MinedNegatives, tuple[str, str], bool], Written]
"""From the negatives, the names of the anchor's and the positive's column, and whether scores are wanted."""


def triplets(mined: MinedNegatives, names: tuple[str, str], with_scores: bool) -> Written:
    """One row for each pair and negative; pairs without negatives are left out."""
    texts = mined.texts
    pairs, places = (mined.rows[texts.pair_anchors] >= 0).nonzero(as_tuple=True)
    anchors = texts.pair_anchors[pairs]
    columns: dict[str, list[Any]] = {
        names[0]: some_of(texts.anchors, anchors),
        names[1]: some_of(texts.corpus, texts.pair_positives[pairs]),
        "negative": some_of(texts.corpus, mined.rows[anchors, places]),
    }
    if with_scores:
        scores = torch.stack([mined.positive_scores[pairs], mined.scores[anchors, places]], dim=1)
        columns["scores"] = scores.tolist()
    return Written(columns, pairs.unique(), pairs, places)


def tuples(mined: MinedNegatives, names: tuple[str, str], with_scores: bool) -> Written:
    """One row for each pair with all its negatives; pairs with too few are left out."""
    texts = mined.texts
    wanted = mined.rows.shape[1]
    pairs = (mined.counts()[texts.pair_anchors] == wanted).nonzero()[:, 0]
    anchors = texts.pair_anchors[pairs]
    columns: dict[str, list[Any]] = {
        names[0]: some_of(texts.anchors, anchors),
        names[1]: some_of(texts.corpus, texts.pair_positives[pairs]),
    }
    for place in range(wanted):
        columns[f"negative_{place + 1}"] = some_of(texts.corpus, mined.rows[anchors, place])
    if with_scores:
        scores = torch.cat([mined.positive_scores[pairs].unsqueeze(1), mined.scores[anchors]], dim=1)
        columns["scores"] = scores.tolist()
    return Written(columns, pairs, pairs.repeat_interleave(wanted), torch.arange(wanted).repeat(len(pairs)))


def labeled_pairs(mined: MinedNegatives, names: tuple[str, str], with_scores: bool) -> Written:
    """One row for each pair, and for each anchor and negative; an anchor's positives stand before its negatives."""
    texts = mined.texts
    negative_anchors, places = (mined.rows >= 0).nonzero(as_tuple=True)
    # A stable sort by anchor: its positives come first, as they stand first here.
    anchors, order = torch.cat([texts.pair_anchors, negative_anchors]).sort(stable=True)
    rows = torch.cat([texts.pair_positives, mined.rows[negative_anchors, places]])[order]
    columns: dict[str, list[Any]] = {
        names[0]: some_of(texts.anchors, anchors),
        names[1]: some_of(texts.corpus, rows),
    }
    if with_scores:
        scores = torch.cat([mined.positive_scores, mined.scores[negative_anchors, places]])
        columns["score"] = scores[order].tolist()
    else:
        columns["label"] = (order < len(texts.pair_anchors)).long().tolist()
    pairs = torch.arange(len(texts.pair_anchors))
    first_pairs = torch.searchsorted(texts.pair_anchors, negative_anchors)
    return Written(columns, pairs, first_pairs, places)


def labeled_lists(mined: MinedNegatives, names: tuple[str, str], with_scores: bool) -> Written:
    """One row for each pair: a list of the positive and its negatives; pairs without negatives are left out."""
    texts = mined.texts
    counts = mined.counts()[texts.pair_anchors]  # (P,)
    pairs = counts.nonzero()[:, 0]
    anchors = texts.pair_anchors[pairs]
    lengths = counts[pairs].tolist()
    rows = torch.cat([texts.pair_positives[pairs].unsqueeze(1), mined.rows[anchors]], dim=1)
    columns: dict[str, list[Any]] = {
        names[0]: some_of(texts.anchors, anchors),
        names[1]: [
            [texts.corpus[row] for row in line[: length + 1]]
            for line, length in zip(rows.tolist(), lengths, strict=True)
        ],
    }
    if with_scores:
        scores = torch.cat([mined.positive_scores[pairs].unsqueeze(1), mined.scores[anchors]], dim=1)
        columns["scores"] = [
            line[: length + 1] for line, length in zip(scores.tolist(), lengths, strict=True)
        ]
    else:
        columns["labels"] = [[1] + [0] * length for length in lengths]
    numbers, places = (mined.rows[anchors] >= 0).nonzero(as_tuple=True)
    return Written(columns, pairs, pairs[numbers], places)


FORMATS: Mapping[str, Write] = {
    "triplet": triplets,
    "n-tuple": tuples,
    "labeled-pair": labeled_pairs,
    "labeled-list": labeled_lists,
}


def added_columns(output_format: str, num_negatives: int, with_scores: bool) -> list[str]:
    """Names of the columns that a form has beside the anchor and the positive."""
    if output_format == "triplet":
        return ["negative"] + ["scores"] * with_scores
    if output_format == "n-tuple":
        return [f"negative_{number + 1}" for number in range(num_negatives)] + ["scores"] * with_scores
    if output_format == "labeled-pair":
        return ["score" if with_scores else "label"]
    return ["scores" if with_scores else "labels"]


def features_of(output_format: str, names: list[str]) -> Any:
    """The types of the columns, which an empty dataset has as well."""
    from datasets import Features, Value

    types: dict[str, Any] = {
        "label": Value("int64"),
        "labels": [Value("int64")],
        "score": Value("float64"),
        "scores": [Value("float64")],
    }
    features = {
        name: types.get(name, Value("string")) if place > 1 else Value("string")
        for place, name in enumerate(names)
    }
    if output_format == "labeled-list":
        features[names[1]] = [Value("string")]
    return Features(features)


def some_of(texts: list[str], numbers: Tensor) -> list[str]:
    return [texts[number] for number in numbers.tolist()]
