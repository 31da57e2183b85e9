"""NanoBEIR: reading sets from a local copy, names, prompts and the mean of all sets.

Names and values are those that sentence-transformers 6.2.0 printed for the same sets and embeddings of the same order.
"""

import json
import logging

import pytest
import torch

from sentence_transformers.evaluation import InformationRetrievalEvaluator, NanoBEIREvaluator

datasets = pytest.importorskip("datasets")

ROWS = {
    "corpus": [
        {"_id": "d0", "text": "cats sleep"},
        {"_id": "d1", "text": "rain falls"},
        {"_id": "d2", "text": "planes fly"},
        {"_id": "d3", "text": ""},
    ],
    "queries": [{"_id": "q1", "text": "kitten"}, {"_id": "q2", "text": "wings"}],
    "qrels": [
        {"query-id": "q1", "corpus-id": "d0"},
        {"query-id": "q2", "corpus-id": "d2"},
        {"query-id": "q2", "corpus-id": "d1"},
    ],
}
VECTORS = {"cats sleep": 0.0, "rain falls": 1.0, "planes fly": 2.0, "kitten": 0.1, "wings": 0.2}


class Directions:
    """A model that knows the direction in which each text points; it notes the prompts."""

    similarity_fn_name = "cosine"

    def __init__(self):
        self.prompts = []

    def encode(self, sentences, prompt=None, **options):
        self.prompts.append(prompt)
        angles = torch.tensor([VECTORS[text] for text in sentences])
        vectors = torch.stack([angles.cos(), angles.sin(), torch.zeros_like(angles)], dim=1)
        return vectors[:, : options.get("truncate_dim")]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own, and no progress bars."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def saved(folder, splits, parts=tuple(ROWS)):
    """A local copy in the form of the repositories on the hub."""
    lines = ["---", "configs:"]
    for part in parts:
        (folder / part).mkdir(parents=True)
        lines += [f"- config_name: {part}", "  data_files:"]
        for split in splits:
            lines += [f"  - split: {split}", f"    path: {part}/{split}.jsonl"]
            rows = "".join(json.dumps(row) + "\n" for row in ROWS[part])
            (folder / part / f"{split}.jsonl").write_text(rows, encoding="utf-8")
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]), encoding="utf-8")
    return str(folder)


@pytest.fixture
def folder(tmp_path):
    return saved(tmp_path / "NanoTiny", ["NanoMSMARCO", "NanoSciFact", "NanoOwn"])


SMALL = {"accuracy_at_k": [1], "precision_recall_at_k": [1], "ndcg_at_k": [10]}


def test_every_set_and_the_mean_are_measured_and_written(folder, tmp_path):
    evaluator = NanoBEIREvaluator(["MSMARCO", "scifact"], dataset_id=folder, truncate_dim=2, **SMALL)
    metrics = evaluator(Directions(), str(tmp_path / "out"), epoch=1, steps=7)
    expected = {
        "accuracy@1": 0.5,
        "precision@1": 0.5,
        "recall@1": 0.5,
        "ndcg@10": (1 + (1 / 1.584962500721156 + 0.5) / (1 + 1 / 1.584962500721156)) / 2,
        "mrr@10": 0.75,
        "map@100": (1 + (1 / 2 + 2 / 3) / 2) / 2,
    }
    prefixes = ("NanoMSMARCO_2_cosine_", "NanoSciFact_2_cosine_", "NanoBEIR_mean_2_cosine_")
    assert list(metrics) == [prefix + key for prefix in prefixes for key in expected]
    assert metrics == pytest.approx(
        {prefix + key: value for prefix in prefixes for key, value in expected.items()}
    )
    assert evaluator.primary_metric == "NanoBEIR_mean_2_cosine_ndcg@10"
    assert evaluator.name == "NanoBEIR_mean_2"
    files = {path.name: path.read_text().splitlines() for path in (tmp_path / "out").iterdir()}
    assert set(files) == {
        "NanoBEIR_evaluation_mean_results.csv",
        "Information-Retrieval_evaluation_NanoMSMARCO_2_results.csv",
        "Information-Retrieval_evaluation_NanoSciFact_2_results.csv",
    }
    header, row = files["NanoBEIR_evaluation_mean_results.csv"]
    assert header == (
        "epoch,steps,cosine-Accuracy@1,cosine-Precision@1,cosine-Recall@1,cosine-MRR@10,cosine-NDCG@10,cosine-MAP@100"
    )
    assert row.startswith("1,7,0.5,0.5,0.5,0.75,")


