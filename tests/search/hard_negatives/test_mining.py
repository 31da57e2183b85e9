"""Mining from a dataset to a dataset: against brute force, form by form, and at the door."""

from __future__ import annotations

import inspect
import random
import sys

import datasets
import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from hypothesis import given, settings
from hypothesis import strategies as st

import sentence_transformers
from hard_negative_cases import TableModel, WordOverlap
from sentence_transformers import util
from sentence_transformers.search import hard_negatives
from sentence_transformers.search.hard_negatives import mining
from sentence_transformers.search.hard_negatives.embedding import Embedder

SCORES = {
    "q0": {"p0": 0.75, "p1": 0.25, "a": 0.5, "b": 0.375, "c": 0.125},
    "q1": {"p2": 0.5, "c": 0.625, "a": 0.25, "p1": 0.2, "p0": 0.0625},
}
ROWS = {"anchor": ["q0", "q1", "q0", "q0"], "positive": ["p0", "p2", "p1", "p0"]}
CORPUS = ["a", "b", "c"]


@pytest.fixture(autouse=True)
def no_progress():
    datasets.disable_progress_bars()


def mined(rows=ROWS, scores=SCORES, corpus=CORPUS, **options):
    """Columns of what is mined from a table of scores."""
    result = util.mine_hard_negatives(
        Dataset.from_dict(rows),
        TableModel.with_scores(scores),
        corpus=corpus,
        **{"verbose": False, **options},
    )
    return {name: rounded(list(result[name][:])) for name in result.column_names}


def rounded(values):
    if isinstance(values, list):
        return [rounded(value) for value in values]
    return round(values, 5) if isinstance(values, float) else values


# -- which negatives ---------------------------------------------------------------------------------------


def by_brute_force(pairs, corpus, vectors, *, wanted, range_min, range_max, max_score, margin):
    """Triplets and their scores from the full table of scores, one anchor after another."""
    texts = list(dict.fromkeys([*corpus, *(positive for _, positive in pairs)]))
    anchors = list(dict.fromkeys(anchor for anchor, _ in pairs))
    most = max(sum(pair[0] == anchor for pair in pairs) for anchor in anchors)
    triplets = []
    for anchor in anchors:
        positives = list(dict.fromkeys(positive for first, positive in pairs if first == anchor))
        score = {text: cosine(vectors[anchor], vectors[text]) for text in texts}
        ranked = sorted(
            (text for text in texts if text != anchor or text in positives), key=lambda t: -score[t]
        )
        pool = ranked[: range_max + most]
        limit = min(min(score[positive] for positive in positives) - margin, max_score)
        passing = [text for text in pool if text not in positives and score[text] <= limit]
        for positive in positives:
            for text in passing[range_min:range_max][:wanted]:
                triplets.append((anchor, positive, text, score[positive], score[text]))
    return triplets


def cosine(a, b):
    return float(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))


@st.composite
def mining_problems(draw):
    texts = [f"text {number}" for number in range(draw(st.integers(2, 25)))]
    text = st.sampled_from(texts)
    return {
        "pairs": draw(st.lists(st.tuples(text, text), min_size=1, max_size=12)),
        "corpus": draw(st.lists(text, max_size=30)),
        "seed": draw(st.integers(0, 10**6)),
        "wanted": draw(st.integers(1, 4)),
        "range_min": draw(st.integers(0, 3)),
        "more": draw(st.integers(0, 6)),
        "max_score": draw(st.sampled_from([2.0, 0.5, 0.0])),
        "margin": draw(st.sampled_from([-3.0, 0.0, 0.25])),
        "at_once": draw(st.sampled_from([1, 30, 10**6])),
        "use_faiss": draw(st.booleans()),
    }


