"""The Python examples of the README run as they stand, and print what they say they print."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)


def test_the_readme_has_a_quickstart():
    assert any('SentenceTransformer("all-MiniLM-L6-v2")' in example for example in EXAMPLES)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.splitlines()[0])
def test_an_example_of_the_readme_runs_and_prints_its_comments(example, minilm_path, tmp_path):
    del minilm_path  # The name in the example is found in the same package.
    program = tmp_path / "example.py"
    program.write_text(example, encoding="utf-8")
    finished = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, cwd=tmp_path, check=False, timeout=300
    )
    assert finished.returncode == 0, finished.stderr
    for promised in promised_numbers(example):
        assert promised in numbers(finished.stdout), f"{promised} is not in: {finished.stdout}"


def promised_numbers(example: str) -> list[str]:
    """The numbers in comments that stand right below a `print`."""
    found: list[str] = []
    follows_print = False
    for line in example.splitlines():
        if follows_print and line.startswith("#"):
            found.extend(numbers(line))
        else:
            follows_print = line.startswith("print(")
    return found


def numbers(text: str) -> list[str]:
    return re.findall(r"-?\d+(?:\.\d+)?", text)
