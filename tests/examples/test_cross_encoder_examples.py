"""The programs in `examples/cross_encoder` run as a user would run them, on the heads of the real data."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SHORT = (
    "--data", "data", "--out", "trained", "--quiet", "--layers", "1", "--rows", "32", "--epochs", "1",
    "--max-length", "32",
)  # fmt: skip


def reported(program: str, *arguments: str, folder: Path, out: str = "trained") -> dict[str, Any]:
    """What a program reports."""
    finished = subprocess.run(
        [sys.executable, str(EXAMPLES / "cross_encoder" / program), *SHORT, "--out", out, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    assert (folder / out / "model" / "config.json").is_file()
    return json.loads((folder / out / "report.json").read_text(encoding="utf-8"))


def lines_of(path: Path) -> list[str]:
    return gzip.decompress(path.read_bytes()).decode("utf-8").splitlines(True)


def write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(lines).encode("utf-8")))


@pytest.fixture
def data(shared_data, minilm_path, tmp_path):
    """A folder whose `data` holds the heads of the sets that are asked for."""
    del minilm_path

    def made(*names: str) -> Path:
        for name in names:
            write(tmp_path / "data" / name, lines_of(shared_data / name)[:120])
        return tmp_path

    return made


@pytest.fixture
def answers(data, shared_data):
    """The same with questions about health, their answers, and a few of those to search."""
    folder = data("medquad/train.tsv.gz")
    queries = lines_of(shared_data / "medquad" / "queries.dev.jsonl.gz")[:6]
    names = {json.loads(line)["_id"] for line in queries}
    head, *judgements = lines_of(shared_data / "medquad" / "qrels.dev.tsv.gz")
    judgements = [line for line in judgements if line.split("\t")[0] in names]
    wanted = {line.split("\t")[1] for line in judgements}
    corpus = lines_of(shared_data / "medquad" / "corpus.jsonl.gz")
    documents = [line for place, line in enumerate(corpus) if json.loads(line)["_id"] in wanted or place < 30]
    for name, lines in {
        "queries.dev.jsonl.gz": queries,
        "qrels.dev.tsv.gz": [head, *judgements],
        "corpus.jsonl.gz": documents,
    }.items():
        write(folder / "data" / "medquad" / name, lines)
    return folder


def test_similarity_is_learnt_and_compared_with_a_bi_encoder(data):
    folder = data(*(f"stsb/en/{split}.tsv.gz" for split in ("train", "dev", "test")))
    report = reported("train_sts.py", folder=folder)
    assert report["rows"] == 32
    assert report["layers"] == 1
    assert -100 <= report["test_spearman"] <= 100
    assert report["test_spearman_bi_encoder"] > 50


def test_inference_is_learnt_as_three_classes(data):
    report = reported(
        "train_nli.py", folder=data(*(f"nli/{split}.tsv.gz" for split in ("train", "dev", "test")))
    )
    assert report["loss"] == "CrossEntropyLoss"
    assert 0 <= report["test_f1_macro"] <= 100


def test_questions_with_one_answer_are_learnt_as_yes_or_no(data):
    folder = data(*(f"question_entailment/{split}.tsv.gz" for split in ("train", "test")))
    report = reported("train_duplicates.py", folder=folder)
    assert 0 <= report["test_average_precision"] <= 100
    assert 0 <= report["test_ap_bi_encoder"] <= 100


def test_a_reranker_learns_from_mined_negatives_and_teaches_a_smaller_one(answers):
    report = reported("train_reranker.py", "--questions", "40", folder=answers)
    assert 0 < report["dev_ndcg@10_retrieved"] <= 100
    assert 0 < report["dev_ndcg@10_reranked"] <= 100
    options = ["--teacher", "trained/model", "--questions", "30"]
    student = reported("distill_reranker.py", *options, folder=answers, out="student")
    assert student["loss"] == "MarginMSELoss"
    assert student["dev_ndcg@10_teacher"] == pytest.approx(report["dev_ndcg@10_reranked"], abs=0.01)
    alone = reported("distill_reranker.py", *options, "--labels-only", folder=answers, out="alone")
    assert alone["teacher"] is None