@given(mining_problems())
@settings(max_examples=60)
def test_negatives_are_those_of_brute_force(problem):
    pytest.importorskip("faiss")
    generator = np.random.default_rng(problem["seed"])
    vectors = {f"text {number}": generator.normal(size=6) for number in range(25)}
    pairs, corpus = problem["pairs"], problem["corpus"]
    range_max = problem["range_min"] + problem["wanted"] + problem["more"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mining, "CANDIDATES_AT_ONCE", problem["at_once"])
        result = util.mine_hard_negatives(
            Dataset.from_dict({"anchor": [a for a, _ in pairs], "positive": [p for _, p in pairs]}),
            TableModel(vectors),
            corpus=corpus,
            num_negatives=problem["wanted"],
            range_min=problem["range_min"],
            range_max=range_max,
            max_score=problem["max_score"],
            absolute_margin=problem["margin"],
            output_scores=True,
            use_faiss=problem["use_faiss"],
            faiss_batch_size=3,
            verbose=False,
        )
    expected = by_brute_force(
        pairs,
        corpus,
        vectors,
        wanted=problem["wanted"],
        range_min=problem["range_min"],
        range_max=range_max,
        max_score=problem["max_score"],
        margin=problem["margin"],
    )
    found = list(zip(result["anchor"][:], result["positive"][:], result["negative"][:], strict=True))
    assert found == [triplet[:3] for triplet in expected]
    assert np.array(result["scores"][:]).reshape(-1, 2) == pytest.approx(
        np.array([triplet[3:] for triplet in expected]).reshape(-1, 2), abs=1e-5
    )


def test_all_positives_of_an_anchor_are_spared():
    result = mined(num_negatives=9)
    assert not {("q0", "p0"), ("q0", "p1"), ("q1", "p2")} & set(
        zip(result["anchor"], result["negative"], strict=True)
    )
    assert ("q1", "p0") in set(zip(result["anchor"], result["negative"], strict=True))


def test_an_anchors_own_text_is_no_negative_and_takes_no_ones_place():
    scores = {"q0": {**SCORES["q0"], "q0": 1.0}}
    one = {"anchor": ["q0"], "positive": ["p0"]}
    without = mined(one, {"q0": SCORES["q0"]}, num_negatives=2, absolute_margin=0.0, range_max=2)
    assert mined(one, scores, ["q0", *CORPUS], num_negatives=2, absolute_margin=0.0, range_max=2) == without
    included = mined(one, scores, ["q0", *CORPUS], num_negatives=2, include_positives=True)
    assert [included["negative_1"], included["negative_2"]] == [["p0"], ["a"]]


def test_an_anchor_that_is_its_own_positive_is_included_where_positives_are():
    one = {"anchor": ["q0"], "positive": ["q0"]}
    result = mined(one, {"q0": SCORES["q0"]}, num_negatives=2, include_positives=True)
    assert [result["negative_1"], result["negative_2"]] == [["q0"], ["a"]]


def test_of_texts_that_score_the_same_the_first_of_the_corpus_comes_first():
    scores = {"q0": {"p0": 0.75, **{f"d{number}": 0.5 for number in range(9)}}}
    corpus = [f"d{number}" for number in (4, 2, 8, 0)]
    result = mined({"anchor": ["q0"], "positive": ["p0"]}, scores, corpus, num_negatives=4)
    assert result["negative"] == corpus


def test_equal_texts_count_once_and_are_embedded_once():
    model = TableModel.with_scores(SCORES)
    result = util.mine_hard_negatives(
        Dataset.from_dict(ROWS), model, corpus=[*CORPUS, *CORPUS, "p0"], num_negatives=9, verbose=False
    )
    assert len(set(zip(result["anchor"], result["positive"], result["negative"], strict=True))) == len(result)
    assert [texts for _, texts, _ in model.calls] == [["a", "b", "c", "p0", "p2", "p1"], ["q0", "q1"]]


