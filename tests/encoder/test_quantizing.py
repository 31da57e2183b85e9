"""Models with weights in eight bits: near the model they were made of, saved small, and loaded again."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from cross_encoder_cases import sample_pairs, tiny_classifier
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.backend.int8 import Int8Linear
from sentence_transformers.backend.int8_checkpoint import is_int8
from sentence_transformers.backend.lean import LeanModel
from sentence_transformers.models import StaticEmbedding
from tiny import sample_texts, tiny_checkpoint

TEXTS = [*sample_texts()[:12], "one", "two words"]


def int8_layers(model):
    return [module for module in model.modules() if isinstance(module, Int8Linear)]


@pytest.fixture(params=["bert", "roberta", "distilbert", "mpnet", "modernbert", "t5"])
def model(request, tmp_path):
    return SentenceTransformer(str(tiny_checkpoint(request.param, tmp_path / "tiny")), device="cpu")


def test_a_model_in_eight_bits_is_near_and_is_loaded_as_it_was_saved(model, tmp_path):
    wanted = model.encode(TEXTS, normalize_embeddings=True)
    assert model.quantize("int8") is model
    assert len(int8_layers(model)) >= 4 * 2
    found = model.encode(TEXTS, normalize_embeddings=True)
    assert (wanted * found).sum(1).min() > 0.99
    assert not np.array_equal(wanted, found)
    model.save_pretrained(str(tmp_path / "saved"))
    again = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    assert len(int8_layers(again)) == len(int8_layers(model))
    assert np.allclose(again.encode(TEXTS, normalize_embeddings=True), found, atol=1e-6)
    kinds = {tensor.dtype for tensor in load_file(tmp_path / "saved" / "model.safetensors").values()}
    assert kinds == {torch.int8, torch.float32}


def test_a_saved_model_opens_without_transformers_and_with_it(tmp_path):
    model = SentenceTransformer(str(tiny_checkpoint("bert", tmp_path / "tiny")), device="cpu").quantize()
    model.save_pretrained(str(tmp_path / "saved"))
    lean = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    assert isinstance(lean[0].held_model, LeanModel)
    full = SentenceTransformer(
        str(tmp_path / "saved"), device="cpu", model_kwargs={"attn_implementation": "eager"}
    )
    assert not isinstance(full[0].held_model, LeanModel)
    wanted = model.encode(TEXTS)
    assert np.array_equal(lean.encode(TEXTS), wanted)
    assert np.allclose(full.encode(TEXTS), wanted, atol=0.02)
    assert lean[0].auto_model.config.quantization_config["format"] == "int-quantized"
    assert np.array_equal(lean.encode(TEXTS), wanted)


def test_a_text_has_the_same_vector_in_any_batch(tmp_path):
    model = SentenceTransformer(str(tiny_checkpoint("bert", tmp_path / "tiny")), device="cpu").quantize()
    together = model.encode(TEXTS, deterministic=True)
    alone = np.stack([model.encode(text, deterministic=True) for text in TEXTS])
    assert np.array_equal(together, alone)


def test_a_cross_encoder_keeps_its_head(tmp_path):
    model = CrossEncoder(str(tiny_classifier("bert", tmp_path / "tiny", labels=1)), device="cpu")
    wanted = model.predict(sample_pairs())
    model.quantize()
    assert type(model.model.classifier) is nn.Linear
    found = model.predict(sample_pairs())
    assert np.abs(found - wanted).max() < 0.02
    model.save_pretrained(str(tmp_path / "saved"))
    assert np.array_equal(CrossEncoder(str(tmp_path / "saved"), device="cpu").predict(sample_pairs()), found)


def test_what_cannot_be_rounded_is_refused(tmp_path):
    model = SentenceTransformer(str(tiny_checkpoint("bert", tmp_path / "tiny")), device="cpu")
    with pytest.raises(ValueError, match="int8, not 'int4'"):
        model.quantize("int4")
    assert not int8_layers(model)
    model.quantize()
    with pytest.raises(ValueError, match="in eight bits already"):
        model.quantize()
    static = SentenceTransformer(modules=[StaticEmbedding(model.tokenizer, embedding_dim=8)], device="cpu")
    with pytest.raises(ValueError, match="needs a transformer"):
        static.quantize()


def test_an_adapter_has_to_be_merged_first(tmp_path):
    peft = pytest.importorskip("peft")
    model = SentenceTransformer(str(tiny_checkpoint("bert", tmp_path / "tiny")), device="cpu")
    model.add_adapter(peft.LoraConfig(target_modules=["query"]))
    with pytest.raises(ValueError, match="Merge it first"):
        model.quantize()


def test_a_damaged_checkpoint_is_refused(tmp_path):
    model = SentenceTransformer(
        str(tiny_checkpoint("distilbert", tmp_path / "tiny")), device="cpu"
    ).quantize()
    model.save_pretrained(str(tmp_path / "saved"))
    weights = tmp_path / "saved" / "model.safetensors"
    state = load_file(weights)
    lost = next(name for name in state if name.endswith("lin1.weight"))
    save_file({name: value for name, value in state.items() if not name.startswith(lost[:-6])}, weights)
    with pytest.raises(ValueError, match="lacks"):
        SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    save_file(state, weights)
    with pytest.raises(ValueError, match="weights in eight bits: gguf_file cannot be given"):
        SentenceTransformer(str(tmp_path / "saved"), device="cpu", model_kwargs={"gguf_file": "x"})


def test_a_checkpoint_in_several_files_is_opened(tmp_path):
    model = SentenceTransformer(str(tiny_checkpoint("bert", tmp_path / "tiny")), device="cpu").quantize()
    folder = tmp_path / "saved"
    model.save_pretrained(str(folder))
    state = load_file(folder / "model.safetensors")
    names = {name: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, name in enumerate(state)}
    for file in set(names.values()):
        save_file({name: state[name] for name in names if names[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    (folder / "model.safetensors").unlink()
    assert np.array_equal(SentenceTransformer(str(folder), device="cpu").encode(TEXTS), model.encode(TEXTS))


def test_only_the_form_that_is_known_counts_as_ours(tmp_path):
    model = SentenceTransformer(str(tiny_checkpoint("bert", tmp_path / "tiny")), device="cpu").quantize()
    model.save_pretrained(str(tmp_path / "saved"))
    facts = json.loads((tmp_path / "saved" / "config.json").read_text())["quantization_config"]
    assert is_int8(facts)
    other = copy.deepcopy(facts)
    other["config_groups"]["group_0"]["weights"]["num_bits"] = 4
    assert not is_int8(other)
    assert not is_int8(None)
    assert not is_int8({"quant_method": "gptq"})


def test_the_real_model_keeps_what_it_knows_of_similarity(minilm, shared_data):
    import pandas

    pairs = pandas.read_csv(shared_data / "stsb/en/test.tsv.gz", sep="\t", quoting=3).head(400)
    small = copy.deepcopy(minilm).quantize()

    def score(model):
        left, right = (
            model.encode(pairs[side].tolist(), normalize_embeddings=True)
            for side in ("sentence1", "sentence2")
        )
        return pandas.Series((left * right).sum(1)).corr(pairs["score"], method="spearman")

    assert score(small) > score(minilm) - 0.005
