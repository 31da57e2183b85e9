"""Augmented SBERT: a cross-encoder labels more pairs, and a bi-encoder learns from them.

Thakur, Reimers, Daxenberger, Gurevych (2021), "Augmented SBERT: Data Augmentation Method for Improving Bi-Encoders
for Pairwise Sentence Scoring Tasks", https://arxiv.org/abs/2010.08240. A cross-encoder needs fewer examples for the
same quality, but is slow to use. Where there are few labelled pairs ("gold"), more are put together from their
texts, labelled by a cross-encoder ("silver"), and learned from together with the gold. Where the gold is of another
domain, pairs of one's own are labelled and learned from alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sentence_transformers.recipes.config import option
from sentence_transformers.recipes.judging import Judge, dev_judge, judged, judges
from sentence_transformers.recipes.neighbours import Pair, different, pairs_by_meaning, pairs_by_words
from sentence_transformers.recipes.report import Report
from sentence_transformers.recipes.running import only_run
from sentence_transformers.recipes.shards import read_lines, write_in_shards, write_lines
from sentence_transformers.recipes.supervised import (
    LABEL,
    LOSSES,
    SCORE,
    TableConfig,
    examples_of,
    text_columns,
)
from sentence_transformers.recipes.tables import read_rows, read_texts, some_of
from sentence_transformers.recipes.training import load, trained

PAIRS, SILVER = "pairs.jsonl", "silver.jsonl"
SHARD = 4096
"""Pairs that are labelled between two writings."""


@dataclass(kw_only=True)
class Config(TableConfig):
    """What Augmented SBERT is told."""

    data: Path = option(help="The gold: a table of pairs with a score, or with a label 0 or 1.")
    scenario: Literal["in-domain", "cross-domain"] = option(
        "in-domain", help="Whether the gold is of the domain that counts, or of another one."
    )
    pairs: Path | None = option(None, help="Pairs to label, instead of pairs put together: a table.")
    texts: Path | None = option(
        None, help="Texts to put pairs together from; those of the gold if it is of the domain."
    )
    column: str | None = option(None, help="Column of the texts, where they are a table.")
    sampling: Literal["bm25", "semantic", "both"] = option(
        "bm25", help="Texts become pairs by their words, by the embeddings of the start, or in both ways."
    )
    top_k: int = option(3, help="How many others each text is put together with, in each way.", least=1)
    silver_limit: int | None = option(None, help="Label only so many pairs, drawn at random.", least=1)
    cross_encoder: str | None = option(
        None, help="Checkpoint the cross-encoder starts from; that of the model if none is given."
    )
    cross_encoder_epochs: float = option(2.0, help="Its passes over the gold.")
    cross_encoder_learning_rate: float = option(5e-5, help="Its highest learning rate.", least=0)
    loss: Literal["cosent", "cosine", "angle"] = option(
        "cosent", help="What the bi-encoder learns scores with."
    )
    plain: bool = option(False, help="Train a bi-encoder on the gold alone as well, to compare.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scenario == "cross-domain" and self.pairs is None and self.texts is None:
            raise ValueError("Across domains there must be something to label. Pass pairs or texts of yours.")
        if self.pairs is not None and self.texts is not None:
            raise ValueError(
                "Pairs that are given are labelled as they are, so texts would not be used. Pass one of them."
            )
        if self.cross_encoder_epochs <= 0:
            raise ValueError(
                f"cross_encoder_epochs={self.cross_encoder_epochs} trains nothing. Pass a positive number."
            )


def run(config: Config) -> Report:
    """Let a cross-encoder label more pairs for a bi-encoder to learn from (Augmented SBERT)."""
    gold = gold_of(config)
    all_judges = judges(config.dev, config.test)
    with only_run("augmented-sbert", config) as run:
        start = load(config.model, config)
        run.measure("start", lambda: judged(start, all_judges))

        def sample(folder: Path) -> None:
            pairs = some_of(candidates(config, gold, start), config.silver_limit, config.seed)
            if not pairs:
                raise ValueError(
                    "There are no pairs to label, but for those of the gold. Pass further texts, other pairs, or a larger "
                    "top_k."
                )
            write_lines(folder / PAIRS, [{"sentence1": one, "sentence2": other} for one, other in pairs])

        pairs = run.step("pairs", sample) / PAIRS
        teacher = trained(
            run,
            lambda: cross_encoder_lesson(config, gold),
            config=teachers_config(config),
            name="cross-encoder",
            kind="CrossEncoder",
        )
        run.measure("cross-encoder", lambda: {**cross_figures(teacher, all_judges), "gold pairs": len(gold)})

        def label(folder: Path) -> None:
            def scored(rows: Sequence[Mapping[str, Any]], place: int) -> list[dict[str, Any]]:
                both = [(row["sentence1"], row["sentence2"]) for row in rows]
                scores = teacher.predict(both, show_progress_bar=False)
                return [{**row, SCORE: float(score)} for row, score in zip(rows, scores, strict=True)]

            write_in_shards(
                folder / SILVER, read_lines(pairs), SHARD, scored, quiet=config.quiet, name="Labelling"
            )

        silver = read_lines(run.step("silver", label, goes_on=True) / SILVER)

        def student(name: str, rows: Sequence[Mapping[str, Any]]) -> Any:
            def make() -> tuple[Any, Any, Any]:
                model = load(config.model, config)
                columns = {key: [row[key] for row in rows] for key in ("sentence1", "sentence2", SCORE)}
                return model, columns, LOSSES[config.loss].make(model)

            return trained(run, make, config=config, name=name, judge=dev_judge(all_judges))

        if config.plain:
            plain = student("gold alone", gold)
            run.measure("gold alone", lambda: {**judged(plain, all_judges), "gold pairs": len(gold)})
        is_own = config.scenario == "in-domain"
        model = student("training", [*gold, *silver] if is_own else silver)
        counts = {"gold pairs": len(gold) if is_own else 0, "silver pairs": len(silver)}
        run.measure(
            "gold and silver" if is_own else "silver", lambda: {**judged(model, all_judges), **counts}
        )
        return run.finish(model)


def gold_of(config: Config) -> list[dict[str, Any]]:
    """The gold: sentence1, sentence2, and a score from 0 to 1.

    Raises:
        ValueError: If the table holds something else.
    """
    found = examples_of(config)
    if found.kind not in ("scored pairs", "judged pairs"):
        raise ValueError(
            f"The gold must be pairs with a score, or with a label 0 or 1; {config.data} holds {found.kind}."
        )
    ones, others = (found.columns[name] for name in found.text_columns)
    scores = found.columns.get(SCORE) or found.columns[LABEL]
    return [
        {"sentence1": one, "sentence2": other, SCORE: float(score)}
        for one, other, score in zip(ones, others, scores, strict=True)
    ]


def teachers_config(config: Config) -> Config:
    """How the cross-encoder is trained."""
    return dataclasses.replace(
        config,
        epochs=config.cross_encoder_epochs,
        learning_rate=config.cross_encoder_learning_rate,
        keep_best=False,
    )


def cross_encoder_lesson(config: Config, gold: Sequence[Mapping[str, Any]]) -> tuple[Any, Any, Any]:
    """A cross-encoder to train, the gold, and the loss."""
    from sentence_transformers.cross_encoder.losses.pointwise import BinaryCrossEntropyLoss
    from sentence_transformers.cross_encoder.model import CrossEncoder

    teacher = CrossEncoder(
        config.cross_encoder or config.model,
        num_labels=1,
        # It reads two texts at a time.
        max_length=None if config.max_length is None else 2 * config.max_length,
        device=config.device,
    )
    columns = {key: [row[key] for row in gold] for key in ("sentence1", "sentence2", SCORE)}
    return teacher, columns, BinaryCrossEntropyLoss(teacher)


def candidates(config: Config, gold: Sequence[Mapping[str, Any]], start: Any) -> list[Pair]:
    """The pairs to label: those that are given, or put together from texts; none that is in the gold."""
    known = [(row["sentence1"], row["sentence2"]) for row in gold] if config.scenario == "in-domain" else []
    if config.pairs is not None:
        rows = read_rows(config.pairs)
        names = [name for name in rows[0] if name not in (SCORE, LABEL)]
        columns = text_columns(names, config.pairs)[:2]
        if len(columns) < 2:
            raise ValueError(f"{config.pairs} has one column of texts, {columns[0]!r}, and so no pairs.")
        one, other = columns
        return different([(row[one], row[other]) for row in rows if row[one] and row[other]], known)
    texts = read_texts(config.texts, config.column) if config.texts is not None else []
    if config.scenario == "in-domain":
        texts = list(dict.fromkeys([text for pair in known for text in pair] + texts))
    found: list[Pair] = []
    if config.sampling in ("bm25", "both"):
        found += pairs_by_words(texts, config.top_k)
    if config.sampling in ("semantic", "both"):
        found += pairs_by_meaning(start, texts, config.top_k, quiet=config.quiet)
    return different(found, known)


def cross_figures(teacher: Any, all_judges: Sequence[Judge]) -> dict[str, float]:
    """The cross-encoder's own figures on tables of scored or labelled pairs; it is not judged on retrieval sets."""
    from sentence_transformers.cross_encoder.evaluation.classification import (
        CrossEncoderClassificationEvaluator,
    )
    from sentence_transformers.cross_encoder.evaluation.correlation import CrossEncoderCorrelationEvaluator
    from sentence_transformers.evaluation.binary_classification import BinaryClassificationEvaluator
    from sentence_transformers.evaluation.embedding_similarity import EmbeddingSimilarityEvaluator

    found = {}
    for judge in all_judges:
        known = judge.evaluator
        kind: Any
        right: Any
        if isinstance(known, EmbeddingSimilarityEvaluator):
            kind, right, metric = CrossEncoderCorrelationEvaluator, known.scores, "spearman"
        elif isinstance(known, BinaryClassificationEvaluator):
            kind, right, metric = CrossEncoderClassificationEvaluator, known.labels, "average_precision"
        else:
            continue
        both = list(zip(known.sentences1, known.sentences2, strict=True))
        evaluator = kind(both, right, name=judge.name, show_progress_bar=False, write_csv=False)
        found[judge.label] = round(100 * float(evaluator(teacher)[f"{judge.name}_{metric}"]), 2)
    return found
