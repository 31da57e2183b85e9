"""The query generator: what it learns from, how its loss is counted, and that transformers loads it."""

from __future__ import annotations

import math

import pytest
import torch

from recipes.small_files import sentences, write_table
from recipes.small_models import tiny_writer
from recipes.smallest import query_generator as smallest
from sentence_transformers.recipes.query_generator import (
    NO_LABEL,
    Config,
    Pair,
    f1_of_words,
    judged,
    labels_of,
    new_writer,
    read_pairs,
    run,
    share_of_rate,
)
from sentence_transformers.recipes.tables import read_rows


def config_of(tmp_path, **changes):
    data = tmp_path / "data"
    data.mkdir(exist_ok=True)
    return Config(**{**smallest(data), "out": tmp_path / "out", **changes})


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A run that learns how all questions begin."""
    folder = tmp_path_factory.mktemp("learned")
    rows = [{"question": f"what is it {number}", "answer": text} for number, text in enumerate(sentences(44))]
    return run(
        config_of(
            folder,
            pairs=write_table(folder, "pairs", rows),
            held_out=4,
            epochs=12,
            learning_rate=3e-3,
            seed=7,
            frozen="nothing",
        )
    )


def test_transformers_loads_it_and_it_writes_what_it_learned(report):
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    model = AutoModelForSeq2SeqLM.from_pretrained(report.model_path)
    tokenizer = AutoTokenizer.from_pretrained(report.model_path)
    inputs = tokenizer([sentences(40)[3]], return_tensors="pt", return_token_type_ids=False)
    written = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    assert tokenizer.batch_decode(written, skip_special_tokens=True)[0].replace(" ", "")[:8] == "whatisit"


def test_the_report_has_the_loss_on_held_out_pairs_and_samples(report):
    rows = report.rows
    assert [row["model"] for row in rows] == ["start", "query generator"]
    for row in rows:
        assert row["held-out perplexity"] == pytest.approx(math.exp(row["held-out loss"]), rel=1e-2)
    assert report.curves["training"][-1]["loss"] < report.curves["training"][0]["loss"] / 2
    samples = read_rows(report.folder / "steps" / "samples" / "samples.jsonl", ("written", "real", "passage"))
    assert len(samples) == 4


def test_the_held_out_loss_is_the_mean_over_tokens_whatever_the_batches(tmp_path):
    config = config_of(tmp_path)
    writer, pairs = new_writer(config), read_pairs(config)[:5]
    total, tokens = 0.0, 0
    for pair in pairs:
        inputs = writer.tokenizer(
            pair.passage, truncation=True, max_length=16, return_tensors="pt", return_token_type_ids=False
        )
        labels = labels_of(writer, [pair.query], 8)
        with torch.no_grad():
            start = torch.tensor([[writer.model.config.decoder_start_token_id]])
            read = torch.cat([start, labels[:, :-1]], dim=1)
            scores = writer.model.eval()(**inputs, decoder_input_ids=read).logits.log_softmax(-1)
        total -= sum(float(scores[0, place, token]) for place, token in enumerate(labels[0]))
        tokens += labels.numel()
    assert judged(writer, pairs, config)["held-out loss"] == pytest.approx(total / tokens, abs=1e-3)


@pytest.mark.parametrize("family", ["bert", "t5"])
def test_labels_end_with_the_end_and_begin_with_the_query(family, tmp_path):
    changes = {"model": tiny_writer(tmp_path)} if family == "t5" else {}
    writer = new_writer(config_of(tmp_path, **changes))
    labels = labels_of(writer, ["a headache", "a headache and a long query"], 32)
    for row in labels.tolist():
        kept = [label for label in row if label != NO_LABEL]
        assert kept[-1] == writer.model.config.eos_token_id
        assert kept[0] != writer.model.config.decoder_start_token_id
        assert row[len(kept) :] == [NO_LABEL] * (len(row) - len(kept))


def test_pairs_are_read_once_and_by_the_names_of_their_columns(tmp_path):
    rows = [{"a": "p", "q": "x", "b": "one"}] * 2 + [{"a": "p", "q": "", "b": "two"}]
    table = write_table(tmp_path, "pairs", rows)
    assert read_pairs(config_of(tmp_path, pairs=table, query_column="q", passage_column="b")) == [
        Pair("x", "one")
    ]
    assert read_pairs(config_of(tmp_path, pairs=table))[0] == Pair("p", "x")
    with pytest.raises(ValueError, match=r"no column 'z'. It has 'a', 'q', 'b'"):
        read_pairs(config_of(tmp_path, pairs=table, query_column="z"))


def test_a_held_out_query_is_not_trained_on_with_another_passage(tmp_path):
    rows = [{"q": "the same", "p": text} for text in sentences(4)]
    with pytest.raises(ValueError, match=r"held_out=1 of 4 pairs leaves none"):
        run(config_of(tmp_path, pairs=write_table(tmp_path, "pairs", rows), held_out=1))


def test_the_learning_rate_rises_and_falls():
    shares = [share_of_rate(step, 10, 0.2) for step in range(10)]
    assert shares == pytest.approx([0.5, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])


@pytest.mark.parametrize(
    ("one", "other", "f1"),
    [("What is it?", "what IS it", 1.0), ("a b", "a c", 0.5), ("", "", 0.0), ("a a", "a", 2 / 3)],
)
def test_shared_words_are_an_f1(one, other, f1):
    assert f1_of_words(one, other) == pytest.approx(f1)