def test_margins_are_held_against_the_lowest_positive():
    both = mined(absolute_margin=0.1, num_negatives=1)
    assert dict(zip(both["anchor"], both["negative"], strict=True)) == {"q0": "c", "q1": "a"}
    one = {"rows": {"anchor": ["q1"], "positive": ["p2"]}}
    assert mined(**one, relative_margin=0.49)["negative"] == ["a", "b"]
    assert mined(**one, relative_margin=0.51)["negative"] == ["b"]
    assert mined(**one, relative_margin=0.49, absolute_margin=0.3)["negative"] == ["b"]
    assert mined(**one, max_score=0.3)["negative"] == ["a", "b"]
    assert mined(**one, min_score=0.2)["negative"] == ["c", "a"]


def test_a_relative_margin_lowers_the_limit_below_a_negative_score():
    scores = {"q": {"p": -0.5, "a": -0.25, "b": -0.5, "c": -0.75}}
    one = {"anchor": ["q"], "positive": ["p"]}
    assert mined(one, scores, relative_margin=0.5)["negative"] == ["c"]


def test_random_samples_repeat_and_differ_by_seed():
    scores = {"q": {"p": 0.1, **{f"d{number}": 0.001 * number for number in range(60)}}}
    options = {
        "rows": {"anchor": ["q"], "positive": ["p"]},
        "scores": scores,
        "corpus": [f"d{number}" for number in range(60)],
        "sampling_strategy": "random",
        "range_max": 50,
    }
    first = mined(**options)
    random.seed(5), torch.manual_seed(5)
    assert mined(**options) == first
    assert mined(**options, seed=1) != first


# -- the forms of the result -------------------------------------------------------------------------------


def test_triplets_hold_one_negative_a_row():
    assert mined(num_negatives=2, output_scores=True) == {
        "anchor": ["q0", "q0", "q0", "q0", "q1", "q1"],
        "positive": ["p0", "p0", "p1", "p1", "p2", "p2"],
        "negative": ["a", "b", "a", "b", "c", "a"],
        "scores": [[0.75, 0.5], [0.75, 0.375], [0.25, 0.5], [0.25, 0.375], [0.5, 0.625], [0.5, 0.25]],
    }


def test_tuples_hold_all_negatives_and_leave_out_anchors_with_too_few():
    result = mined(num_negatives=2, output_format="n-tuple", output_scores=True, max_score=0.25)
    assert result == {
        "anchor": ["q0", "q0", "q1"],
        "positive": ["p0", "p1", "p2"],
        "negative_1": ["c", "c", "a"],
        "negative_2": ["p2", "p2", "p1"],
        "scores": [[0.75, 0.125, 0.0], [0.25, 0.125, 0.0], [0.5, 0.25, 0.2]],
    }
    assert mined(num_negatives=3, output_format="n-tuple", max_score=0.25)["anchor"] == ["q1"]


def test_labeled_pairs_stand_anchor_by_anchor_positives_first():
    expected = {
        "anchor": ["q0", "q0", "q0", "q0", "q1", "q1", "q1"],
        "positive": ["p0", "p1", "a", "b", "p2", "c", "a"],
    }
    options = {"num_negatives": 2, "output_format": "labeled-pair"}
    assert mined(**options) == {**expected, "label": [1, 1, 0, 0, 1, 0, 0]}
    scores = [0.75, 0.25, 0.5, 0.375, 0.5, 0.625, 0.25]
    assert mined(**options, output_scores=True) == {**expected, "score": scores}


def test_labeled_lists_may_be_of_different_lengths():
    options = {"output_format": "labeled-list", "max_score": 0.25, "num_negatives": 3}
    expected = {
        "anchor": ["q0", "q0", "q1"],
        "positive": [["p0", "c", "p2"], ["p1", "c", "p2"], ["p2", "a", "p1", "p0"]],
    }
    assert mined(**options) == {**expected, "labels": [[1, 0, 0], [1, 0, 0], [1, 0, 0, 0]]}
    scores = [[0.75, 0.125, 0.0], [0.25, 0.125, 0.0], [0.5, 0.25, 0.2, 0.0625]]
    assert mined(**options, output_scores=True) == {**expected, "scores": scores}


