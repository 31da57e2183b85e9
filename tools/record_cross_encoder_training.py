"""Record short training runs of another release, for `tests/cross_encoder/test_training.py`.

    OTHER_ENVIRONMENT/bin/python tools/record_cross_encoder_training.py

The environment holds sentence-transformers[train] 6.2.0. Writes `tests/data/cross_encoder_training.json`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from cross_encoder_training_cases import CASES, RECORDED, outcome, trained


def main() -> None:
    recorded = {}
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            recorded[case] = outcome(trained(case, Path(folder)))
        print(case, recorded[case]["losses"])
    RECORDED.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
