"""Mine hard negatives: the arguments, checked at the door, and the steps from a dataset to a dataset.

What each step does stands in its own file. Models, cross-encoders and datasets are known by their methods.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from tqdm.auto import tqdm

from sentence_transformers.search.hard_negatives.candidates import (
    EmbeddedTexts,
    Find,
    PairScorer,
    Rescorer,
    check_faiss,
)
from sentence_transformers.search.hard_negatives.embedding import OWN_PROMPT, Embedder, Prompt, similarity_of
from sentence_transformers.search.hard_negatives.outputs import (
    FORMATS,
    MinedNegatives,
    Written,
    added_columns,
    features_of,
)
from sentence_transformers.search.hard_negatives.report import MiningReport, ScoreStatistics
from sentence_transformers.search.hard_negatives.selection import Rules, Selection, select_negatives
from sentence_transformers.search.hard_negatives.texts import MiningTexts, texts_of
from sentence_transformers.tensors.topk import check_sizes, ranges

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

CANDIDATES_AT_ONCE = 2**22
"""Candidates of all anchors together that are kept in memory at once."""


def mine_hard_negatives(
    dataset: Dataset,
    model: Any,
    anchor_column_name: str | None = None,
    positive_column_name: str | None = None,
    corpus: list[str] | None = None,
    cross_encoder: PairScorer | None = None,
    range_min: int = 0,
    range_max: int | None = None,
    max_score: float | None = None,
    min_score: float | None = None,
    margin: float | None = None,
    num_negatives: int = 3,
    sampling_strategy: Literal["random", "top"] = "top",
    as_triplets: bool | None = None,
    batch_size: int = 32,
    faiss_batch_size: int = 16384,
    use_faiss: bool = False,
    use_multi_process: list[str] | bool = False,
    verbose: bool = True,
    *,
    absolute_margin: float | None = None,
    relative_margin: float | None = None,
    query_prompt_name: str | None = None,
    query_prompt: str | None = None,
    corpus_prompt_name: str | None = None,
    corpus_prompt: str | None = None,
    include_positives: bool = False,
    output_format: Literal["triplet", "n-tuple", "labeled-pair", "labeled-list"] = "triplet",
    output_scores: bool = False,
    cache_folder: str | None = None,
    seed: int = 0,
) -> Dataset:
    """Add negatives to (anchor, positive) pairs that the model takes for near to the anchor.

    For each anchor the nearest texts of the corpus are its candidates: `range_max` of them, and as many more as
    an anchor has positives at most, to make up for those. The positives of the anchor (all of them, where it
    stands in several rows), its own text and what breaks a rule about scores are left out. Of what is left, in
    order, those from place `range_min` to before `range_max` are open to choice. Equal texts count once, and
    are embedded once. Scores are the model's similarity of vectors of length one; the search is exact, and of
    texts that score the same the one that stands first in the corpus comes first.

    Args:
        dataset: One pair in each row.
        model: The model; its `encode_query` and `encode_document` are called, or `encode` where it has neither.
        anchor_column_name: The column of anchors; None for the first.
        positive_column_name: The column of positives; None for the second.
        corpus: Texts that negatives may be, beside all positives.
        cross_encoder: Scores candidates and positives anew for the rules about scores, which is slower and more
            exact. Called only where there is such a rule.
        range_min: How many of the nearest candidates to leave out, as they may well be positives.
        range_max: Where to stop, counted as `range_min`. None for `range_min` plus as many candidates as are
            needed: `num_negatives` (ten times as many with `max_score` or a margin) and the most positives
            that an anchor has.
        max_score: The highest score of a negative.
        min_score: The lowest score of a negative.
        margin: Older name of `absolute_margin`.
        num_negatives: How many negatives each anchor gets.
        sampling_strategy: "top" for the best of those open to choice, "random" for a random sample of them.
        as_triplets: Older form of `output_format`: True for "triplet", False for "n-tuple". Wins over it.
        batch_size: Texts of a batch at most, or pairs for the cross-encoder.
        faiss_batch_size: Anchors that faiss gets at once.
        use_faiss: Whether to search with faiss, which must be installed; also on its GPUs.
        use_multi_process: True to embed in one process for each device, or a list of devices.
        verbose: Whether to show progress, and print a report (see `MiningReport`).
        absolute_margin: By how much a negative must score lower than the lowest of the anchor's positives.
        relative_margin: The same as a share of that positive's score; with 0.05 a negative scores at most 95 %
            of it. Both margins may be given, and then both hold.
        query_prompt_name: Name of the model's prompt for anchors.
        query_prompt: A prompt for anchors.
        corpus_prompt_name: Name of the model's prompt for the corpus.
        corpus_prompt: A prompt for the corpus.
        include_positives: Whether positives may be candidates, which gives whole rankings to evaluate rerankers
            with. The result then is in the form "n-tuple". Other rules apply to positives as well.
        output_format: The columns after the two of the pair, which keep their names:
            "triplet": `negative`; one row for each negative.
            "n-tuple": `negative_1` to `negative_n`; pairs whose anchor has fewer are left out.
            "labeled-pair": the second column holds positives and negatives, `label` is 1 or 0.
            "labeled-list": the second column holds lists of one positive and its negatives, `labels` too.
        output_scores: Whether to add the scores: `scores`, a list that begins with the positive's; with labels
            `score` or `scores` in their place.
        cache_folder: Where to keep embeddings, so that mining again with the same model, prompts and texts need
            not embed. None to keep none.
        seed: Of random samples.

    Returns:
        A `datasets.Dataset`. Rows stand in the order in which their anchors first occur. `mine` gives the report
        as a value, too.

    Raises:
        ValueError: If the dataset is empty or lacks a column, or an argument makes no sense.
        TypeError: If the dataset is not of the package `datasets`, or a text is not a string.
        ImportError: If `datasets`, or faiss where it is wanted, is not installed.

    Example:
        >>> pairs = Dataset.from_dict({"question": questions, "answer": answers})
        >>> triplets = mine_hard_negatives(pairs, model, range_min=5, max_score=0.8, verbose=False)
        >>> triplets.column_names
        ['question', 'answer', 'negative']
    """
    if margin is not None:
        if absolute_margin is not None:
            raise ValueError(
                f"margin={margin} and absolute_margin={absolute_margin} mean the same thing. Pass absolute_margin alone."
            )
        logger.warning("margin is the older name of absolute_margin. Write absolute_margin=%s.", margin)
    output = OutputOptions.read(output_format, output_scores, as_triplets, include_positives)
    mined = mine(
        dataset,
        Embedder(
            model=model,
            batch_size=batch_size,
            devices=use_multi_process,
            show_progress_bar=verbose,
            cache_folder=cache_folder,
        ),
        Rules(
            num_negatives=num_negatives,
            range_min=range_min,
            range_max=range_max,
            max_score=max_score,
            min_score=min_score,
            absolute_margin=margin if margin is not None else absolute_margin,
            relative_margin=relative_margin,
            sampling_strategy=sampling_strategy,
            include_positives=include_positives,
            seed=seed,
        ),
        output,
        columns=(anchor_column_name, positive_column_name),
        corpus=corpus,
        query_prompt=Prompt(text=query_prompt, name=query_prompt_name),
        corpus_prompt=Prompt(text=corpus_prompt, name=corpus_prompt_name),
        cross_encoder=cross_encoder,
        faiss_batch_size=faiss_batch_size if use_faiss else None,
    )
    if verbose:
        print(mined.report)
    return mined.dataset


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """The form of the result, checked at the door."""

    output_format: str = "triplet"
    output_scores: bool = False

    def __post_init__(self) -> None:
        if self.output_format not in FORMATS:
            raise ValueError(
                f"output_format={self.output_format!r} is not known. Pass one of {', '.join(map(repr, FORMATS))}."
            )

    @classmethod
    def read(
        cls, output_format: str, output_scores: bool, as_triplets: bool | None, include_positives: bool
    ) -> OutputOptions:
        """From the arguments, older forms included."""
        if as_triplets is not None:
            output_format = "triplet" if as_triplets else "n-tuple"
            logger.warning(
                "as_triplets is an older form of output_format. Write output_format=%r.", output_format
            )
        if output_format == "n-tuple-scores":
            logger.warning(
                "output_format='n-tuple-scores' is an older form. Write output_format='n-tuple' and output_scores=True."
            )
            output_format, output_scores = "n-tuple", True
        options = cls(output_format=output_format, output_scores=output_scores)
        if include_positives and output_format != "n-tuple":
            logger.warning(
                "include_positives=True gives rankings, whose order only output_format='n-tuple' keeps; that is "
                "taken in place of %r.",
                output_format,
            )
            return replace(options, output_format="n-tuple")
        return options


@dataclass(frozen=True)
class Mined:
    """What came of mining."""

    dataset: Dataset
    report: MiningReport


def mine(
    dataset: Dataset,
    embedder: Embedder,
    rules: Rules,
    output: OutputOptions,
    *,
    columns: tuple[str | None, str | None] = (None, None),
    corpus: Sequence[str] | None = None,
    query_prompt: Prompt = OWN_PROMPT,
    corpus_prompt: Prompt = OWN_PROMPT,
    cross_encoder: PairScorer | None = None,
    faiss_batch_size: int | None = None,
) -> Mined:
    """`mine_hard_negatives` with its arguments in groups, and with the report as a value.

    Args:
        dataset: One pair in each row.
        embedder: How texts are embedded.
        rules: What a negative must be.
        output: The form of the result.
        columns: Names of the anchor's and the positive's column; None for the first two.
        corpus: Further texts that negatives may be.
        query_prompt: The prompt for anchors.
        corpus_prompt: The prompt for the corpus.
        cross_encoder: Scores candidates anew for the rules about scores.
        faiss_batch_size: Anchors that faiss gets at once; None to search without faiss.
    """
    check_sizes(batch_size=embedder.batch_size, faiss_batch_size=faiss_batch_size)
    if faiss_batch_size is not None:
        check_faiss(similarity_of(embedder.model))
    check_datasets()
    names = column_names(dataset, columns)
    check_added_columns(names, added_columns(output.output_format, rules.num_negatives, output.output_scores))
    texts = read_texts(dataset, names, corpus)
    rules = rules.with_range(texts.most_positives)
    embedded = embedded_texts(texts, embedder, query_prompt, corpus_prompt)
    if faiss_batch_size is not None:
        find = embedded.find_with_faiss(faiss_batch_size)
    else:
        find = embedded.find_with_top_k(embedder.device)
    rescorer = None
    if cross_encoder is not None and rules.thresholds:
        rescorer = Rescorer(cross_encoder, embedder.batch_size, embedder.show_progress_bar)
    elif cross_encoder is not None:
        logger.warning(
            "The cross_encoder is not called: it scores candidates for the rules about scores, and there are none. "
            "Pass max_score, min_score, absolute_margin or relative_margin."
        )
    mined, selections = found_negatives(
        embedded, rules, find, rescorer, show_progress_bar=embedder.show_progress_bar
    )
    written = FORMATS[output.output_format](mined, names, output.output_scores)
    return Mined(as_dataset(written, output.output_format), report_of(mined, selections, written, rules))


def found_negatives(
    embedded: EmbeddedTexts,
    rules: Rules,
    find: Find,
    rescorer: Rescorer | None,
    *,
    show_progress_bar: bool,
) -> tuple[MinedNegatives, list[Selection]]:
    """The negatives of all anchors, found for so many of them at a time as fit into memory."""
    texts = embedded.texts
    assert rules.range_max is not None
    count = rules.range_max + texts.most_positives
    generator = torch.Generator().manual_seed(rules.seed)
    positive_scores, selections = [], []
    with tqdm(total=len(texts.anchors), desc="Mining", unit="anchor", disable=not show_progress_bar) as bar:
        for anchors in ranges(len(texts.anchors), max(1, CANDIDATES_AT_ONCE // count)):
            candidates = embedded.candidates_of(anchors, count, find)
            if rescorer is None:
                of_positives = embedded.scores_of_positives(anchors)
            else:
                wanted = candidates.rows >= 0
                if not rules.include_positives:
                    wanted &= ~texts.are_positives(anchors, candidates.rows)
                candidates = rescorer.rescored(texts, anchors, candidates, wanted)
                of_positives = rescorer.scores_of_positives(texts, anchors)
            selections.append(
                select_negatives(
                    candidates,
                    texts.are_positives(anchors, candidates.rows),
                    lowest_of_each(of_positives, texts.pair_anchors[texts.pairs_of(anchors)], anchors),
                    rules,
                    generator,
                )
            )
            positive_scores.append(of_positives)
            bar.update(len(anchors))
    mined = MinedNegatives(
        texts,
        torch.cat(positive_scores),
        torch.cat([selection.rows for selection in selections]),
        torch.cat([selection.scores for selection in selections]),
    )
    return mined, selections


def lowest_of_each(scores: Tensor, pair_anchors: Tensor, anchors: range) -> Tensor:
    """The lowest score of each anchor's positives, (a,)."""
    lowest = scores.new_full((len(anchors),), torch.inf)
    return lowest.scatter_reduce(0, pair_anchors - anchors.start, scores, "amin")


