"""NanoBEIR for rerankers: reading what BM25 found from a local copy, names, and the mean of all sets."""

from __future__ import annotations

import json

import pytest

from sentence_transformers.cross_encoder.evaluation import CrossEncoderNanoBEIREvaluator

datasets = pytest.importorskip("datasets")

ROWS = {
    "corpus": [
        {"_id": "d0", "text": ".7 cats sleep"},
        {"_id": "d1", "text": ".5 rain falls"},
        {"_id": "d2", "text": ".2 planes fly"},
        {"_id": "d3", "text": ""},
    ],
    "queries": [{"_id": "q1", "text": "kitten"}, {"_id": "q2", "text": "wings"}],
    "qrels": [
        {"query-id": "q1", "corpus-id": "d0"},
        {"query-id": "q2", "corpus-id": "d2"},
    ],
    "bm25": [
        {"query-id": "q1", "corpus-ids": ["d1", "d3", "d0", "d2"]},
        {"query-id": "q2", "corpus-ids": ["d1", "d0", "d2"]},
    ],
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own, and no progress bars."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


@pytest.fixture
def folder(tmp_path):
    """A local copy of two sets in the form of the repositories on the hub."""
    place, lines = tmp_path / "NanoTiny", ["---", "configs:"]
    for part, rows in ROWS.items():
        (place / part).mkdir(parents=True)
        lines += [f"- config_name: {part}", "  data_files:"]
        for split in ("NanoMSMARCO", "NanoSciFact"):
            lines += [f"  - split: {split}", f"    path: {part}/{split}.jsonl"]
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (place / part / f"{split}.jsonl").write_text(text, encoding="utf-8")
    (place / "README.md").write_text("\n".join([*lines, "---", ""]), encoding="utf-8")
    return str(place)


def test_every_set_and_the_mean_are_measured_and_written(folder, numbers, tmp_path):
    """The relevant document of q1 is put first, that of q2 third; BM25 has them at 2 and 3."""
    evaluator = CrossEncoderNanoBEIREvaluator(["MSMARCO", "scifact"], dataset_id=folder)
    metrics = evaluator(numbers(), str(tmp_path / "out"), epoch=1, steps=7)
    expected = {
        "map": (1 + 1 / 3) / 2,
        "mrr@10": (1 + 1 / 3) / 2,
        "ndcg@10": 0.75,
        "base_map": (1 / 2 + 1 / 3) / 2,
        "base_mrr@10": (1 / 2 + 1 / 3) / 2,
        "base_ndcg@10": (1 / 1.584962500721156 + 0.5) / 2,
    }
    prefixes = ("NanoMSMARCO_R100_", "NanoSciFact_R100_", "NanoBEIR_R100_mean_")
    assert metrics == pytest.approx(
        {prefix + key: value for prefix in prefixes for key, value in expected.items()}
    )
    assert evaluator.primary_metric == "NanoBEIR_R100_mean_ndcg@10"
    files = {path.name: path.read_text().splitlines() for path in (tmp_path / "out").iterdir()}
    assert set(files) == {
        "NanoBEIR_evaluation_mean_results.csv",
        "CrossEncoderRerankingEvaluator_NanoMSMARCO_R100_results_@10.csv",
        "CrossEncoderRerankingEvaluator_NanoSciFact_R100_results_@10.csv",
    }
    header, row = files["NanoBEIR_evaluation_mean_results.csv"]
    assert header == "epoch,steps,MAP,MRR@10,NDCG@10"
    assert row.startswith("1,7,0.66666")


def test_only_the_first_that_were_found_are_put_in_order(folder, numbers):
    evaluator = CrossEncoderNanoBEIREvaluator(
        ["msmarco"], folder, rerank_k=1, at_k=3, always_rerank_positives=False, aggregate_key="all"
    )
    model = numbers()
    metrics = evaluator(model)
    assert [pairs for pairs, _ in model.calls] == [[("kitten", ".5 rain falls"), ("wings", ".5 rain falls")]]
    assert metrics["NanoBEIR_R1_all_ndcg@3"] == 0
    assert evaluator.get_config_dict() == {
        "dataset_names": ["msmarco"],
        "dataset_id": folder,
        "rerank_k": 1,
        "at_k": 3,
        "always_rerank_positives": False,
    }


def test_what_cannot_be_is_refused(folder):
    with pytest.raises(ValueError, match="rerank_k=0"):
        CrossEncoderNanoBEIREvaluator(["msmarco"], folder, rerank_k=0)
    with pytest.raises(ValueError, match="NanoBEIR has no set 'nonsense'"):
        CrossEncoderNanoBEIREvaluator(["nonsense"])
