"""Record what another release's evaluators report, for `tests/evaluation/test_recorded.py`.

    python tools/record_evaluations.py MODEL_FOLDER

Run it in an environment with sentence-transformers 6.2.0; MODEL_FOLDER holds all-MiniLM-L6-v2. Writes
`tests/data/evaluations.json`: metrics and CSV files of the cases in `tests/evaluation_cases.py`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer, evaluation

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from evaluation_cases import RECORDED, evaluation_cases


def record(model: SentenceTransformer, evaluator: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Call one evaluator twice, as training would, and note all it gives."""
    built = getattr(evaluation, evaluator)(**arguments)
    with tempfile.TemporaryDirectory() as folder:
        built(model, folder)
        metrics = built(model, folder, epoch=1, steps=20)
        files = {path.name: path.read_text(encoding="utf-8").splitlines() for path in Path(folder).iterdir()}
    return {
        "evaluator": evaluator,
        "metrics": metrics,
        "primary_metric": built.primary_metric,
        "description": built.description,
        "files": files,
    }


if __name__ == "__main__":
    model = SentenceTransformer(sys.argv[1], device="cpu")
    recorded = [record(model, evaluator, arguments) for evaluator, arguments in evaluation_cases(model)]
    RECORDED.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")
