"""Queries of a corpus: which are kept, which are refused, and that a killed process goes on."""

from __future__ import annotations

import json

import pytest

from recipes.small_files import sentences, write_lines, write_table
from recipes.small_models import tiny_start
from recipes.smallest import genq
from sentence_transformers import SentenceTransformer
from sentence_transformers.recipes import generation
from sentence_transformers.recipes.generation import (
    GeneratedConfig,
    Written,
    nearest_documents,
    queries_of,
    read_corpus,
    worth_keeping,
)
from sentence_transformers.recipes.running import Run
from sentence_transformers.recipes.shards import read_lines


def config_of(tmp_path, **changes):
    data = tmp_path / "data"
    data.mkdir(exist_ok=True)
    return GeneratedConfig(**{**genq(data), "out": tmp_path / "out", **changes})


def test_empty_and_repeated_queries_are_left_out():
    written = [
        Written("What is it?", "a"),
        Written("what is  IT", "a"),
        Written("", "a"),
        Written(" ?! ", "b"),
        Written("Who pays?", "b"),
    ]
    assert worth_keeping(written, 1) == [written[0], written[4]]


def test_a_query_of_many_passages_says_too_little():
    written = [Written("What is it?", "a"), Written("What is it", "b"), Written("Why?", "b")]
    assert worth_keeping(written, 1) == [written[2]]
    assert worth_keeping(written, 2) == written


def test_a_corpus_is_a_retrieval_set_or_lines(tmp_path):
    config = config_of(tmp_path)
    documents = read_corpus(config)
    assert documents["d3"] == sentences(20)[3]
    lines = config_of(tmp_path, corpus=write_lines(tmp_path, sentences(5)))
    assert read_corpus(lines) == {str(number): text for number, text in enumerate(sentences(5))}


def test_queries_go_on_where_a_killed_process_was_and_are_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(generation, "SHARD_BATCHES", 2)
    config = config_of(tmp_path, most_passages=20)
    documents = read_corpus(config)
    expected = queries_of(Run("genq", config), config, documents)
    assert len({one.document for one in expected}) > 3

    calls = 0
    original = generation.texts_about

    def dying(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    again = config_of(tmp_path, out=tmp_path / "again", most_passages=20)
    monkeypatch.setattr(generation, "texts_about", dying)
    with pytest.raises(KeyboardInterrupt):
        queries_of(Run("genq", again), again, documents)
    assert queries_of(Run("genq", again), again, documents) == expected
    # 20 passages in batches of 2, shards of 4; of the third shard one batch was lost.
    assert calls == 6 + 6


def test_a_limit_draws_passages(tmp_path):
    config = config_of(tmp_path, limit=3, most_passages=20)
    run = Run("genq", config)
    queries_of(run, config, read_corpus(config))
    rows = read_lines(run.folder / "steps" / "queries" / "written.jsonl")
    assert len(rows) == 3 * config.queries_per_passage
    assert len({row["doc_id"] for row in rows}) == 3


def test_queries_of_a_table_take_the_place_of_a_generator(tmp_path):
    rows = [{"query": text[:25], "doc_id": f"d{number}"} for number, text in enumerate(sentences(5))]
    config = config_of(tmp_path, generator=None, queries=write_table(tmp_path, "mine", rows))
    found = queries_of(Run("genq", config), config, read_corpus(config))
    assert [{"query": one.query, "doc_id": one.document} for one in found] == rows


def test_a_query_for_an_unknown_document_is_refused(tmp_path):
    table = write_table(tmp_path, "mine", [{"query": "What?", "doc_id": "nowhere"}])
    config = config_of(tmp_path, generator=None, queries=table)
    with pytest.raises(ValueError, match=r"does not have, such as 'nowhere'"):
        read_corpus(config)


def test_queries_that_do_not_find_their_passage_may_be_left_out(tmp_path):
    texts = sentences(5)
    rows = [{"query": texts[0], "doc_id": "d0"}, {"query": texts[1], "doc_id": "d4"}]
    config = config_of(tmp_path, generator=None, queries=write_table(tmp_path, "mine", rows), found_within=1)
    found = queries_of(Run("genq", config), config, read_corpus(config))
    assert found == [Written(texts[0], "d0")]


def test_that_none_is_left_is_said(tmp_path):
    table = write_table(tmp_path, "mine", [{"query": "?", "doc_id": "d0"}])
    config = config_of(tmp_path, generator=None, queries=table)
    with pytest.raises(ValueError, match=r"No query is left.*written\.jsonl"):
        queries_of(Run("genq", config), config, read_corpus(config))


def test_the_nearest_documents_are_those_of_brute_force(tmp_path):
    model = SentenceTransformer(tiny_start(tmp_path), device="cpu")
    documents = {f"d{number}": text for number, text in enumerate(sentences(10))}
    queries = [Written(text[:15], "d0") for text in sentences(4)]
    found = nearest_documents(model, queries, documents, 3)
    scores = model.similarity(
        model.encode([one.query for one in queries]), model.encode(list(documents.values()))
    )
    expected = [[f"d{place}" for place in row.argsort(descending=True)[:3].tolist()] for row in scores]
    assert found == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generator": None}, "one of generator and queries"),
        ({"prompt": "Ask!"}, r"no place for the passage.*\{passage\}"),
        ({"top_p": 0.0}, "top_p=0.0 is no share"),
        ({"queries_per_passage": 0}, "Pass 1 or more"),
    ],
)
def test_options_that_make_no_sense_are_refused(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        config_of(tmp_path, **changes)


def test_rows_are_kept_in_the_order_of_the_corpus(tmp_path):
    config = config_of(tmp_path)
    run = Run("genq", config)
    queries_of(run, config, read_corpus(config))
    lines = (run.folder / "steps" / "queries" / "written.jsonl").read_text(encoding="utf-8").splitlines()
    places = [int(json.loads(line)["doc_id"][1:]) for line in lines]
    assert places == sorted(places)


def test_a_limit_draws_passages_of_a_table_too(tmp_path):
    rows = [
        {"query": f"{text[:25]} {again}", "doc_id": f"d{n}"}
        for n, text in enumerate(sentences(5))
        for again in "ab"
    ]
    table = write_table(tmp_path, "mine", rows)
    config = config_of(tmp_path, generator=None, queries=table, limit=2)
    found = queries_of(Run("genq", config), config, read_corpus(config))
    assert len({one.document for one in found}) == 2
    assert len(found) == 4
