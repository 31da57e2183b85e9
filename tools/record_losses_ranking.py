"""Record what another release's in-batch negatives losses give.

    python tools/record_losses_ranking.py [OUTPUT]

As `tools/record_losses_pairs.py`, for the losses of `tests/ranking_loss_cases.py`, which the tests
`tests/losses/test_multiple_negatives_ranking.py` compare with. Writes `tests/data/losses_ranking.json`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from sentence_transformers import SentenceTransformer, losses

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from pair_loss_cases import measured
from ranking_loss_cases import CASES, RECORDED
from tiny import tiny_checkpoint

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        model = SentenceTransformer(str(tiny_checkpoint("bert", folder)), device="cpu").eval()
    recorded = [{"loss": case.loss, **measured(case, losses, model)} for case in CASES]
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else RECORDED
    output.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")