def embedded_texts(
    texts: MiningTexts, embedder: Embedder, query_prompt: Prompt, corpus_prompt: Prompt
) -> EmbeddedTexts:
    with embedder.with_processes() as processes:
        corpus = processes.embed(texts.corpus, "document", corpus_prompt)
        queries = processes.embed(texts.anchors, "query", query_prompt)
    return EmbeddedTexts(texts, queries, corpus, similarity_of(embedder.model))


def column_names(dataset: Any, given: tuple[str | None, str | None]) -> tuple[str, str]:
    """The columns of anchors and positives.

    Raises:
        TypeError: If the dataset is not of the package `datasets`, or has several parts.
        ValueError: If it is empty, or there is no such column.
    """
    names = getattr(dataset, "column_names", None)
    if isinstance(names, dict):
        raise TypeError(f"The dataset has several parts. Pass one of them: {', '.join(map(repr, names))}.")
    if not isinstance(names, list) or not hasattr(dataset, "__len__"):
        raise TypeError(
            f"dataset is a {type(dataset).__name__}, but must be a datasets.Dataset. Turn dictionaries of columns into "
            "one with Dataset.from_dict(...)."
        )
    if not len(dataset):
        raise ValueError("The dataset is empty, so there is nothing to find negatives for.")
    for argument, name in zip(("anchor_column_name", "positive_column_name"), given, strict=True):
        if name is not None and name not in names:
            raise ValueError(
                f"{argument}={name!r} is no column. The dataset has {', '.join(map(repr, names))}."
            )
    free = [name for name in names if name not in given]
    chosen = [name if name is not None else free.pop(0) if free else None for name in given]
    anchor, positive = chosen
    if anchor is None or positive is None or anchor == positive:
        raise ValueError(
            f"Mining needs a column of anchors and one of positives; these are {anchor!r} and {positive!r}, and the "
            f"dataset has {', '.join(map(repr, names)) or 'no columns'}."
        )
    return anchor, positive


