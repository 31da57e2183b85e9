"""Record what another release's losses give, for `tests/losses/test_recorded_pairs.py`.

    python tools/record_losses_pairs.py [OUTPUT]

Run it in an environment with sentence-transformers 6.2.0. Measures the losses of `tests/pair_loss_cases.py`
with a tiny random model from `tests/tiny.py`, and writes `tests/data/losses_pairs.json`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from sentence_transformers import SentenceTransformer, losses

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from pair_loss_cases import CASES, RECORDED, measured
from tiny import tiny_checkpoint

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        model = SentenceTransformer(str(tiny_checkpoint("bert", folder)), device="cpu").eval()
    recorded = [{"loss": case.loss, **measured(case, losses, model)} for case in CASES]
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else RECORDED
    output.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")
