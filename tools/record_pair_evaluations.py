"""Record what other releases' evaluators of cross-encoders report.

    python tools/record_pair_evaluations.py MODELS

To be run twice, with sentence-transformers 6.2.0 and then with 3.4.1: each records its own cases of
`tests/pair_evaluation_cases.py` in `tests/data/pair_evaluations.json`, which the test
`tests/cross_encoder/evaluation/test_recorded.py` compares with. MODELS is a folder for the tiny models of
`tests/score_loss_cases.py`: random weights depend on the release of torch, so that the first run makes them and
the second one reads them.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import sentence_transformers
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder import evaluation

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from pair_evaluation_cases import NEWER, OLDER, RECORDED
from score_loss_cases import tiny_cross_encoder


def record(folder: Path, evaluator: str, num_labels: int, arguments: dict[str, Any]) -> dict[str, Any]:
    """Call one evaluator, and note all it gives."""
    path = folder / str(num_labels)
    if not path.is_dir():
        tiny_cross_encoder(path, num_labels)
    built = getattr(evaluation, evaluator)(**arguments)
    with tempfile.TemporaryDirectory() as output:
        result = built(CrossEncoder(str(path), device="cpu"), output)
        files = {path.name: path.read_text(encoding="utf-8").splitlines() for path in Path(output).iterdir()}
    return {
        "evaluator": evaluator,
        "result": result if isinstance(result, dict) else float(result),
        "primary_metric": getattr(built, "primary_metric", None),
        "files": files,
    }


if __name__ == "__main__":
    is_older = sentence_transformers.__version__.startswith("3.")
    name, cases = ("older", OLDER) if is_older else ("newer", NEWER)
    recorded = json.loads(RECORDED.read_text(encoding="utf-8")) if RECORDED.is_file() else {}
    recorded[name] = [record(Path(sys.argv[1]), *case) for case in cases]
    RECORDED.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")
