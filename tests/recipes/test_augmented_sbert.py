"""Augmented SBERT: which pairs become silver, and who learns from what."""

from __future__ import annotations

import pytest
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score

from recipes.small_files import write_classed, write_pairs, write_table
from recipes.smallest import augmented_across, augmented_in_domain
from sentence_transformers import CrossEncoder
from sentence_transformers.recipes.augmented_sbert import Config, candidates, cross_figures, gold_of, run
from sentence_transformers.recipes.judging import Judge
from sentence_transformers.recipes.shards import read_lines


def test_silver_holds_other_pairs_than_the_gold_with_the_cross_encoders_scores(tmp_path):
    config = Config(**augmented_in_domain(tmp_path), out=tmp_path / "out")
    report = run(config)
    gold = {frozenset((row["sentence1"], row["sentence2"])) for row in gold_of(config)}
    silver = read_lines(tmp_path / "out/steps/silver/silver.jsonl")
    assert silver
    assert not gold & {frozenset((row["sentence1"], row["sentence2"])) for row in silver}
    teacher = CrossEncoder(str(tmp_path / "out/steps/cross-encoder/model"), device="cpu")
    scores = teacher.predict([(row["sentence1"], row["sentence2"]) for row in silver])
    assert [row["score"] for row in silver] == pytest.approx(scores.tolist(), abs=1e-5)
    row = report.row("gold and silver")
    assert (row["gold pairs"], row["silver pairs"]) == (12, len(silver))


def test_across_domains_the_given_pairs_are_labelled_and_the_gold_is_left_out(tmp_path):
    asked = augmented_across(tmp_path)
    report = run(Config(**asked, out=tmp_path / "out"))
    given = {(row["anchor"], row["positive"]) for row in read_lines(asked["pairs"])}
    silver = read_lines(tmp_path / "out/steps/silver/silver.jsonl")
    assert {(row["sentence1"], row["sentence2"]) for row in silver} < given
    assert len(silver) == 12
    assert (report.row("silver")["gold pairs"], report.row("silver")["silver pairs"]) == (0, 12)


def test_the_cross_encoder_is_judged_by_scores_and_by_labels(tmp_path):
    pairs = [("a cat", "one cat", 0.9, 1), ("a cat", "no dog", 0.2, 0), ("it rains", "rain falls", 0.8, 1)]
    for name, column, place in (("scored", "score", 2), ("labelled", "label", 3)):
        rows = [{"sentence1": pair[0], "sentence2": pair[1], column: str(pair[place])} for pair in pairs]
        write_table(tmp_path / name, "test", rows)
    run(Config(**augmented_in_domain(tmp_path), out=tmp_path / "out"))
    teacher = CrossEncoder(str(tmp_path / "out/steps/cross-encoder/model"), device="cpu")
    judges = [Judge(path, "test") for path in sorted(tmp_path.glob("*ed/test.*"))]
    scores = teacher.predict([pair[:2] for pair in pairs])
    expected = {
        "labelled test AP": 100 * average_precision_score([1, 0, 1], scores),
        "scored test Spearman": 100 * spearmanr([0.9, 0.2, 0.8], scores).statistic,
    }
    assert cross_figures(teacher, judges) == pytest.approx(expected, abs=0.01)


def test_further_texts_are_put_together_too(tmp_path):
    asked = {**augmented_in_domain(tmp_path), "sampling": "bm25"}
    texts = tmp_path / "further.txt"
    texts.write_text("zebras graze\ngraze zebras graze\n", encoding="utf-8")
    config = Config(**asked, texts=texts, out=tmp_path / "out")
    assert ("zebras graze", "graze zebras graze") in candidates(config, gold_of(config), None)


def test_gold_scores_lie_between_0_and_1(tmp_path):
    config = Config(**augmented_in_domain(tmp_path), out=tmp_path / "out")
    scores = [row["score"] for row in gold_of(config)]
    assert (min(scores), max(scores)) == (0, 1)
    table = write_table(
        tmp_path,
        "judged",
        [{"one": "a", "other": "b", "label": "1"}, {"one": "c", "other": "d", "label": "0"}],
    )
    config = Config(data=table, out=tmp_path / "out")
    assert [row["score"] for row in gold_of(config)] == [1.0, 0.0]


def test_what_cannot_be_gold_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds classed texts"):
        gold_of(Config(data=write_classed(tmp_path), out=tmp_path / "out"))
    with pytest.raises(ValueError, match="Pass pairs or texts of yours"):
        Config(data=write_pairs(tmp_path), scenario="cross-domain", out=tmp_path / "out")


def test_that_there_is_nothing_to_label_is_said_before_the_cross_encoder_is_trained(tmp_path):
    table = write_table(
        tmp_path,
        "gold",
        [{"one": "a b", "other": "b a", "score": 1}, {"one": "a b", "other": "c", "score": 0}],
    )
    asked = {**augmented_in_domain(tmp_path), "data": table, "sampling": "bm25"}
    with pytest.raises(ValueError, match="no pairs to label"):
        run(Config(**asked, out=tmp_path / "out"))
    assert not list((tmp_path / "out/steps").glob("cross-encoder*"))


def test_settings_that_make_no_sense_are_refused(tmp_path):
    asked = {**augmented_across(tmp_path), "out": tmp_path / "out"}
    with pytest.raises(ValueError, match="texts would not be used"):
        Config(**{**asked, "texts": asked["pairs"]})
    with pytest.raises(ValueError, match="cross_encoder_epochs=0 trains nothing"):
        Config(**{**asked, "cross_encoder_epochs": 0})
    one_column = write_table(tmp_path, "alone", [{"text": "a"}])
    config = Config(**{**asked, "pairs": one_column})
    with pytest.raises(ValueError, match="one column of texts, 'text', and so no pairs"):
        candidates(config, gold_of(config), None)
