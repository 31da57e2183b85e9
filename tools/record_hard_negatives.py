"""Record what another release mines, for `tests/search/hard_negatives/test_recorded.py`.

    python tools/record_hard_negatives.py MODEL_FOLDER

Run it in an environment with sentence-transformers 6.2.0 and faiss; MODEL_FOLDER holds all-MiniLM-L6-v2. Writes
`tests/data/hard_negatives.json`: the columns that the cases in `tests/hard_negative_cases.py` give.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.util import mine_hard_negatives

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from hard_negative_cases import CASES, RECORDED, mined_case


def rounded(values: Any) -> Any:
    if isinstance(values, list):
        return [rounded(value) for value in values]
    return round(values, 6) if isinstance(values, float) else values


if __name__ == "__main__":
    model = SentenceTransformer(sys.argv[1], device="cpu")
    recorded = {
        name: {
            column: rounded(values)
            for column, values in mined_case(mine_hard_negatives, model, arguments).items()
        }
        for name, arguments in CASES.items()
    }
    lines = [f"{json.dumps(name)}: {json.dumps(columns)}" for name, columns in recorded.items()]
    RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
