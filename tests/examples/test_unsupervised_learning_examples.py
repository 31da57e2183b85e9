"""The comparison of methods that learn without labels, run as a user would run it, on the heads of the real data."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from recipes.small_models import tiny_start
from sentence_transformers import SentenceTransformer
from sentence_transformers.recipes.mlm import GuessingLoss

PROGRAM = Path(__file__).resolve().parents[2] / "examples" / "unsupervised_learning" / "compare.py"
SHORT = (
    "--data",
    "data",
    "--out",
    "out",
    "--texts",
    "32",
    "--max-length",
    "16",
    "--device",
    "cpu",
    "--quiet",
)
METHODS = ("TSDAE", "SimCSE", "CT", "CT in-batch", "MLM")


def compared(*arguments: str, folder: Path) -> str:
    """What the program prints."""
    finished = subprocess.run(
        [sys.executable, str(PROGRAM), *SHORT, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.fixture
def folder(shared_data, minilm_path, tmp_path):
    """A folder whose `data` holds the heads of the sets that the program reads."""
    del minilm_path
    for name in ("nli/train.tsv.gz", "stsb/en/dev.tsv.gz", "stsb/en/test.tsv.gz", "text/medical.txt.gz"):
        lines = gzip.decompress((shared_data / name).read_bytes()).decode("utf-8").splitlines(True)
        place = tmp_path / "data" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(gzip.compress("".join(lines[:60]).encode("utf-8")))
    return tmp_path


def check_table(folder: Path, printed: str, methods: Sequence[str]) -> None:
    """What is printed and kept are the figures of the reports, which all begin with the same model."""
    table = (folder / "out" / "table.md").read_text(encoding="utf-8")
    assert printed == table
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert [row[0] for row in cells[2:]] == ["start", *methods]
    start, *trained = cells[2:]
    for row in trained:
        out = folder / "out" / row[0].lower().replace(" ", "-")
        metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
        before, after = metrics["rows"][0], metrics["rows"][-1]
        for place, split in ((1, "dev"), (2, "test")):
            assert float(start[place]) == before[f"en {split} Spearman"]
            assert float(row[place]) == after[f"en {split} Spearman"]
            assert -100 <= float(row[place]) <= 100
        passes = row[3].split()
        assert len(passes) == (24 if row[0] == "CT" else 1)
        assert passes[-1] == row[1]
        assert (out / "model" / "modules.json").is_file()


def test_all_methods_stand_in_one_table(folder):
    check_table(folder, compared("--start", tiny_start(folder), folder=folder), METHODS)


def test_new_layers_stand_on_the_words_that_the_teacher_knew(folder):
    printed = compared("--start", "new-layers", "--methods", "CT in-batch", "--texts", "16", folder=folder)
    check_table(folder, printed, ["CT in-batch"])
    weights, known = weights_of(folder / "out" / "new-layers"), weights_of("all-MiniLM-L6-v2")
    assert torch.equal(weights[WORDS], known[WORDS])
    assert not any(
        torch.equal(weights[QUERY.format(layer)], known[QUERY.format(layer)]) for layer in range(3)
    )
    assert QUERY.format(3) not in weights


def test_the_language_model_has_learned_to_guess_and_keeps_its_head(folder):
    arguments = ("--methods", "SimCSE", "--texts", "16", "--start-texts", "48", "--keep-best")
    check_table(folder, compared(*arguments, folder=folder), ["SimCSE"])
    run = folder / "out" / "language-model"
    before, after = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["rows"]
    assert after["perplexity"] < before["perplexity"]
    weights, known = weights_of(run / "steps" / "language-model"), weights_of("all-MiniLM-L6-v2")
    assert not torch.equal(weights[QUERY.format(0)], known[QUERY.format(0)])
    assert QUERY.format(3) not in weights
    model = SentenceTransformer(str(run / "steps" / "language-model"), device="cpu")
    assert not GuessingLoss(model).head.is_new


WORDS = "embeddings.word_embeddings.weight"
QUERY = "encoder.layer.{}.attention.self.query.weight"


def weights_of(name: Path | str) -> dict[str, torch.Tensor]:
    """The weights of the transformer in a model."""
    return SentenceTransformer(str(name), device="cpu")[0].auto_model.state_dict()
