"""Queries that a model writes for the passages of a corpus, which is what `genq` and `gpl` train on.

After Thakur et al. (2021), "BEIR", https://arxiv.org/abs/2104.08663, where queries are drawn by nucleus sampling.
What the model is stands in `text_writers.py`; nothing here trains.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentence_transformers.recipes.config import TrainedConfig, option
from sentence_transformers.recipes.running import Run
from sentence_transformers.recipes.shards import read_lines, write_in_shards, write_lines
from sentence_transformers.recipes.tables import read_documents, read_rows, read_texts, some_of
from sentence_transformers.recipes.text_writers import Sampling, texts_about, writer_named
from sentence_transformers.recipes.training import load
from sentence_transformers.search.retrieval import semantic_search

WRITTEN, QUERIES = "written.jsonl", "queries.jsonl"
SHARD_BATCHES = 8
"""Batches after which what was written is kept."""


@dataclass(kw_only=True)
class GeneratedConfig(TrainedConfig):
    """How queries are written."""

    corpus: Path = option(
        help="Passages: a folder with a retrieval set, lines of a .txt, or a column of a table (also .gz)."
    )
    column: str | None = option(None, help="Column of a table; `text` where there are several.")
    generator: str | None = option(
        None, help="Model that writes queries, encoder-decoder or causal: a folder, or a name."
    )
    queries: Path | None = option(
        None,
        help="Queries instead of a generator: a table with query and doc_id, such as another run has made.",
    )
    queries_per_passage: int = option(3, help="Queries written for each passage.", least=1)
    top_p: float = option(0.95, help="Draw from the likeliest tokens that have this probability.", least=0)
    temperature: float = option(
        1.0, help="Below 1 draws likelier tokens; 0 takes the likeliest, one query for each passage.", least=0
    )
    max_query_tokens: int = option(32, help="Tokens of a query at most.", least=1)
    passage_tokens: int = option(128, help="Tokens of a passage that the generator reads at most.", least=1)
    prompt: str | None = option(
        None, help="What the generator reads, with {passage} in it; a causal model needs one that suits it."
    )
    generation_batch: int = option(16, help="Passages that the generator reads at once.", least=1)
    most_passages: int = option(
        1, help="Leave out a query that was written for more passages: it says too little.", least=1
    )
    found_within: int | None = option(
        None,
        help="Keep a query only if the model finds its passage among so many; all queries without.",
        least=1,
    )
    limit: int | None = option(None, help="Take queries of only so many passages, drawn at random.", least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.generator is None) == (self.queries is None):
            raise ValueError(
                "Queries are either written by a generator or read from a table. Pass one of generator and queries."
            )
        if self.prompt is not None and "{passage}" not in self.prompt:
            raise ValueError(
                f"The prompt {self.prompt!r} has no place for the passage. Put {{passage}} in it."
            )
        if self.top_p <= 0 or self.top_p > 1:
            raise ValueError(f"top_p={self.top_p} is no share. Pass more than 0, and 1 at most.")


@dataclass(frozen=True)
class Written:
    """A query, and the passage it was written for."""

    query: str
    document: str


def read_corpus(config: GeneratedConfig) -> dict[str, str]:
    """The passages by their ids; those of a plain list are numbered.

    Raises:
        ValueError: If a table of queries names documents that are not in the corpus.
    """
    if config.corpus.is_dir():
        documents = {name: text for name, text in read_documents(config.corpus).items() if text}
    else:
        documents = {
            str(number): text for number, text in enumerate(read_texts(config.corpus, config.column))
        }
    if config.queries is not None:
        read_queries(config.queries, documents)  # refused here if they belong to another corpus
    return documents


def queries_of(run: Run, config: GeneratedConfig, documents: Mapping[str, str]) -> list[Written]:
    """The queries of a corpus, written now or by an earlier process.

    The step "queries" holds all that were written, `written.jsonl`, and those that are left, `queries.jsonl`,
    each with query and doc_id.

    Raises:
        ValueError: If a table of queries names documents that are not in the corpus, or none is left.
    """

    def work(folder: Path) -> None:
        if config.queries is not None:
            rows = read_queries(config.queries, documents)
            asked = list(dict.fromkeys(row["doc_id"] for row in rows))
            passages = set(some_of(asked, config.limit, config.seed))
            write_lines(folder / WRITTEN, [row for row in rows if row["doc_id"] in passages])
        elif not (folder / WRITTEN).is_file():
            write_queries(folder / WRITTEN, config, documents)
        found = [Written(row["query"], row["doc_id"]) for row in read_lines(folder / WRITTEN)]
        left = worth_keeping(found, config.most_passages)
        if config.found_within is not None and left:
            nearest = nearest_documents(load(config.model, config), left, documents, config.found_within)
            left = [one for one, ids in zip(left, nearest, strict=True) if one.document in ids]
        write_lines(folder / QUERIES, ({"query": one.query, "doc_id": one.document} for one in left))

    folder = run.step("queries", work, goes_on=True)
    left = [Written(row["query"], row["doc_id"]) for row in read_lines(folder / QUERIES)]
    if not left:
        raise ValueError(
            f"No query is left to train on; {folder / WRITTEN} holds what was written. Use another generator or "
            "prompt, or leave out fewer with most_passages and found_within."
        )
    return left


def read_queries(path: Path, documents: Mapping[str, str]) -> list[dict[str, str]]:
    """Queries that were written before."""
    rows = [
        {"query": str(row["query"]), "doc_id": str(row["doc_id"])}
        for row in read_rows(path, ("query", "doc_id"))
    ]
    unknown = [row["doc_id"] for row in rows if row["doc_id"] not in documents]
    if unknown:
        raise ValueError(
            f"{path} has queries for documents that the corpus does not have, such as {unknown[0]!r}. Pass the "
            "corpus they were written for."
        )
    return rows


def write_queries(path: Path, config: GeneratedConfig, documents: Mapping[str, str]) -> None:
    """Write queries for all passages, those of like length together."""
    assert config.generator is not None
    writer = writer_named(config.generator, config.device)
    names = list(documents)
    place = {name: number for number, name in enumerate(names)}
    # In the order of their length the batches need little padding.
    chosen = sorted(
        some_of(names, config.limit, config.seed), key=lambda name: (-len(documents[name]), place[name])
    )
    sampling = Sampling(
        texts=config.queries_per_passage,
        max_tokens=config.max_query_tokens,
        top_p=config.top_p,
        temperature=config.temperature,
    )

    def of_shard(shard: Sequence[str], start: int) -> list[dict[str, str]]:
        rows = []
        for first in range(0, len(shard), config.generation_batch):
            batch = shard[first : first + config.generation_batch]
            texts = texts_about(
                writer,
                [documents[name] for name in batch],
                sampling,
                passage_tokens=config.passage_tokens,
                prompt=config.prompt,
                seed=(config.seed, start + first),
            )
            for name, queries in zip(batch, texts, strict=True):
                rows += [{"query": query, "doc_id": name} for query in queries]
        return rows

    write_in_shards(
        path,
        chosen,
        SHARD_BATCHES * config.generation_batch,
        of_shard,
        quiet=config.quiet,
        order=lambda row: place[row["doc_id"]],
        name="Writing queries",
    )


def worth_keeping(queries: Sequence[Written], most_passages: int) -> list[Written]:
    """The queries without those that say nothing, or the same again, or the same of too many passages."""
    by_meaning: dict[tuple[str, str], Written] = {}
    for one in queries:
        if any(letter.isalnum() for letter in one.query):
            by_meaning.setdefault((meaning(one.query), one.document), one)
    passages = Counter(said for said, _ in by_meaning)
    return [one for (said, _), one in by_meaning.items() if passages[said] <= most_passages]


def meaning(query: str) -> str:
    """A query without case and marks, in which two may differ that ask the same."""
    return " ".join("".join(letter if letter.isalnum() else " " for letter in query.casefold()).split())


def nearest_documents(
    model: Any, queries: Sequence[Written], documents: Mapping[str, str], count: int
) -> list[list[str]]:
    """For each query the ids of the documents that a model finds for it, best first."""
    names = list(documents)
    rows = model.encode_document(list(documents.values()), convert_to_tensor=True, show_progress_bar=False)
    asked = model.encode_query(
        [one.query for one in queries], convert_to_tensor=True, show_progress_bar=False
    )
    hits = semantic_search(asked, rows, top_k=count, score_function=model.similarity)
    return [[names[int(hit["corpus_id"])] for hit in found] for found in hits]
