"""Which loss a table is learned with."""

from __future__ import annotations

import pytest

from recipes.small_files import write_table
from recipes.small_models import tiny_start
from sentence_transformers import SentenceTransformer
from sentence_transformers.losses import (
    BatchHardSoftMarginTripletLoss,
    CachedMultipleNegativesRankingLoss,
    CoSENTLoss,
    MultipleNegativesRankingLoss,
    OnlineContrastiveLoss,
    SoftmaxLoss,
    TripletLoss,
)
from sentence_transformers.recipes.finetune import Config
from sentence_transformers.recipes.supervised import LOSSES, USUAL, lesson_of

SCORED = {"sentence1": "a b", "sentence2": "b c", "score": 2.5}
CASES = {
    "scored pairs": ([SCORED, {**SCORED, "score": 5}], CoSENTLoss),
    "pairs": ([{"anchor": "a", "positive": "b"}], MultipleNegativesRankingLoss),
    "triplets": (
        [{"anchor": "a", "positive": "b", "negative": "c", "negative_2": "d"}],
        MultipleNegativesRankingLoss,
    ),
    "judged pairs": (
        [{"question1": "a", "question2": "b", "label": label} for label in (0, 1)],
        OnlineContrastiveLoss,
    ),
    "classed pairs": (
        [{"premise": "a", "hypothesis": "b", "label": label} for label in ("yes", "no", "maybe")],
        SoftmaxLoss,
    ),
    "classed texts": (
        [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}],
        BatchHardSoftMarginTripletLoss,
    ),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return SentenceTransformer(tiny_start(tmp_path_factory.mktemp("model")), device="cpu")


def lesson(folder, rows, **options):
    return lesson_of(Config(data=write_table(folder, "data", rows), out=folder / "out", **options))


@pytest.mark.parametrize("kind", CASES)
def test_the_loss_follows_from_the_table(kind, tmp_path, model):
    rows, loss = CASES[kind]
    found = lesson(tmp_path, rows)
    assert found.kind == kind
    assert type(found.loss(model)) is loss


def test_every_kind_of_table_has_a_loss_that_takes_it():
    assert set(USUAL) == set(CASES)
    assert all(kind in LOSSES[loss].kinds for kind, loss in USUAL.items())


def test_scores_above_one_become_shares_of_the_highest(tmp_path):
    assert lesson(tmp_path, CASES["scored pairs"][0]).columns["score"] == [0.5, 1.0]


def test_labels_become_numbers_in_the_order_of_their_names(tmp_path):
    assert lesson(tmp_path, CASES["classed pairs"][0]).columns["label"] == [2, 1, 0]


def test_only_columns_that_are_texts_are_learned_from(tmp_path):
    rows = [{"question": "a", "answer": "b", "type": "c", "source": "d"}]
    assert lesson(tmp_path, rows).columns == {"question": ["a"], "answer": ["b"]}
    assert lesson(tmp_path, rows, columns=["type", "answer"]).columns == {"type": ["c"], "answer": ["b"]}


def test_a_named_loss_is_taken(tmp_path, model):
    rows = CASES["triplets"][0]
    rows = [{name: text for name, text in rows[0].items() if name != "negative_2"}]
    assert type(lesson(tmp_path, rows, loss="triplet").loss(model)) is TripletLoss
    cached = lesson(tmp_path, rows, mini_batch_size=3).loss(model)
    assert type(cached) is CachedMultipleNegativesRankingLoss
    assert cached.mini_batch_size == 3


def test_rows_with_a_missing_text_are_left_out(tmp_path):
    rows = [{"anchor": "a", "positive": "b"}, {"anchor": "", "positive": "c"}]
    assert lesson(tmp_path, rows).columns["anchor"] == ["a"]


def test_a_label_with_fractions_is_a_score(tmp_path):
    rows = [{"one": "a", "other": "b", "likeness": value} for value in (0.25, 1)]
    assert lesson(tmp_path, rows, label="likeness").columns["score"] == [0.25, 1.0]


def test_what_cannot_be_learned_from_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'cosent' does not take pairs.*Pass ranking"):
        lesson(tmp_path, CASES["pairs"][0], loss="cosent")
    with pytest.raises(ValueError, match=r"Cannot tell which columns.*--columns"):
        lesson(tmp_path, [{"a": "1", "b": "2", "c": "3", "d": "4"}])
    with pytest.raises(ValueError, match="1 column of texts and no score"):
        lesson(tmp_path, [{"text": "alone"}])
    with pytest.raises(ValueError, match=r"mini_batch_size=3 belongs to the loss 'ranking'.*'triplet'"):
        lesson(tmp_path, CASES["triplets"][0], loss="triplet", mini_batch_size=3)
    with pytest.raises(ValueError, match="There is no loss 'cosines'"):
        lesson(tmp_path, CASES["pairs"][0], loss="cosines")


@pytest.mark.parametrize("labels", [(0, 1), (0.0, 1.0), ("1.0", "0.0"), (True, False)])
def test_zeros_and_ones_are_judgements_however_they_are_written(tmp_path, labels):
    found = lesson(tmp_path, [{"one": "a", "other": "b", "label": label} for label in labels])
    assert found.kind == "judged pairs"
    assert found.columns["label"] == [int(float(label)) for label in labels]


def test_rows_without_a_label_are_left_out(tmp_path):
    rows = [{"text": "a", "label": "x"}, {"text": "b", "label": ""}, {"text": "c", "label": None}]
    assert lesson(tmp_path, rows).columns["text"] == ["a"]
    with pytest.raises(ValueError, match=r"No row of .* each of 'text', 'label'"):
        lesson(tmp_path, rows[1:])
