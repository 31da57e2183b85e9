"""What reaches the tokenizer in training: a model that has prompts of its own is trained with them."""

from __future__ import annotations

import functools
import json

import pytest

from recipes.small_files import sentences, write_queried
from recipes.small_models import tiny_start
from recipes.smallest import SMALLEST, hyperparameter_search, peft, supervised
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Transformer
from sentence_transformers.recipes import recipe
from sentence_transformers.recipes.finetune import Config, run
from sentence_transformers.recipes.generation import read_corpus
from sentence_transformers.recipes.training import own_prompts

PROMPTS = {"query": "ask: ", "passage": "found: "}


@pytest.fixture
def prompted(tmp_path):
    """A tiny model that has prompts of its own, as its files say."""
    model = SentenceTransformer(tiny_start(tmp_path), device="cpu", prompts=PROMPTS)
    model.save_pretrained(str(tmp_path / "prompted"))
    saved = json.loads((tmp_path / "prompted/config_sentence_transformers.json").read_text(encoding="utf-8"))
    assert saved["prompts"].items() >= PROMPTS.items()
    return str(tmp_path / "prompted")


@pytest.fixture
def read(monkeypatch):
    """The token ids of all texts that were read in training."""
    found = set()
    original = Transformer.preprocess

    @functools.wraps(original)
    def preprocess(self, *arguments, **options):
        features = original(self, *arguments, **options)
        if self.training:
            rows = zip(features["input_ids"].tolist(), features["attention_mask"].tolist(), strict=True)
            found.update(tuple(token for token, kept in zip(*row, strict=True) if kept) for row in rows)
        return features

    monkeypatch.setattr(Transformer, "preprocess", preprocess)
    return found


def tokens(model, texts, prompt=""):
    """The token ids of texts behind a prompt."""
    model = SentenceTransformer(model, device="cpu")
    encoded = model.tokenizer([prompt + text for text in texts], truncation=True, max_length=16)
    return {tuple(ids) for ids in encoded["input_ids"]}


@pytest.mark.parametrize("name", ["genq", "gpl"])
def test_written_queries_and_passages_get_the_prompts_of_the_model(name, prompted, read, tmp_path):
    module = recipe(name)
    config = module.Config(**{**SMALLEST[name](tmp_path), "model": prompted, "out": tmp_path / "out"})
    report = module.run(config)
    rows = [
        json.loads(line) for line in (report.folder / "steps/queries/queries.jsonl").read_text().splitlines()
    ]
    documents = read_corpus(config)
    queries = tokens(prompted, [row["query"] for row in rows], "ask: ")
    passages = tokens(prompted, documents.values(), "found: ")
    check_read(read, queries, passages)


def check_read(read, queries, documents):
    """Nothing but queries and documents was read, and of both the most."""
    assert read <= queries | documents
    for column in (queries, documents):
        # Batches without duplicates leave out a row that suits none.
        assert len(read & column) > len(column) / 2


def asked(folder, model, **changes):
    return {**supervised(folder, write_queried(folder)), "model": model, "out": folder / "out", **changes}


def test_columns_of_queries_get_the_prompt_for_queries_and_the_others_that_for_documents(
    prompted, read, tmp_path
):
    run(Config(**asked(tmp_path, prompted, query_columns=["question"])))
    texts = sentences(24)
    questions = tokens(prompted, [text[:20] for text in texts], "ask: ")
    check_read(read, questions, tokens(prompted, texts, "found: "))


def test_texts_get_no_prompt_where_it_was_not_said_which_are_queries(prompted, read, tmp_path):
    run(Config(**asked(tmp_path, prompted)))
    texts = sentences(24)
    check_read(read, tokens(prompted, [text[:20] for text in texts]), tokens(prompted, texts))


@pytest.mark.parametrize("name", ["matryoshka", "peft", "hyperparameter-search"])
def test_other_recipes_that_learn_from_a_table_do_the_same(name, prompted, read, tmp_path):
    queried = {"model": prompted, "data": write_queried(tmp_path), "query_columns": ["question"]}
    settings = {
        "matryoshka": supervised,
        "peft": lambda folder, data: {**peft(folder), "data": data},
        "hyperparameter-search": lambda folder, data: {
            **hyperparameter_search(folder),
            "losses": [],
            "trials": 1,
        },
    }[name](tmp_path, queried["data"])
    module = recipe(name)
    module.run(module.Config(**{**settings, **queried, "out": tmp_path / "out"}))
    texts = sentences(24)
    questions = tokens(prompted, [text[:20] for text in texts], "ask: ")
    check_read(read, questions, tokens(prompted, texts, "found: "))


def test_a_column_of_queries_that_is_none_is_refused(prompted, tmp_path):
    config = Config(**asked(tmp_path, prompted, query_columns=["query"]))
    with pytest.raises(ValueError, match=r"no column of texts 'query'\. There are: question, answer"):
        run(config)
    assert not config.out.exists()


def test_prompts_of_columns_are_those_of_encode_query_and_encode_document(tmp_path):
    model = SentenceTransformer(tiny_start(tmp_path), device="cpu")
    roles = {"one": "query", "other": "document"}
    assert own_prompts(model, roles) == {}
    model.prompts = {"query": "a ", "corpus": "b ", "more": "c "}
    assert own_prompts(model, roles) == {"one": "a ", "other": "b "}
    model.prompts, model.default_prompt_name = {"more": "c "}, "more"
    assert own_prompts(model, roles) == {"one": "c ", "other": "c "}
    model.prompts = {"query": "", "more": "c "}
    assert own_prompts(model, roles) == {"other": "c "}