def check_added_columns(names: tuple[str, str], added: list[str]) -> None:
    for name in names:
        if name in added:
            raise ValueError(
                f"The column {name!r} would get the same name as one that is added. Rename it first: "
                f"dataset.rename_column({name!r}, ...)."
            )


def read_texts(dataset: Any, names: tuple[str, str], corpus: Sequence[str] | None) -> MiningTexts:
    """The texts of a dataset, numbered.

    Raises:
        TypeError: If one is not a string.
    """
    if isinstance(corpus, str):
        raise TypeError("corpus is a single text. Pass a list of texts.")
    anchors, positives = (list(dataset[name][:]) for name in names)
    corpus = None if corpus is None else list(corpus)
    for where, texts in [
        (f"column {names[0]!r}", anchors),
        (f"column {names[1]!r}", positives),
        ("corpus", corpus),
    ]:
        wrong = next((place for place, text in enumerate(texts or ()) if not isinstance(text, str)), None)
        if wrong is not None:
            raise TypeError(
                f"Entry {wrong} of {where} is {texts[wrong]!r}, and not a text. Leave such rows out: "  # type: ignore[index]
                "dataset.filter(...)."
            )
    return texts_of(anchors, positives, corpus)


def check_datasets() -> None:
    """Check that `datasets` is installed.

    Raises:
        ImportError: If it is not.
    """
    if importlib.util.find_spec("datasets") is None:
        raise ImportError("Mining hard negatives needs datasets. Install it with: pip install -U datasets")


