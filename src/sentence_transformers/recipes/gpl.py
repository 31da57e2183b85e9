"""GPL: generative pseudo labelling. Written queries, hard negatives, and margins that a cross-encoder gives.

Wang, Thakur, Reimers, Gurevych (2022), "GPL: Generative Pseudo Labeling for Unsupervised Domain Adaptation of Dense
Retrieval", https://arxiv.org/abs/2112.07577. A query that does not suit its passage costs little: the cross-encoder
says so. How queries are written stands in `generation.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sentence_transformers.losses.margin_mse import MarginMSELoss
from sentence_transformers.recipes.config import option
from sentence_transformers.recipes.generation import (
    GeneratedConfig,
    Written,
    nearest_documents,
    queries_of,
    read_corpus,
)
from sentence_transformers.recipes.judging import dev_judge, judged, judges
from sentence_transformers.recipes.report import Report
from sentence_transformers.recipes.running import only_run
from sentence_transformers.recipes.shards import read_lines, write_in_shards, write_lines
from sentence_transformers.recipes.training import load, trained
from sentence_transformers.storage.folder import read_json, write_json
from sentence_transformers.tensors.similarity import pairwise_cos_sim, pairwise_dot_score

NEGATIVES, MARGINS, SCALE = "negatives.jsonl", "margins.jsonl", "scale.json"
ROLES = {"query": "query", "positive": "document", "negative": "document"}
SHARD = 256
"""Queries after which the margins found are kept."""


@dataclass(kw_only=True)
class Config(GeneratedConfig):
    """What GPL is told."""

    cross_encoder: str = option(help="The cross-encoder that labels: a folder, or a name.")
    retrievers: list[str] = option(
        [], help="Models that find hard negatives, may be given several times; the start itself if none is."
    )
    negatives_per_retriever: int = option(50, help="Documents that each of them finds for a query.", least=1)
    negatives_per_query: int = option(
        2, help="How many of these are drawn and labelled for a query.", least=1
    )
    scale: float | None = option(
        None,
        help="What the model's cosine is multiplied with to be compared with the cross-encoder's scores; "
        "without, such that the margins of both spread alike.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale is not None and self.scale <= 0:
            raise ValueError(f"scale={self.scale} would teach nothing. Pass a positive number, or none.")


@dataclass(frozen=True)
class Labelled:
    """A query, its passage, another document, and how much better the first suits."""

    query: str
    positive: str
    negative: str
    margin: float


def run(config: Config) -> Report:
    """Adapt to a corpus without labels: write queries, mine negatives, label by a cross-encoder (GPL).

    Queries and passages get the model's own prompts, if it has some, in training as when it is judged.
    """
    all_judges = judges(config.dev, config.test)
    documents = read_corpus(config)
    with only_run("gpl", config) as run:
        run.measure("start", lambda: judged(load(config.model, config), all_judges))
        queries = queries_of(run, config, documents)
        mined = run.step("negatives", lambda place: mine(place, queries, documents, config), goes_on=True)
        margins = run.step("margins", lambda place: label(place, mined, documents, config), goes_on=True)
        rows = [Labelled(**row) for row in read_lines(margins / MARGINS)]

        def make() -> tuple[Any, Any, Any]:
            model = load(config.model, config)
            data = {
                "query": [row.query for row in rows],
                "positive": [documents[row.positive] for row in rows],
                "negative": [documents[row.negative] for row in rows],
                "label": [row.margin for row in rows],
            }
            return model, data, MarginMSELoss(model, similarity(model, read_json(margins / SCALE)["scale"]))

        model = trained(run, make, config=config, judge=dev_judge(all_judges), roles=ROLES)
        run.measure(
            "GPL", lambda: {**judged(model, all_judges), "queries": len(queries), "triplets": len(rows)}
        )
        return run.finish(model)


def mine(folder: Path, queries: Sequence[Written], documents: Mapping[str, str], config: Config) -> None:
    """Draw negatives for each query from what the retrievers find; one that has finished is not asked again."""
    pools: list[list[str]] = [[] for _ in queries]
    for number, name in enumerate(config.retrievers or [config.model]):
        path = folder / f"retriever-{number}.jsonl"
        if not path.is_file():
            # One more than asked for: the passage of the query is mostly among them.
            count = min(config.negatives_per_retriever + 1, len(documents))
            found = nearest_documents(load(name, config), queries, documents, count)
            write_lines(path, ({"retriever": name, "doc_ids": ids} for ids in found))
        for pool, one, row in zip(pools, queries, read_lines(path), strict=True):
            # The same text under another id would be a wrong answer that is right.
            others = [name for name in row["doc_ids"] if documents[name] != documents[one.document]]
            pool += others[: config.negatives_per_retriever]
    rows = []
    for number, (one, pool) in enumerate(zip(queries, pools, strict=True)):
        different = list(dict.fromkeys(pool))
        order = np.random.default_rng((config.seed, number)).permutation(len(different))
        drawn = [different[place] for place in order[: config.negatives_per_query]]
        rows.append({"query": one.query, "doc_id": one.document, "negatives": drawn})
    if not any(row["negatives"] for row in rows):
        raise ValueError(
            "No retriever found another document than that of the query: the corpus is too small."
        )
    write_lines(folder / NEGATIVES, rows)


def label(folder: Path, mined: Path, documents: Mapping[str, str], config: Config) -> None:
    """Let the cross-encoder say how much better each positive is than each negative."""
    from sentence_transformers.cross_encoder.model import CrossEncoder

    model = CrossEncoder(config.cross_encoder, device=config.device)
    if model.num_labels != 1:
        raise ValueError(
            f"The cross-encoder {config.cross_encoder} gives {model.num_labels} scores for a pair. Pass one that "
            "gives a single one, such as a re-ranker."
        )

    def of_shard(shard: Sequence[dict[str, Any]], start: int) -> list[dict[str, Any]]:
        named = [(row["query"], name) for row in shard for name in (row["doc_id"], *row["negatives"])]
        scores = model.predict(
            [(query, documents[name]) for query, name in named],
            activation_fn=torch.nn.Identity(),  # a sigmoid would make all clear cases alike
            show_progress_bar=False,
        )
        score = {pair: float(value) for pair, value in zip(named, scores, strict=True)}
        return [
            {
                "query": row["query"],
                "positive": row["doc_id"],
                "negative": name,
                "margin": round(score[row["query"], row["doc_id"]] - score[row["query"], name], 5),
            }
            for row in shard
            for name in row["negatives"]
        ]

    write_in_shards(
        folder / MARGINS,
        read_lines(mined / NEGATIVES),
        SHARD,
        of_shard,
        quiet=config.quiet,
        name="Labelling",
    )
    rows = [Labelled(**row) for row in read_lines(folder / MARGINS)]
    scale = config.scale if config.scale is not None else fitting_scale(rows, documents, config)
    write_json(folder / SCALE, {"scale": scale})


def fitting_scale(rows: Sequence[Labelled], documents: Mapping[str, str], config: Config) -> float:
    """The factor that makes the student's margins, before training, spread as the teacher's do."""
    model = load(config.model, config)
    if not compares_by_cosine(model):
        return 1.0
    options = {"convert_to_tensor": True, "show_progress_bar": False}
    query = model.encode_query([row.query for row in rows], **options)
    positive, negative = (
        model.encode_document([documents[name] for name in names], **options)
        for names in ([row.positive for row in rows], [row.negative for row in rows])
    )
    spread = (pairwise_cos_sim(query, positive) - pairwise_cos_sim(query, negative)).std(correction=0)
    margins = torch.tensor([row.margin for row in rows])
    return round(float(margins.std(correction=0)) / max(float(spread), 1e-6), 3) or 1.0


def similarity(model: Any, scale: float) -> Any:
    """How the student's scores are made, so that they can be compared with the teacher's."""
    if compares_by_cosine(model):
        return partial(scaled_cosine, scale=scale)
    return pairwise_dot_score


def scaled_cosine(first: Tensor, second: Tensor, *, scale: float) -> Tensor:
    """Cosine of row i of one with row i of the other, times `scale`, (B,)."""
    return scale * pairwise_cos_sim(first, second)


def compares_by_cosine(model: Any) -> bool:
    """Whether the model's vectors are compared by their direction alone."""
    return model.similarity_fn_name in (None, "cosine")
