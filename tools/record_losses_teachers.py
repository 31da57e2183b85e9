"""Record what another release's losses give, for `tests/losses/test_recorded_teachers.py`.

    python tools/record_losses_teachers.py [OUTPUT]

Run it in an environment with sentence-transformers 6.2.0. Measures the losses of
`tests/teacher_loss_cases.py` with tiny random models from `tests/tiny.py`, and writes
`tests/data/losses_teachers.json`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from teacher_loss_cases import CASES, RECORDED, checkpoints, measured

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        folders = checkpoints(Path(folder))
        models = {name: SentenceTransformer(str(path), device="cpu").eval() for name, path in folders.items()}
        recorded = [measured(case, losses, models, folders) for case in CASES]
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else RECORDED
    output.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")
