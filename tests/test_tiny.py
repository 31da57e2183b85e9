"""The tiny checkpoints that other tests stand on load in transformers and are what they say they are."""

from __future__ import annotations

import pytest
import torch

from tiny import FAMILIES, VOCABULARY_SIZE, WIDTH, sample_texts, tiny_checkpoint, tiny_model, tiny_tokenizer


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_checkpoint_loads_in_transformers_and_gives_the_same_tokens_and_vectors(family, tmp_path):
    from transformers import AutoModel, AutoTokenizer, T5EncoderModel

    folder = tiny_checkpoint(family, tmp_path / family)
    loader = T5EncoderModel if family == "t5" else AutoModel
    loaded, tokenizer = loader.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    texts = sample_texts()[:4]
    inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    fresh = tiny_tokenizer(family)(texts, padding=True, truncation=True, return_tensors="pt")
    assert inputs.keys() == fresh.keys()
    for name in inputs:
        assert inputs[name].equal(fresh[name])
    with torch.inference_mode():
        vectors = loaded(**inputs).last_hidden_state
        torch.testing.assert_close(vectors, tiny_model(family)(**inputs).last_hidden_state)
    assert vectors.shape == (*inputs["input_ids"].shape, WIDTH)
    assert vectors.std() > 0.01


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tokenizer_is_fast_and_frames_a_row_with_the_family_s_special_tokens(family):
    tokenizer = tiny_tokenizer(family)
    ids = tokenizer("What causes asthma?")["input_ids"]
    assert tokenizer.is_fast
    assert len(tokenizer) == VOCABULARY_SIZE
    assert max(ids) < VOCABULARY_SIZE
    end = tokenizer.sep_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id
    assert ids[-1] == end
    assert tokenizer.pad_token_id == tiny_model(family).config.pad_token_id
    for text in sample_texts():
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True).strip()