@pytest.mark.parametrize(
    ("output_format", "left"), [("triplet", 0), ("n-tuple", 0), ("labeled-pair", 3), ("labeled-list", 0)]
)
@pytest.mark.parametrize("output_scores", [False, True])
def test_a_result_without_negatives_has_typed_columns(output_format, output_scores, left):
    options = {"output_format": output_format, "output_scores": output_scores, "verbose": False}
    model = TableModel.with_scores(SCORES)
    empty = util.mine_hard_negatives(Dataset.from_dict(ROWS), model, max_score=-0.9, **options)
    full = util.mine_hard_negatives(Dataset.from_dict(ROWS), model, num_negatives=1, **options)
    assert len(empty) == left
    assert dict(full.features).items() <= dict(empty.features).items()


def test_columns_keep_their_names_and_others_go():
    rows = {"id": [1, 2], "answer": ["p0", "p2"], "question": ["q0", "q1"]}
    names = {"anchor_column_name": "question", "positive_column_name": "answer"}
    assert list(mined(rows, **names)) == ["question", "answer", "negative"]


def test_a_column_that_is_not_named_is_the_first_that_is_free():
    rows = {"answer": ["p0", "p2"], "question": ["q0", "q1"], "other": ["", ""]}
    assert list(mined(rows, anchor_column_name="question")) == ["question", "answer", "negative"]
    swapped = {"question": rows["question"], "answer": rows["answer"], "other": rows["other"]}
    assert list(mined(swapped, positive_column_name="answer")) == ["question", "answer", "negative"]


# -- models and cross-encoders -----------------------------------------------------------------------------


def test_prompts_and_batch_size_reach_the_model():
    class Roles(TableModel):
        def encode_query(self, texts, **options):
            self.calls.append(("query", texts, options))
            return self.encode(texts, **options)

        def encode_document(self, texts, **options):
            self.calls.append(("document", texts, options))
            return self.encode(texts, **options)

    model = Roles.with_scores(SCORES)
    prompts = {"query_prompt": "q: ", "query_prompt_name": "query", "corpus_prompt": "d: "}
    util.mine_hard_negatives(Dataset.from_dict(ROWS), model, batch_size=7, verbose=False, **prompts)
    asked = {how: options for how, _, options in model.calls if how != "encode"}
    usual = {
        "batch_size": 7,
        "show_progress_bar": False,
        "convert_to_numpy": True,
        "normalize_embeddings": True,
    }
    assert asked == {
        "document": {**usual, "prompt": "d: "},
        "query": {**usual, "prompt": "q: ", "prompt_name": "query"},
    }


@pytest.mark.parametrize("devices", [True, ["cpu", "cpu"]])
def test_worker_processes_embed_and_end(devices):
    class Pooled(TableModel):
        def start_multi_process_pool(self, target_devices=None):
            self.devices = target_devices
            self.running = True
            return {"processes": []}

        def stop_multi_process_pool(self, pool):
            self.running = False

        def encode(self, texts, *, pool=None, **options):
            assert pool == {"processes": []}
            assert self.running
            return super().encode(texts, **options)

    model = Pooled.with_scores(SCORES)
    util.mine_hard_negatives(Dataset.from_dict(ROWS), model, use_multi_process=devices, verbose=False)
    assert model.devices == (None if devices is True else devices)
    assert not model.running


