"""Record how another release scores pairs with decoders, for `tests/cross_encoder/test_logit_score.py`.

    python tools/record_decoder_rerankers.py

Run it in an environment with sentence-transformers 6.2.0. Writes `tests/data/decoder_rerankers.json`: scores of the
pairs in `tests/cross_encoder_cases.py` by the tiny random models of `tests/decoder_cases.py`, and the settings files
that are saved with such a model.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from sentence_transformers.base.modules import Transformer
from sentence_transformers.cross_encoder.modules import LogitScore

from sentence_transformers import CrossEncoder

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from cross_encoder_cases import sample_pairs
from decoder_cases import (
    FAMILIES,
    MAX_LENGTH,
    PROMPT,
    RECORDED,
    SETTINGS,
    SETTINGS_FILES,
    TEMPLATES,
    tiny_decoder,
)


def record(family: str, template: str, folder: str) -> dict[str, Any]:
    """What one tiny model gives."""
    place = str(tiny_decoder(family, folder, template))
    model = CrossEncoder(place, device="cpu")
    model[0].processing_kwargs = {"chat_template": SETTINGS[template]}
    pairs = sample_pairs()
    scores = {
        "plain": model.predict(pairs),
        "with a prompt": model.predict(pairs, prompt=PROMPT),
    }
    model.max_seq_length = MAX_LENGTH
    scores["cut short"] = model.predict(pairs)
    transformer = Transformer(
        place,
        transformer_task="text-generation",
        processing_kwargs={"chat_template": SETTINGS[template]},
    )
    one_token = CrossEncoder(modules=[transformer, LogitScore(model[1].true_token_id)], device="cpu")
    scores["one token"] = one_token.predict(pairs)
    saved = Path(folder) / "saved"
    one_token.save(str(saved))
    return {
        "family": family,
        "template": template,
        "tokens": [model[1].true_token_id, model[1].false_token_id],
        "scores": {how: values.round(7).astype(float).tolist() for how, values in scores.items()},
        "saved": {name: json.loads((saved / name).read_text(encoding="utf-8")) for name in SETTINGS_FILES},
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        recorded = [
            record(family, template, f"{folder}/{family}-{template}")
            for family in FAMILIES
            for template in TEMPLATES
        ]
    RECORDED.write_text(json.dumps(recorded) + "\n", encoding="utf-8")
