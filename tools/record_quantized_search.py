"""Record what another release finds among quantised embeddings.

    python tools/record_quantized_search.py [OUTPUT]

Run it in an environment with sentence-transformers 6.2.0, faiss-cpu and usearch. Runs the searches of
`tests/quantized_search_cases.py`, and writes `tests/data/quantized_search.json`, with which
`tests/search/quantized/test_engines.py` compares.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from sentence_transformers.util import quantization

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from quantized_search_cases import RECORDED, cases, found_by

if __name__ == "__main__":
    recorded = {
        case.name: [
            {str(row): round(score, 6) for row, score in line.items()}
            for line in found_by(case, quantization)
        ]
        for case in cases()
    }
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else RECORDED
    output.write_text(json.dumps(recorded) + "\n", encoding="utf-8")
