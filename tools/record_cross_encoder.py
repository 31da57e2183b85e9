"""Record how another release scores pairs, for `tests/cross_encoder/test_recorded.py`.

    python tools/record_cross_encoder.py

Run it in an environment with sentence-transformers 6.2.0. Writes `tests/data/cross_encoder.json`: scores of the
pairs in `tests/cross_encoder_cases.py` by tiny random models.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from sentence_transformers import CrossEncoder

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from cross_encoder_cases import (
    FAMILIES,
    LABELS,
    MAX_LENGTH,
    PROMPT,
    RECORDED,
    sample_pairs,
    tiny_classifier,
)


def record(family: str, labels: int, folder: str) -> dict[str, Any]:
    """What one tiny model gives."""
    place = str(tiny_classifier(family, folder, labels))
    model = CrossEncoder(place, device="cpu")
    pairs = sample_pairs()
    short = CrossEncoder(place, device="cpu", max_length=MAX_LENGTH)
    scores = {
        "plain": model.predict(pairs),
        "with a prompt": model.predict(pairs, prompt=PROMPT),
        "softmax": model.predict(pairs, apply_softmax=True),
        "cut short": short.predict(pairs),
    }
    documents = [document for _, document in pairs]
    return {
        "family": family,
        "labels": labels,
        "max_length": model.max_seq_length,
        "scores": {how: values.round(7).astype(float).tolist() for how, values in scores.items()},
        "ranking": [hit["corpus_id"] for hit in model.rank(pairs[0][0], documents)] if labels == 1 else None,
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        recorded = [
            record(family, labels, f"{folder}/{family}-{labels}") for family in FAMILIES for labels in LABELS
        ]
    RECORDED.write_text(json.dumps(recorded) + "\n", encoding="utf-8")