def test_a_cross_encoder_ranks_and_rules_out():
    rows = {"anchor": ["red green blue", "one two"], "positive": ["red green", "two"]}
    corpus = ["red", "red blue green", "green blue", "nothing of it", "one"]
    generator = np.random.default_rng(0)
    vectors = {text: generator.normal(size=4) for text in [*rows["anchor"], *rows["positive"], *corpus]}
    scorer = WordOverlap()
    result = util.mine_hard_negatives(
        Dataset.from_dict(rows),
        TableModel(vectors),
        corpus=corpus,
        cross_encoder=scorer,
        absolute_margin=0.0,
        output_scores=True,
        batch_size=5,
        verbose=False,
    )
    score = scorer.score
    expected = []
    for anchor, positive in zip(rows["anchor"], rows["positive"], strict=True):
        others = [text for text in [*corpus, *rows["positive"]] if text != positive]
        passing = [text for text in others if score(anchor, text) <= score(anchor, positive)]
        for text in sorted(passing, key=lambda text: -score(anchor, text))[:3]:
            expected.append(
                (anchor, positive, text, pytest.approx([score(anchor, positive), score(anchor, text)]))
            )
    assert list(zip(*(result[name][:] for name in result.column_names), strict=True)) == expected
    pairs = [pair for asked, _ in scorer.calls for pair in asked]
    assert len(pairs) == len(set(pairs))
    assert scorer.calls[0][1] == {"batch_size": 5, "show_progress_bar": False, "convert_to_tensor": True}


def test_a_cross_encoder_without_a_rule_about_scores_is_not_called(caplog):
    scorer = WordOverlap()
    assert mined(cross_encoder=scorer) == mined()
    assert not scorer.calls
    assert "The cross_encoder is not called" in caplog.text


def test_a_cross_encoder_with_several_labels_is_refused():
    class ThreeLabels:
        def predict(self, sentences, **options):
            return torch.zeros(len(sentences), 3)

    with pytest.raises(ValueError, match=r"scores of shape \(\d+, 3\)"):
        mined(cross_encoder=ThreeLabels(), max_score=0.5)


def test_a_model_with_several_vectors_a_text_is_refused():
    class Tokens(TableModel):
        def encode(self, texts, **options):
            return np.zeros((len(texts), 3, 2))

    with pytest.raises(ValueError, match="one vector for each text"):
        util.mine_hard_negatives(Dataset.from_dict(ROWS), Tokens({}), verbose=False)


def test_embeddings_of_a_real_model_are_kept_and_read_again(minilm, tmp_path, monkeypatch):
    rows = {"anchor": ["What flies?", "What swims?"], "positive": ["Birds fly.", "Fish swim."]}
    options = {"corpus": ["Stones lie.", "Planes fly."], "cache_folder": str(tmp_path), "verbose": False}
    first = util.mine_hard_negatives(Dataset.from_dict(rows), minilm, **options)
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(Embedder, "encode", None)
    assert util.mine_hard_negatives(Dataset.from_dict(rows), minilm, **options)[:] == first[:]
    assert first["negative"][0] == "Planes fly."


def test_a_cache_needs_a_model_with_weights(tmp_path):
    with pytest.raises(ValueError, match="cache_folder needs a model that is a torch module"):
        mined(cache_folder=str(tmp_path))


def test_faiss_searches_by_the_cosine_only():
    model = TableModel.with_scores(SCORES)
    model.similarity_fn_name = "euclidean"
    with pytest.raises(ValueError, match="similarity is 'euclidean'"):
        util.mine_hard_negatives(Dataset.from_dict(ROWS), model, use_faiss=True, verbose=False)


@pytest.mark.parametrize("package", ["faiss", "datasets"])
def test_what_is_missing_is_said_before_anything_is_embedded(package, monkeypatch):
    model = TableModel.with_scores(SCORES)
    dataset = Dataset.from_dict(ROWS)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match="pip install"):
        util.mine_hard_negatives(dataset, model, use_faiss=True, verbose=False)
    assert not model.calls


# -- older forms and the door ------------------------------------------------------------------------------


def test_arguments_up_to_verbose_may_be_given_by_place():
    older = ["dataset", "model", "anchor_column_name", "positive_column_name", "corpus", "cross_encoder"]
    older += ["range_min", "range_max", "max_score", "min_score", "margin", "num_negatives"]
    older += ["sampling_strategy", "as_triplets", "batch_size", "faiss_batch_size", "use_faiss"]
    parameters = inspect.signature(util.mine_hard_negatives).parameters.values()
    by_place = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert by_place == [*older, "use_multi_process", "verbose"]


