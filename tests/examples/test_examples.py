"""The programs in `examples/` run as a user would run them."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(*arguments: str, folder: Path) -> str:
    """What an example prints."""
    finished = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=folder, check=False, timeout=300
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_the_quickstart_prints_the_known_similarities(minilm_path, tmp_path):
    del minilm_path
    printed = run(str(EXAMPLES / "quickstart.py"), folder=tmp_path)
    assert "(3, 384)" in printed
    assert [value in printed for value in ("1.0000", "0.6660", "0.1046", "0.1411")] == [True] * 4


def test_the_demo_finds_passages_and_draws_a_picture(minilm_path, tmp_path):
    del minilm_path
    printed = run(str(EXAMPLES / "demo.py"), "--texts", "40", "--out", "pictures", folder=tmp_path)
    assert len(re.findall(r"^  0\.\d{4}  ", printed, re.M)) == 9
    assert re.search(r"Reached [\d,]+ texts/s and [\d,]+ tokens/s", printed)
    assert (tmp_path / "pictures" / "similarity.png").read_bytes().startswith(b"\x89PNG")


def test_the_sample_is_small_and_says_where_it_is_from():
    sample = EXAMPLES / "data" / "medquad-sample.tsv.gz"
    assert sample.stat().st_size < 300_000
    lines = gzip.decompress(sample.read_bytes()).decode("utf-8").splitlines()
    assert lines[0].split("\t") == ["question", "answer", "type", "source"]
    assert len(lines) == 481
    assert "CC BY 4.0" in (EXAMPLES / "data" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("method", ["softmax", "ranking", "gist"])
def test_the_inference_example_trains_and_reports(method, minilm_path, shared_data, tmp_path):
    del minilm_path
    data = tmp_path / "data"
    for name in ("nli/train", "stsb/en/dev", "stsb/en/test"):
        rows = gzip.decompress((shared_data / f"{name}.tsv.gz").read_bytes()).decode("utf-8").splitlines(True)
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / f"{name}.tsv.gz").write_bytes(gzip.compress("".join(rows[:400]).encode("utf-8")))
    run(
        str(EXAMPLES / "nli" / "train_nli.py"), method, "--start", "reduced", "--rows", "32", "--batch-size", "16",
        "--data", str(data), "--out", "trained", "--quiet", folder=tmp_path,
    )  # fmt: skip
    report = json.loads((tmp_path / "trained" / "report.json").read_text(encoding="utf-8"))
    assert report["rows"] <= 32
    assert -100 <= report["stsb_test_after"] <= 100
    assert (tmp_path / "trained" / "model" / "modules.json").is_file()
