"""Two processes end as one does that has batches twice as large, whatever the loss; see `distributed_run.py`."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from sentence_transformers import SentenceTransformer
from sentence_transformers.losses import MultipleNegativesRankingLoss
from tiny import sample_texts

SCRIPT = Path(__file__).with_name("distributed_run.py")
PROCESSES = 2

specification = importlib.util.spec_from_file_location("distributed_run", SCRIPT)
distributed_run = importlib.util.module_from_spec(specification)
specification.loader.exec_module(distributed_run)


@pytest.fixture(scope="module")
def folder(checkpoint, tmp_path_factory):
    """Where two processes have written what they ended with; they run once, however many run the tests."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "two processes"
    report = folder / "report.json"
    try:
        folder.mkdir()
    except FileExistsError:
        for _ in range(600):
            if report.is_file():
                break
            time.sleep(0.5)
    else:
        run_two_processes(checkpoint, folder, report)
    code, printed = json.loads(report.read_text())
    assert code == 0, printed
    return folder


def run_two_processes(checkpoint, folder, report):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*command, f"--nproc_per_node={PROCESSES}", str(SCRIPT), str(checkpoint), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    # In one go: others wait for this file.
    written = folder / "report.tmp"
    written.write_text(json.dumps([done.returncode, done.stdout[-6000:]]))
    written.replace(report)


def of_processes(folder, name):
    return [torch.load(folder / f"{name} {rank}.pt", weights_only=False) for rank in range(PROCESSES)]


def assert_close(found, expected, tolerance=2e-6):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=tolerance, rtol=1e-5, msg=name)


@pytest.mark.parametrize("case", distributed_run.CASES)
def test_two_processes_end_as_one_does(case, folder, checkpoint, tmp_path):
    first, second = of_processes(folder, case)
    for part in ("model", "loss"):
        assert all(torch.equal(second[part][name], value) for name, value in first[part].items())
    alone = distributed_run.ended(case, checkpoint, tmp_path, 1)
    assert_close(first["model"], alone["model"])
    assert_close(first["loss"], alone["loss"])
    losses = [[entry["loss"] for entry in run["log"] if "loss" in entry] for run in (first, alone)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_one_process_evaluates_and_all_know_the_result(folder):
    first, second = of_processes(folder, "evaluated")
    assert (first["evaluations"], second["evaluations"]) == (2, 0)
    scores = [
        [entry["eval_dev_spearman_cosine"] for entry in run["log"] if "eval_dev_spearman_cosine" in entry]
        for run in (first, second)
    ]
    assert len(scores[0]) == 2
    assert first["best"] == second["best"]
    assert Path(first["best"], "model.safetensors").is_file()
    assert first["metric"] == second["metric"] == "dev_spearman_cosine"


def test_an_evaluation_s_encoding_is_shared(folder, checkpoint):
    first, second = of_processes(folder, "shared")
    model = SentenceTransformer(str(checkpoint), device="cpu")
    texts = sample_texts()[:7]
    np.testing.assert_allclose(first["embeddings"], model.encode(texts), atol=1e-5)
    np.testing.assert_allclose(
        first["tensors"].numpy(), model.encode(texts, normalize_embeddings=True), atol=1e-5
    )
    np.testing.assert_allclose(first["single"], model.encode(texts[0]), atol=1e-5)
    for found, expected in zip(
        first["tokens"], model.encode(texts, output_value="token_embeddings"), strict=True
    ):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert (first["evaluates"], second["evaluates"]) == (True, False)
    assert first["by itself"]
    assert second["by itself"]
    assert second["calls"] >= 3


def test_an_evaluation_that_fails_fails_everywhere(folder):
    first, second = of_processes(folder, "shared")
    assert "KeyError" in first["error"]
    assert "a metric" in second["error"]
    assert "RuntimeError" in second["error"]
    assert "unsupported input type" in first["wrong"]


@pytest.mark.parametrize("loss", ["ranking", "cached ranking"])
def test_weights_that_are_spread_have_the_gradients_of_whole_ones(loss, folder, checkpoint):
    model = distributed_run.without_dropout(SentenceTransformer(str(checkpoint), device="cpu")).train()
    data = distributed_run.pairs(distributed_run.BATCH)
    MultipleNegativesRankingLoss(model)(
        [model.preprocess(data[column][:]) for column in data.column_names]
    ).backward()
    expected = {
        name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None
    }
    for found in of_processes(folder, "spread"):
        assert_close(found[loss], expected, 1e-5)


def test_a_model_that_is_spread_encodes_and_is_saved_and_loaded(folder, checkpoint):
    texts = sample_texts()[:3]
    expected = SentenceTransformer(str(checkpoint), device="cpu").encode(texts)
    saved = SentenceTransformer(str(folder / "spread"), device="cpu")
    np.testing.assert_allclose(saved.encode(texts), expected, atol=1e-5)
    for found in of_processes(folder, "spread"):
        np.testing.assert_allclose(found["embeddings"], expected, atol=1e-5)
        np.testing.assert_allclose(found["embeddings again"], expected, atol=1e-5)
