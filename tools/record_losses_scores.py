"""Record what another release's losses over the scores of pairs give.

    python tools/record_losses_scores.py [OUTPUT]

As `tools/record_losses_pairs.py`, for the losses of `tests/score_loss_cases.py`, which the test
`tests/cross_encoder/losses/test_recorded.py` compares with. Writes `tests/data/losses_scores.json`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder import losses

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from score_loss_cases import CASES, RECORDED, measured, tiny_cross_encoder

if __name__ == "__main__":
    models = {}
    for num_labels in sorted({case.num_labels for case in CASES}):
        with tempfile.TemporaryDirectory() as folder:
            path = str(tiny_cross_encoder(folder, num_labels))
            models[num_labels] = CrossEncoder(path, device="cpu").eval()
    recorded = [{"loss": case.loss, **measured(case, losses, models[case.num_labels])} for case in CASES]
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else RECORDED
    output.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")
