"""Paraphrase mining: which pairs count, and real sentences. Recorded numbers: `test_recorded.py`."""

import csv
import gzip

import pytest
import torch

from sentence_transformers.evaluation import ParaphraseMiningEvaluator

ANGLES = {"a": 0.0, "b": 0.1, "c": 0.3, "d": 2.0, "e": 2.5}


class Directions:
    """A model that knows the direction in which each text points."""

    def encode(self, sentences, **options):
        angles = torch.tensor([ANGLES[text] for text in sentences])
        return torch.stack([angles.cos(), angles.sin()], dim=1)


def evaluated(**arguments):
    return ParaphraseMiningEvaluator({text: text for text in ANGLES}, **arguments)(Directions())


def test_the_metrics_are_those_of_the_pairs_best_first():
    """The pairs come in the order ab, bc, ac, de, …: the first, the third and the fourth are duplicates."""
    metrics = evaluated(duplicates_list=[("a", "b"), ("c", "a"), ("d", "e")])
    assert metrics["average_precision"] == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert metrics["f1"] == pytest.approx(2 * (3 / 4) / (3 / 4 + 1))
    assert (metrics["precision"], metrics["recall"]) == (0.75, 1.0)
    cosines = torch.tensor([0.5, 1.7]).cos()
    assert metrics["threshold"] == pytest.approx(float(cosines.mean()), abs=1e-6)


def test_duplicates_that_are_not_mined_count_as_missed():
    metrics = evaluated(duplicates_list=[("a", "b"), ("c", "e")], max_pairs=2)
    assert metrics["average_precision"] == pytest.approx(1 / 2)
    assert metrics["recall"] == pytest.approx(1 / 2)
    assert metrics["precision"] == 1.0


def test_pairs_may_come_in_dictionaries_in_one_direction():
    expected = evaluated(duplicates_list=[("a", "b"), ("a", "c")])
    assert evaluated(duplicates_dict={"a": {"b": True, "c": True, "d": False}}) == expected
    assert evaluated(duplicates_dict={"c": {"a": True}, "b": {"a": True}, "a": {"b": True}}) == expected


def test_pairs_are_counted_once_and_only_between_sentences_that_are_there():
    evaluator = ParaphraseMiningEvaluator(
        {text: text for text in ANGLES}, [("a", "b"), ("b", "a"), ("a", "a"), ("a", "unknown")]
    )
    assert evaluator.total_num_duplicates == 1


def test_the_transitive_closure_links_whole_groups():
    links = [("a", "b"), ("b", "c"), ("d", "e")]
    closed = [("a", "b"), ("a", "c"), ("b", "c"), ("d", "e")]
    assert evaluated(duplicates_list=links, add_transitive_closure=True) == evaluated(duplicates_list=closed)
    assert evaluated(duplicates_list=links) != evaluated(duplicates_list=closed)


def test_without_duplicates_everything_is_zero():
    """As in release 6.2.0; 3.4.1 divides by zero."""
    expected = dict.fromkeys(["average_precision", "f1", "precision", "recall", "threshold"], 0.0)
    assert evaluated(duplicates_list=[]) == expected
    assert evaluated(duplicates_list=[("c", "e")], max_pairs=1) == expected


def test_one_sentence_is_no_pair():
    evaluator = ParaphraseMiningEvaluator({"a": "a"}, [])
    assert evaluator(Directions())["average_precision"] == 0.0


def test_the_settings_are_told():
    evaluator = ParaphraseMiningEvaluator({"a": "a"}, [], top_k=7)
    assert evaluator.get_config_dict() == {"add_transitive_closure": False, "max_pairs": 500000, "top_k": 7}
    assert evaluator.csv_headers[2:] == ["precision", "recall", "f1", "threshold", "average_precision"]


@pytest.mark.parametrize("name", ["query_chunk_size", "corpus_chunk_size", "max_pairs", "top_k"])
def test_a_size_below_one_is_refused(name):
    with pytest.raises(ValueError, match=f"{name}=0"):
        evaluated(**{name: 0})


@pytest.mark.slow
def test_real_paraphrases_give_the_reference_s_scores(minilm, shared_data, monkeypatch):
    """The scores that the data's README names for release 6.2.0."""
    monkeypatch.setattr(minilm, "_model_card_data", None)

    def rows(name):
        with gzip.open(shared_data / "paraphrases" / name, "rt", encoding="utf-8", newline="") as file:
            return list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]

    sentences = dict(rows("mining_sentences.tsv.gz"))
    pairs = [(first, second) for first, second in rows("mining_pairs.tsv.gz")]
    metrics = ParaphraseMiningEvaluator(sentences, pairs)(minilm)
    expected = {"average_precision": 75.76, "f1": 72.65, "precision": 75.59, "recall": 69.93}
    assert {name: 100 * metrics[name] for name in expected} == pytest.approx(expected, abs=0.1)