def test_texts_that_are_empty_are_no_documents(folder):
    evaluator = NanoBEIREvaluator(["msmarco"], dataset_id=folder)
    assert evaluator.evaluators[0].corpus_ids == ["d0", "d1", "d2"]


def test_another_aggregate_has_its_own_name(folder, tmp_path):
    evaluator = NanoBEIREvaluator(["msmarco"], dataset_id=folder, aggregate_fn=max, aggregate_key="max")
    metrics = evaluator(Directions(), str(tmp_path / "out"))
    assert evaluator.primary_metric == "NanoBEIR_max_cosine_ndcg@10"
    assert evaluator.primary_metric in metrics
    assert (tmp_path / "out" / "NanoBEIR_evaluation_max_results.csv").is_file()


def test_a_folder_for_each_set_is_read_too(tmp_path):
    saved(tmp_path / "sets" / "NanoSciFact", ["train"])
    evaluator = NanoBEIREvaluator(["scifact"], dataset_id=str(tmp_path / "sets"))
    assert evaluator(Directions())["NanoSciFact_cosine_mrr@10"] == pytest.approx(0.75)


def test_sets_of_other_names_and_full_names_are_found(folder):
    evaluator = NanoBEIREvaluator(["Own", "NanoMSMARCO"], dataset_id=folder)
    assert [part.name for part in evaluator.evaluators] == ["NanoOwn", "NanoMSMARCO"]


def test_prompts_hold_for_all_sets_or_for_each(folder):
    model = Directions()
    evaluator = NanoBEIREvaluator(
        ["msmarco", "SciFact"],
        dataset_id=folder,
        query_prompts={"MSMARCO": "m: ", "scifact": "s: "},
        corpus_prompts="d: ",
    )
    evaluator(model)
    assert model.prompts == ["m: ", "d: ", "s: ", "d: "]
    assert evaluator.get_config_dict() == {
        "dataset_names": ["msmarco", "SciFact"],
        "dataset_id": folder,
        "query_prompts": {"msmarco": "m: ", "SciFact": "s: "},
        "corpus_prompts": {"msmarco": "d: ", "SciFact": "d: "},
    }


def test_rankings_of_every_set_are_written_if_asked_for(folder, tmp_path):
    NanoBEIREvaluator(["msmarco"], dataset_id=folder, write_predictions=True)(
        Directions(), str(tmp_path / "out")
    )
    assert (
        tmp_path / "out" / "Information-Retrieval_evaluation_NanoMSMARCO_predictions_cosine.jsonl"
    ).is_file()


def test_subclasses_choose_what_evaluates_each_set(folder):
    class Noted(InformationRetrievalEvaluator):
        pass

    class Own(NanoBEIREvaluator):
        information_retrieval_class = Noted

    assert type(Own(["msmarco"], dataset_id=folder).evaluators[0]) is Noted


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset_names": []}, "dataset_names is empty"),
        ({"dataset_names": ["blah"]}, "NanoBEIR has no set 'blah'. It has: climatefever, dbpedia"),
        ({"dataset_names": ["nq"], "query_prompts": {"msmarco": "x"}}, "query_prompts has no prompt for nq"),
        (
            {"dataset_names": ["nq"], "corpus_prompts": {"msmarco": "x"}},
            "corpus_prompts has no prompt for nq",
        ),
    ],
)
def test_a_mistake_is_told_before_anything_is_loaded(arguments, message):
    with pytest.raises(ValueError, match=message):
        NanoBEIREvaluator(**arguments)


def test_a_set_that_is_not_there_is_named(folder):
    with pytest.raises(ValueError, match=r"split 'NanoNQ' of 'qrels' could not be loaded from .*NanoTiny"):
        NanoBEIREvaluator(["nq"], dataset_id=folder)


def test_without_a_network_the_error_says_what_to_do(caplog):
    with (
        caplog.at_level(logging.ERROR),
        pytest.raises(ValueError, match=r"NanoBEIR-en'.*Without a network, pass the path of a local copy"),
    ):
        NanoBEIREvaluator(["msmarco"])


def test_a_missing_column_is_named(tmp_path):
    folder = saved(tmp_path / "NanoTiny", ["NanoMSMARCO"])
    (tmp_path / "NanoTiny" / "queries" / "NanoMSMARCO.jsonl").write_text('{"id": "q1", "text": "x"}\n')
    with pytest.raises(ValueError, match=r"'queries' in .* has the columns id, text, and lacks _id"):
        NanoBEIREvaluator(["msmarco"], dataset_id=folder)