def as_dataset(written: Written, output_format: str) -> Dataset:
    """Columns as a dataset."""
    from datasets import Dataset

    return Dataset.from_dict(written.columns, features=features_of(output_format, list(written.columns)))


def report_of(
    mined: MinedNegatives, selections: Sequence[Selection], written: Written, rules: Rules
) -> MiningReport:
    texts = mined.texts
    counts = mined.counts()
    of_positives = mined.positive_scores[written.pairs]
    of_negatives = mined.scores[texts.pair_anchors[written.negatives], written.places]
    differences = mined.positive_scores[written.negatives] - of_negatives
    scores = {"positive": of_positives, "negative": of_negatives, "difference": differences}
    return MiningReport(
        rows=texts.row_count,
        pairs=len(texts.pair_anchors),
        anchors=len(texts.anchors),
        corpus=len(texts.corpus),
        settings={**rules.places, **rules.thresholds},
        candidates=sum(selection.candidates for selection in selections),
        skipped=added_up([selection.skipped for selection in selections]),
        negatives=int(counts.sum()),
        complete=int((counts == rules.num_negatives).count_nonzero()),
        short=int(((counts > 0) & (counts < rules.num_negatives)).count_nonzero()),
        without=int((counts == 0).count_nonzero()),
        dropped=len(texts.pair_anchors) - len(written.pairs),
        written=len(next(iter(written.columns.values()))),
        scores={name: ScoreStatistics.of(values.numpy()) for name, values in scores.items()},
    )


def added_up(counts: Sequence[dict[str, int]]) -> dict[str, int]:
    """Counts by name, over all parts; all have the same names."""
    return {name: sum(part[name] for part in counts) for name in counts[0]}
