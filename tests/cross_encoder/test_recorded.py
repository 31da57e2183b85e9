"""Scores are those of sentence-transformers 6.2.0, recorded by `tools/record_cross_encoder.py`."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cross_encoder_cases import MAX_LENGTH, PROMPT, RECORDED, sample_pairs, tiny_classifier
from sentence_transformers import CrossEncoder

CASES = json.loads(RECORDED.read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['family']}-{case['labels']}")
def test_scores_are_those_of_the_other_release(case, tmp_path):
    folder = str(tiny_classifier(case["family"], tmp_path, case["labels"]))
    model = CrossEncoder(folder, device="cpu")
    pairs = sample_pairs()
    assert model.max_length == case["max_length"]
    scores = {
        "plain": model.predict(pairs),
        "with a prompt": model.predict(pairs, prompt=PROMPT),
        "softmax": model.predict(pairs, apply_softmax=True),
        "cut short": CrossEncoder(folder, max_length=MAX_LENGTH, device="cpu").predict(pairs),
    }
    for how, expected in case["scores"].items():
        np.testing.assert_allclose(scores[how], expected, atol=1e-5, rtol=0, err_msg=how)
    if case["ranking"] is not None:
        documents = [document for _, document in pairs]
        ranks = model.rank(pairs[0][0], documents)
        # Two of the documents differ in white space alone, which some of the tokenizers do not see.
        assert [documents[hit["corpus_id"]].strip() for hit in ranks] == [
            documents[number].strip() for number in case["ranking"]
        ]
