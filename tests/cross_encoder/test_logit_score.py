"""Causal language models as rerankers: scores of every layout of a batch, what is read, saved and loaded.

Scores are also those of sentence-transformers 6.2.0, recorded by `tools/record_decoder_rerankers.py`.
"""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cross_encoder_cases import sample_pairs
from decoder_cases import MAX_LENGTH, PROMPT, RECORDED, SETTINGS, SETTINGS_FILES, tiny_decoder
from sentence_transformers import CrossEncoder
from sentence_transformers.backend import last_token
from sentence_transformers.cross_encoder.logit_score import LogitScore
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss
from sentence_transformers.models import Dense, Pooling, Transformer

CASES = json.loads(RECORDED.read_text(encoding="utf-8"))
PACKING = ("qwen3", "qwen2", "llama", "mistral", "gemma")
PAIRS = sample_pairs()[:9]
RAW = nn.Identity()


@pytest.fixture(scope="session")
def decoders(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Folder of a tiny decoder, by family and template; made when first asked for."""
    made: dict[tuple[object, ...], str] = {}

    def folder_of(family: str = "qwen3", template: str = "reranker", **settings: object) -> str:
        key = (family, template, *settings.items())
        if key not in made:
            folder = tmp_path_factory.mktemp(family)
            made[key] = str(tiny_decoder(family, folder, template, **settings))
        return made[key]

    return folder_of


@pytest.fixture
def model(decoders: Callable[..., str]) -> CrossEncoder:
    return CrossEncoder(decoders(), device="cpu")


def features_of(model: CrossEncoder, pairs: Any = PAIRS) -> dict[str, Any]:
    """A padded batch."""
    return model.preprocess(pairs)


# -- scores ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['family']}-{case['template']}")
def test_scores_are_those_of_the_other_release(case, decoders):
    folder = decoders(case["family"], case["template"])
    pairs = sample_pairs()
    model = CrossEncoder(folder, device="cpu")
    assert model[1].tokens == case["tokens"]
    model[0].processing_kwargs = {"chat_template": SETTINGS[case["template"]]}
    scores = {"plain": model.predict(pairs), "with a prompt": model.predict(pairs, prompt=PROMPT)}
    model.max_seq_length = MAX_LENGTH
    scores["cut short"] = model.predict(pairs)
    model = CrossEncoder(modules=[model[0], LogitScore(case["tokens"][0])], device="cpu")
    model.max_seq_length = 128
    scores["one token"] = model.predict(pairs)
    for how, expected in case["scores"].items():
        np.testing.assert_allclose(scores[how], expected, atol=1e-5, rtol=0, err_msg=how)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['family']}-{case['template']}")
def test_what_the_other_release_saves_is_loaded(case, decoders, tmp_path):
    folder = tiny_decoder(case["family"], tmp_path, case["template"])
    (folder / "1_LogitScore").mkdir()
    for name in SETTINGS_FILES:
        (folder / name).write_text(json.dumps(case["saved"][name]), encoding="utf-8")
    model = CrossEncoder(str(folder), device="cpu")
    assert isinstance(model[1], LogitScore)
    assert model[1].tokens == case["tokens"][:1]
    np.testing.assert_allclose(model.predict(sample_pairs()), case["scores"]["one token"], atol=1e-5, rtol=0)


def test_the_score_is_the_logit_of_yes_less_that_of_no_behind_the_last_token(decoders):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = decoders("llama", "none")
    causal, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    yes, no = tokenizer.convert_tokens_to_ids(["yes", "no"])
    expected = []
    for pair in PAIRS:
        with torch.no_grad():
            ids = tokenizer(*pair, truncation=True, max_length=128, return_tensors="pt")["input_ids"]
            logits = causal(ids).logits[0, -1]
        expected.append((logits[yes] - logits[no]).item())
    scores = CrossEncoder(folder, device="cpu").predict(PAIRS, activation_fn=RAW)
    np.testing.assert_allclose(scores, expected, atol=1e-5)


@pytest.mark.parametrize("tokens", [(400, 401), (400, None)])
@pytest.mark.parametrize("family", [*PACKING, "gemma2"])
def test_every_layout_of_a_batch_gives_the_same_scores(family, tokens, decoders):
    transformer = Transformer(decoders(family), transformer_task="text-generation")
    model = CrossEncoder(modules=[transformer, LogitScore(*tokens)], device="cpu")
    assert transformer.can_pack == (family in PACKING)
    scores = model.predict(PAIRS, activation_fn=RAW)
    transformer.unpad_inputs = False
    for side in ("left", "right"):
        transformer.tokenizer.padding_side = side
        padded = model.predict(PAIRS, activation_fn=RAW)
        np.testing.assert_allclose(padded, scores, atol=1e-5, err_msg=side)
        with torch.no_grad():
            raw = model(features_of(model))
        assert raw["causal_logits"].shape == (len(PAIRS), 1, 408)
        np.testing.assert_allclose(raw["scores"][:, 0], scores, atol=1e-5, err_msg=side)


@pytest.mark.parametrize("settings", [{}, {"final_logit_softcapping": 2.0}])
def test_capped_logits_are_scored(settings, decoders):
    model = CrossEncoder(decoders("gemma2", "none", **settings), device="cpu")
    cap = model.config.final_logit_softcapping
    with torch.no_grad():
        features = features_of(model)
        logits = model.model(**features).logits
    last = logits[torch.arange(len(PAIRS)), last_token.last_places(features["attention_mask"])]
    assert last.abs().max() < cap
    expected = last[:, 400] - last[:, 401]
    np.testing.assert_allclose(model.predict(PAIRS, activation_fn=RAW), expected, atol=1e-5)


def test_a_class_that_is_not_known_is_left_to_transformers(model, monkeypatch):
    expected = model.predict(PAIRS)
    monkeypatch.setattr(last_token, "SERVED", frozenset())
    assert not model[0].can_pack
    for side in ("left", "right"):
        model.tokenizer.padding_side = side
        np.testing.assert_allclose(model.predict(PAIRS), expected, atol=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_absolute_positions_do_not_depend_on_padding(side, decoders):
    from transformers import GPTNeoConfig, GPTNeoForCausalLM

    config = GPTNeoConfig(
        vocab_size=408, hidden_size=32, num_layers=2, num_heads=4, attention_types=[[["global"], 2]],
        max_position_embeddings=128, initializer_range=0.2,
    )  # fmt: skip
    torch.manual_seed(0)
    transformer = Transformer(decoders("qwen3", "none"), transformer_task="text-generation")
    transformer.auto_model = GPTNeoForCausalLM(config).eval()
    transformer.tokenizer.padding_side = side
    model = CrossEncoder(modules=[transformer, LogitScore(400, 401)], device="cpu")
    alone = [model.predict(pair) for pair in PAIRS]
    np.testing.assert_allclose(model.predict(PAIRS), alone, atol=1e-5)


def test_a_changed_head_is_used_as_it_is(model):
    from transformers import AutoModelForCausalLM

    class Doubled(nn.Linear):
        def forward(self, input):
            return 2 * super().forward(input)

    expected = 2 * model.predict(PAIRS, activation_fn=RAW)
    assert isinstance(model.model, type(AutoModelForCausalLM.from_config(model.config)))
    model.model.lm_head.__class__ = Doubled
    np.testing.assert_allclose(model.predict(PAIRS, activation_fn=RAW), expected, atol=1e-5)


def test_whoever_looks_at_the_head_is_called(model):
    seen = []
    model.model.lm_head.register_forward_hook(lambda module, args, output: seen.append(output.shape))
    model.predict(PAIRS)
    assert {shape[-1] for shape in seen} == {408}


def test_the_vocabulary_is_not_computed_for_scores(model):
    shapes = []
    model[1].register_forward_pre_hook(lambda module, args: shapes.append(args[0]["causal_logits"].shape[-1]))
    model.predict(PAIRS)
    assert set(shapes) == {408}  # somebody looks, and is shown what 6.2 shows
    assert last_token.logits(model.model, torch.randn(3, 32), [400, 401]).shape == (3, 2)


def test_messages_are_scored_as_the_pairs_they_stand_for(model, decoders):
    messages = [
        [{"role": role, "content": text} for role, text in zip(("query", "document"), pair)] for pair in PAIRS
    ]
    scores = model.predict(PAIRS)
    np.testing.assert_allclose(model.predict(messages), scores, atol=1e-6)
    np.testing.assert_allclose(model.predict([PAIRS[0], *messages[1:]]), scores, atol=1e-6)
    assert model.predict(messages[0]) == pytest.approx(scores[0], abs=1e-6)
    instructed = [[{"role": "system", "content": PROMPT}, *each] for each in messages]
    np.testing.assert_allclose(model.predict(instructed), model.predict(PAIRS, prompt=PROMPT), atol=1e-6)
    with pytest.raises(ValueError, match="no pair of two texts"):
        CrossEncoder(decoders(template="none"), device="cpu").predict(messages)


def test_documents_are_ranked_and_other_processes_score_alike(model):
    documents = [document for _, document in PAIRS]
    scores = model.predict([(PAIRS[0][0], document) for document in documents])
    ranks = model.rank(PAIRS[0][0], documents, top_k=3)
    assert [rank["corpus_id"] for rank in ranks] == np.argsort(-scores, kind="stable")[:3].tolist()
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_allclose(other.predict(PAIRS), model.predict(PAIRS), atol=1e-6)


# -- training ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", PACKING)
def test_training_computes_no_padding_and_gives_the_same_gradients(family, side, decoders):
    labels = torch.tensor([1.0, 0.0] * 4 + [1.0])
    gradients = {}
    for unpad in (None, False):
        model = CrossEncoder(decoders(family), device="cpu")
        model[0].unpad_inputs = unpad
        model.tokenizer.padding_side = side
        model.train()
        assert model.computes_no_padding == (unpad is None)
        loss = BinaryCrossEntropyLoss(model)(
            [[query for query, _ in PAIRS], [text for _, text in PAIRS]], labels
        )
        loss.backward()
        gradients[unpad] = [parameter.grad for parameter in model.parameters()]
    for one, other in zip(gradients[None], gradients[False], strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_a_decoder_learns_to_say_yes(model, tmp_path):
    from datasets import Dataset

    from sentence_transformers import CrossEncoderTrainer, CrossEncoderTrainingArguments

    pairs = PAIRS[:6]
    rows = {
        "query": [query for query, _ in pairs],
        "text": [text for _, text in pairs],
        "label": [float(number % 2) for number in range(len(pairs))],
    }
    arguments = CrossEncoderTrainingArguments(
        output_dir=str(tmp_path), num_train_epochs=20, learning_rate=5e-3, use_cpu=True, report_to="none",
        save_strategy="no", logging_strategy="no", disable_tqdm=True, per_device_train_batch_size=6,
    )  # fmt: skip
    CrossEncoderTrainer(model=model, args=arguments, train_dataset=Dataset.from_dict(rows)).train()
    right = (model.predict(pairs) > 0.5) == np.array(rows["label"], dtype=bool)
    assert right.all()


# -- which model is made of a checkpoint -------------------------------------------------------------------


def test_a_causal_checkpoint_is_scored_by_yes_and_no(model, decoders):
    assert [type(part).__name__ for part in model] == ["Transformer", "LogitScore"]
    assert (model[1].tokens, model.num_labels) == ([400, 401], 1)
    assert isinstance(model.activation_fn, nn.Sigmoid)
    assert model.modalities == ["text", "message"]
    assert CrossEncoder(decoders(template="none"), device="cpu").modalities == ["text"]
    assert isinstance(CrossEncoder(decoders(), num_labels=1, device="cpu")[1], LogitScore)


def test_several_labels_get_a_new_head(decoders):
    model = CrossEncoder(decoders(), num_labels=3, device="cpu")
    assert len(model) == 1
    assert model.predict(PAIRS).shape == (len(PAIRS), 3)


def test_a_tokenizer_without_the_words_is_refused_with_a_remedy(decoders, tmp_path):
    from transformers import AutoConfig, AutoModelForCausalLM

    from tiny import tiny_checkpoint

    folder = tiny_checkpoint("qwen3", tmp_path)
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    with pytest.raises(ValueError, match=r"no token 'yes' and no token 'no'.*LogitScore\(true_token_id"):
        CrossEncoder(str(folder), device="cpu")


def test_a_saved_model_is_loaded_with_everything(decoders, tmp_path):
    model = CrossEncoder(decoders("llama", "chat"), device="cpu", prompts={"judge": PROMPT})
    model[0].processing_kwargs = {"chat_template": SETTINGS["chat"]}
    model[1] = LogitScore(400)
    model.max_seq_length = MAX_LENGTH
    model.save(str(tmp_path))
    listing = json.loads((tmp_path / "modules.json").read_text(encoding="utf-8"))
    assert listing[1]["type"] == "sentence_transformers.cross_encoder.modules.logit_score.LogitScore"
    loaded = CrossEncoder(str(tmp_path), device="cpu")
    assert (loaded[1].tokens, loaded.max_seq_length) == ([400], MAX_LENGTH)
    for options in ({}, {"prompt_name": "judge"}):
        np.testing.assert_array_equal(loaded.predict(PAIRS, **options), model.predict(PAIRS, **options))
    assert json.loads((tmp_path / "1_LogitScore" / "config.json").read_text(encoding="utf-8")) == {
        "true_token_id": 400,
        "false_token_id": None,
        "module_input_name": "causal_logits",
    }


# -- the module --------------------------------------------------------------------------------------------


def test_logits_of_every_token_are_read_where_each_row_ends():
    logits = torch.randn(2, 4, 10)
    by_rows = LogitScore(3, 1)({"causal_logits": logits.clone()})["scores"]
    torch.testing.assert_close(by_rows, logits[:, -1:, 3] - logits[:, -1:, 1])
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    scores = LogitScore(3, 1, "mine")({"mine": logits, "attention_mask": mask})["scores"]
    torch.testing.assert_close(scores[0, 0], logits[0, 1, 3] - logits[0, 1, 1])
    torch.testing.assert_close(scores[1, 0], logits[1, 3, 3] - logits[1, 3, 1])


@pytest.mark.parametrize("arguments", [(-1,), ("yes",), (True,), (3, -2), (None,)])
def test_what_is_no_token_is_refused(arguments):
    with pytest.raises(ValueError, match="is no token of a vocabulary"):
        LogitScore(*arguments)


def test_a_token_beyond_the_vocabulary_is_refused(model):
    model[1].true_token_id = 500
    with pytest.raises(ValueError, match="408 tokens only"):
        model(features_of(model))
    with pytest.raises(ValueError, match="408 tokens only"):
        model.predict(PAIRS)
    with pytest.raises(KeyError, match="text-generation"):
        LogitScore(1)({"scores": torch.zeros(1, 1)})


@pytest.mark.parametrize("labels", [1, 3])
def test_a_dense_layer_that_gives_scores_says_how_many(labels, classifiers: Callable[..., str]):
    parts = [Transformer(classifiers()), Pooling(32, "cls"), Dense(32, labels, module_output_name="scores")]
    model = CrossEncoder(modules=parts, device="cpu")
    assert model.num_labels == labels
    assert model.predict(PAIRS).shape == ((len(PAIRS),) if labels == 1 else (len(PAIRS), labels))
    assert isinstance(model.activation_fn, nn.Sigmoid if labels == 1 else nn.Identity)


# -- layers in float32 -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["0.model.lm_head", "0.auto_model.lm_head", "model.lm_head"])
def test_a_head_can_compute_in_float32(path, decoders, tmp_path):
    half = {"torch_dtype": "bfloat16"}
    model = CrossEncoder(decoders(), device="cpu", model_kwargs=half)
    assert model(features_of(model))["causal_logits"].dtype == torch.bfloat16
    model = CrossEncoder(decoders(), device="cpu", model_kwargs=half, keep_in_fp32_modules=[path])
    features = model(features_of(model))
    assert features["causal_logits"].dtype == features["scores"].dtype == torch.float32
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    model.save(str(tmp_path))
    loaded = CrossEncoder(str(tmp_path), device="cpu")
    assert loaded.keep_in_fp32_modules == [path]
    torch.testing.assert_close(loaded(features_of(loaded))["scores"], features["scores"])
    plain = CrossEncoder(str(tmp_path), device="cpu", keep_in_fp32_modules=[])
    assert type(plain.model.lm_head) is nn.Linear
    loaded.set_keep_in_fp32_modules([])
    assert type(loaded.model.lm_head) is nn.Linear


def test_a_classifier_can_compute_in_float32(classifiers: Callable[..., str]):
    half = {"torch_dtype": "bfloat16"}
    kept = CrossEncoder(
        classifiers(), device="cpu", model_kwargs=half, keep_in_fp32_modules=["0.model.classifier"]
    )
    rough = CrossEncoder(classifiers(), device="cpu", model_kwargs=half)
    np.testing.assert_allclose(kept.predict(PAIRS), rough.predict(PAIRS), atol=0.02)
    assert kept(features_of(kept))["scores"].dtype == torch.float32


@pytest.mark.parametrize(
    ("paths", "told"),
    [
        ("lm_head", "no list of paths"),
        ([1], "no list of paths"),
        (["0.model.nowhere"], "not in the model"),
        (["0.model.model.norm"], "Name torch.nn.Linear layers only"),
    ],
)
def test_only_linear_layers_can_compute_in_float32(paths, told, decoders):
    with pytest.raises(ValueError, match=told):
        CrossEncoder(decoders(), device="cpu", keep_in_fp32_modules=paths)


def test_the_order_of_all_arguments_is_unchanged(decoders):
    folder = Path(decoders())
    model = CrossEncoder(str(folder), None, 32, "cpu")
    assert (model.max_length, model.keep_in_fp32_modules) == (32, [])
