"""The programs in `examples/` run as a user would run them."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
from pathlib import Path

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