def test_the_older_name_of_the_margin_is_taken_and_told(caplog):
    assert mined(margin=0.125) == mined(absolute_margin=0.125)
    assert "Write absolute_margin=0.125" in caplog.text


@pytest.mark.parametrize(("as_triplets", "output_format"), [(True, "triplet"), (False, "n-tuple")])
def test_the_older_form_of_the_output_format_is_taken_and_told(as_triplets, output_format, caplog):
    assert mined(as_triplets=as_triplets) == mined(output_format=output_format)
    assert f"Write output_format='{output_format}'" in caplog.text


def test_tuples_with_scores_have_an_older_form(caplog):
    assert mined(output_format="n-tuple-scores") == mined(output_format="n-tuple", output_scores=True)
    assert "older form" in caplog.text


def test_included_positives_make_tuples(caplog):
    result = mined(include_positives=True, num_negatives=3)
    assert [result[f"negative_{number}"] for number in (1, 2, 3)] == [
        ["p0", "p0", "c"],
        ["a", "a", "p2"],
        ["b", "b", "a"],
    ]
    assert "in place of 'triplet'" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": {"anchor": [], "positive": []}}, "The dataset is empty"),
        ({"rows": {"anchor": ["q0"]}}, "one of positives; these are 'anchor' and None"),
        ({"anchor_column_name": "question"}, "'question' is no column. The dataset has 'anchor', 'positive'"),
        ({"positive_column_name": "answer"}, "positive_column_name='answer' is no column"),
        ({"anchor_column_name": "positive", "positive_column_name": "positive"}, "'positive' and 'positive'"),
        ({"output_format": "pairs"}, "output_format='pairs' is not known. Pass one of 'triplet', 'n-tuple'"),
        ({"margin": 0.1, "absolute_margin": 0.2}, "mean the same thing. Pass absolute_margin alone"),
        ({"num_negatives": 0}, "num_negatives=0"),
        ({"range_min": 2, "range_max": 2}, "range_max=2 must be a whole number above range_min=2"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"faiss_batch_size": 0, "use_faiss": True}, "faiss_batch_size=0"),
        ({"rows": {"negative": ["q0"], "positive": ["p0"]}}, "Rename it first"),
        ({"rows": {"anchor": ["q0"], "labels": ["p0"]}, "output_format": "labeled-list"}, "Rename it first"),
    ],
)
def test_what_makes_no_sense_is_refused_at_the_door(options, message):
    with pytest.raises(ValueError, match=message):
        mined(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": {"anchor": ["q0", None], "positive": ["p0", "p1"]}}, "Entry 1 of column 'anchor' is None"),
        ({"rows": {"anchor": ["q0"], "positive": [["p0"]]}}, "Entry 0 of column 'positive'"),
        ({"corpus": ["a", 3]}, "Entry 1 of corpus is 3"),
        ({"corpus": "a"}, "corpus is a single text"),
    ],
)
def test_what_is_no_text_is_refused(options, message):
    with pytest.raises(TypeError, match=message):
        mined(**options)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (DatasetDict(train=Dataset.from_dict(ROWS)), "several parts. Pass one of them: 'train'"),
        (ROWS, "dataset is a dict, but must be a datasets.Dataset"),
        (Dataset.from_dict(ROWS).to_iterable_dataset(), "dataset is a IterableDataset"),
    ],
)
def test_other_datasets_are_refused(dataset, message):
    with pytest.raises(TypeError, match=message):
        util.mine_hard_negatives(dataset, TableModel.with_scores(SCORES))


def test_the_function_has_one_home_and_three_doors():
    from sentence_transformers.util.hard_negatives import mine_hard_negatives

    assert mine_hard_negatives is util.mine_hard_negatives is hard_negatives.mine_hard_negatives
    assert sentence_transformers.mine_hard_negatives is mine_hard_negatives
