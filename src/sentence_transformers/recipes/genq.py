"""GenQ: queries are written for the passages of a corpus, and a model learns to find the passage of each.

Thakur, Reimers, Rücklé, Srivastava, Gurevych (2021), "BEIR: A Heterogeneous Benchmark for Zero-shot Evaluation of
Information Retrieval Models", https://arxiv.org/abs/2104.08663. How queries are written stands in `generation.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sentence_transformers.losses.multiple_negatives_ranking import MultipleNegativesRankingLoss
from sentence_transformers.recipes.generation import GeneratedConfig, queries_of, read_corpus
from sentence_transformers.recipes.judging import dev_judge, judged, judges
from sentence_transformers.recipes.report import Report
from sentence_transformers.recipes.running import only_run
from sentence_transformers.recipes.training import load, trained
from sentence_transformers.training.batch_samplers import BatchSamplers


@dataclass(kw_only=True)
class Config(GeneratedConfig):
    """What GenQ is told."""


def run(config: Config) -> Report:
    """Adapt to a corpus without labels: write queries for its passages, and train on both (GenQ).

    Queries and passages get the model's own prompts, if it has some, in training as when it is judged.
    """
    all_judges = judges(config.dev, config.test)
    documents = read_corpus(config)
    with only_run("genq", config) as run:
        run.measure("start", lambda: judged(load(config.model, config), all_judges))
        queries = queries_of(run, config, documents)

        def make() -> tuple[Any, Any, Any]:
            model = load(config.model, config)
            data = {
                "query": [one.query for one in queries],
                "passage": [documents[one.document] for one in queries],
            }
            return model, data, MultipleNegativesRankingLoss(model)

        model = trained(
            run,
            make,
            config=config,
            judge=dev_judge(all_judges),
            roles={"query": "query", "passage": "document"},
            # Each passage has several queries; beside each other, one would be a wrong answer to the other.
            arguments={"batch_sampler": BatchSamplers.NO_DUPLICATES},
        )
        run.measure("GenQ", lambda: {**judged(model, all_judges), "queries": len(queries)})
        return run.finish(model)
