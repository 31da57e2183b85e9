"""What all models are: a sequence of modules that others index, copy, subclass, train and ask about.

The section on other packages has one test for each thing they were seen to rely on.
"""

from __future__ import annotations

import copy
import importlib
import io
import pickle
import queue
import threading
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from sentence_transformers import SentenceTransformer, models
from sentence_transformers.encoder.base import as_ordered
from sentence_transformers.modules.base import InputModule, Module
from sentence_transformers.modules.dense import Dense
from sentence_transformers.modules.normalize import Normalize
from sentence_transformers.modules.pooling import Pooling
from sentence_transformers.modules.transformer.module import Transformer
from tiny import WIDTH, tiny_checkpoint, tiny_model, tiny_tokenizer

TEXTS = ["What causes asthma?", "a", "What are the treatments for allergies and for other such things?"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return str(tiny_checkpoint("bert", tmp_path_factory.mktemp("bert")))


@pytest.fixture
def model(checkpoint):
    return SentenceTransformer(modules=[Transformer(checkpoint), Pooling(WIDTH)], device="cpu")


# -- making one --------------------------------------------------------------------------------------------


def test_modules_come_as_a_list_a_sequential_or_by_name(model):
    parts = list(model)
    for modules in (parts, tuple(parts), iter(parts), nn.Sequential(*parts), nn.ModuleList(parts), model):
        assert list(SentenceTransformer(modules=modules, device="cpu")._modules) == ["0", "1"]
    named = SentenceTransformer(modules={"first": parts[0], "pool": parts[1]}, device="cpu")
    assert list(named._modules) == ["first", "pool"]
    np.testing.assert_array_equal(named.encode(TEXTS), model.encode(TEXTS))


def test_modules_that_make_no_model_are_refused(model):
    with pytest.raises(ValueError, match="at least one module"):
        SentenceTransformer(modules=[])
    with pytest.raises(ValueError, match="Module 1 is str"):
        SentenceTransformer(modules=[model[0], "mean"])
    with pytest.raises(ValueError, match=r"a single Transformer. Pass a list"):
        SentenceTransformer(modules=model[0])
    with pytest.raises(ValueError, match="Both a model name"):
        SentenceTransformer("some-name", modules=[model[0]])
    assert list(as_ordered({"a": model[0]})) == ["a"]


def test_arguments_that_make_no_sense_are_refused(model):
    with pytest.raises(ValueError, match=r"backend 'tensorflow'.*'torch', 'onnx' or 'openvino'"):
        SentenceTransformer(modules=list(model), backend="tensorflow")
    with pytest.raises(RuntimeError, match="foo"):
        SentenceTransformer(modules=list(model), device="foo")
    with pytest.raises(ValueError, match="token and use_auth_token"):
        SentenceTransformer(modules=list(model), token="a", use_auth_token="b")


def test_a_model_says_where_and_what_it_is(model):
    assert model.device == torch.device("cpu")
    assert model.dtype == torch.float32
    assert model.get_backend() == "torch"
    assert not model.training
    assert model.get_sentence_embedding_dimension() == model.get_embedding_dimension() == WIDTH
    assert model.transformers_model is model[0].auto_model
    assert model.config is model[0].auto_model.config
    assert model.processor is model.tokenizer is model[0].tokenizer
    assert model.modalities == ["text"]
    assert model.supports("text")
    assert not model.supports("image")
    assert not model.supports(("text", "image"))
    assert model.get_model_kwargs() == []


def test_the_width_is_that_of_the_last_part_that_knows_it(model):
    parts = list(model)
    assert SentenceTransformer(modules=[*parts, Normalize()]).get_sentence_embedding_dimension() == WIDTH
    assert SentenceTransformer(modules=[*parts, Dense(WIDTH, 8), Normalize()]).get_embedding_dimension() == 8
    assert SentenceTransformer(modules=[nn.Identity()]).get_sentence_embedding_dimension() is None
    assert (
        SentenceTransformer(modules=[nn.Identity()], truncate_dim=3).get_sentence_embedding_dimension() == 3
    )


def test_a_model_without_weights_is_where_it_was_put():
    model = SentenceTransformer(modules=[nn.Identity()], device="cpu")
    assert model.device == torch.device("cpu")
    assert model.dtype is None
    assert model.transformers_model is None
    assert model.config is None


def test_parts_are_told_when_the_model_is_complete(model):
    seen = []

    class Curious(Module):
        def on_model_ready(self, model):
            seen.append([type(part).__name__ for part in model])

    SentenceTransformer(modules=[*model, Curious()], device="cpu")
    assert seen == [["Transformer", "Pooling", "Curious"]]


# -- a sequence of modules ---------------------------------------------------------------------------------


def test_a_model_is_a_sequence_of_modules(model):
    assert isinstance(model, nn.Sequential)
    assert len(model) == 2
    assert [type(part) for part in model] == [Transformer, Pooling]
    assert model[0] is model._first_module() is model._modules["0"]
    assert model[1] is model[-1] is model._last_module()
    with pytest.raises(IndexError):
        model[2]


def test_a_slice_is_a_plain_sequence_of_the_same_parts(model):
    part = model[:1]
    assert type(part) is nn.Sequential
    assert part[0] is model[0]
    assert part(model.tokenize(TEXTS))["token_embeddings"].shape == (3, 21, WIDTH)
    assert list(model[1:]._modules) == ["1"]


def test_parts_can_be_added_and_exchanged(model):
    expected = model.encode(TEXTS)
    model.append(Normalize())
    lengths = np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(model.encode(TEXTS), expected / lengths, atol=1e-6)
    model[1] = Pooling(WIDTH, "cls")
    assert model.encode(TEXTS).shape == (3, WIDTH)
    assert model[1].pooling_mode == "cls"


def test_forward_adds_its_results_to_the_features(model):
    features = model.tokenize(TEXTS)
    result = model(features)
    assert set(result) == {
        "input_ids",
        "token_type_ids",
        "attention_mask",
        "token_embeddings",
        "sentence_embedding",
    }
    np.testing.assert_allclose(result["sentence_embedding"].detach().numpy(), model.encode(TEXTS), atol=1e-6)


# -- inputs ------------------------------------------------------------------------------------------------


def test_tokenize_and_preprocess_give_one_padded_batch(model):
    features = model.tokenize(TEXTS)
    assert list(features) == ["input_ids", "token_type_ids", "attention_mask"]
    assert {tensor.dtype for tensor in features.values()} == {torch.int64}
    prompted = model.preprocess(TEXTS, prompt="ask: ")
    assert prompted["prompt_length"] == 4
    assert prompted["input_ids"].equal(model.tokenize(["ask: " + text for text in TEXTS])["input_ids"])
    # A string is taken as the list of its characters, as in every release.
    assert model.tokenize("ab")["input_ids"].equal(model.tokenize(["a", "b"])["input_ids"])


class Letters(InputModule):
    """A first part with `tokenize`, the older name."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(128, 4)
        self.seen = []

    def tokenize(self, texts):
        self.seen.append(list(texts))
        longest = max(map(len, texts))
        ids = torch.tensor([[ord(letter) for letter in text.ljust(longest)] for text in texts])
        return {
            "input_ids": ids,
            "attention_mask": torch.tensor([[n < len(t) for n in range(longest)] for t in texts]),
        }

    def forward(self, features):
        features["token_embeddings"] = self.table(features["input_ids"])
        return features


def test_a_custom_first_part_prepares_inputs_its_own_way():
    model = SentenceTransformer(modules=[Letters(), Pooling(4)], device="cpu")
    expected = np.stack(
        [model[0].table.weight[[ord(c) for c in t]].mean(dim=0).detach().numpy() for t in TEXTS]
    )
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=1e-6)
    model.encode(TEXTS, prompt="ask ")
    assert sorted(model[0].seen[-1]) == sorted("ask " + text for text in TEXTS)


def test_a_subclass_may_prepare_inputs_its_own_way(model):
    class Shouting(SentenceTransformer):
        def tokenize(self, texts, **kwargs):
            return super().tokenize([f"{text} {text}" for text in texts], **kwargs)

        def preprocess(self, inputs, prompt=None, **kwargs):
            return self.tokenize(inputs)

    twice = Shouting(modules=list(model), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(twice, model.encode([f"{text} {text}" for text in TEXTS]), atol=1e-6)


# -- what other packages rely on ---------------------------------------------------------------------------


def test_the_class_is_found_in_a_module_of_this_package(model):
    assert type(model).__module__.startswith("sentence_transformers")
    assert any(isinstance(part, models.Transformer) for part in model.modules())
    assert next(
        part for part in model.modules() if isinstance(part, models.Transformer)
    ).auto_model.name_or_path


def test_the_transformers_model_can_be_read_and_assigned(model):
    before = model.encode(TEXTS)
    model._modules["0"].auto_model = tiny_model("bert", seed=3)
    after = model.encode(TEXTS)
    assert np.abs(after - before).max() > 0.1
    model._first_module().auto_model = tiny_model("bert")
    np.testing.assert_allclose(model.encode(TEXTS), before, atol=1e-6)
    assert model[0].auto_model.config.hidden_size == WIDTH


def test_the_tokenizer_can_be_read_called_and_set(model):
    tokenizer = model.tokenizer
    assert len(tokenizer.vocab) == 400
    offsets = tokenizer("a b", return_offsets_mapping=True)["offset_mapping"]
    assert [tuple(offset) for offset in offsets] == [(0, 0), (0, 1), (2, 3), (0, 0)]
    assert tokenizer.decode(tokenizer.encode("asthma"), skip_special_tokens=True) == "asthma"
    expected = model.encode(TEXTS)
    tokenizer.padding_side = "left"
    assert model.tokenize(TEXTS)["attention_mask"][1, 0] == 0
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=1e-6)
    model.tokenizer = tiny_tokenizer("bert")
    assert model[0].tokenizer is model.tokenizer is not tokenizer
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=1e-6)


def test_a_subclass_s_encode_is_the_one_that_is_called(model):
    class Doubling(SentenceTransformer):
        def encode(self, sentences, *args, **kwargs):
            return 2 * super().encode(sentences, *args, **kwargs)

    doubling = Doubling(modules=list(model), device="cpu")
    np.testing.assert_array_equal(doubling.encode(TEXTS), 2 * model.encode(TEXTS))
    np.testing.assert_array_equal(doubling.encode_query(TEXTS), 2 * model.encode(TEXTS))
    one_by_one = doubling.encode_document(TEXTS, batch_size=1)
    np.testing.assert_allclose(one_by_one, 2 * model.encode(TEXTS), rtol=1e-5, atol=1e-5)


def test_texts_come_by_position_or_under_either_name(model):
    expected = model.encode(TEXTS)
    np.testing.assert_array_equal(model.encode(sentences=TEXTS), expected)
    np.testing.assert_array_equal(model.encode(inputs=TEXTS), expected)


def test_single_vectors_compare(model):
    a, b = model.encode("asthma"), model.encode("a", convert_to_tensor=True)
    assert model.similarity(a, b).shape == (1, 1)
    assert float(model.similarity(a, a)) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("number", [(), (0,)], ids=["as in release 3", "with the process's number"])
def test_a_worker_of_somebody_else_s_pool_is_served(model, number):
    inputs, outputs = queue.Queue(), queue.Queue()
    arguments = (*number, "cpu", model, inputs, outputs)
    worker = SentenceTransformer._encode_multi_process_worker
    threading.Thread(target=worker, args=arguments, daemon=True).start()
    inputs.put([3, 32, TEXTS])
    inputs.put([4, 32, TEXTS[:1], None, "ask: ", "float32", True])
    answers = dict(outputs.get(timeout=60) for _ in range(2))
    np.testing.assert_array_equal(answers[3], model.encode(TEXTS))
    expected = model.encode(TEXTS[:1], prompt="ask: ", normalize_embeddings=True)
    np.testing.assert_allclose(answers[4], expected, atol=1e-6)


def test_models_can_be_copied(model):
    expected = model.encode(TEXTS)
    assert model.model_card_data.model is model
    twin = copy.deepcopy(model)
    np.testing.assert_array_equal(twin.encode(TEXTS), expected)
    with torch.no_grad():
        next(twin.parameters()).zero_()
    np.testing.assert_array_equal(model.encode(TEXTS), expected)
    assert twin.model_card_data.model is twin
    assert twin.similarity_fn_name == "cosine"


def test_models_can_be_pickled_and_saved_by_torch(model):
    model.model_card_data  # noqa: B018 - made when first asked for
    expected = model.encode(TEXTS)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).encode(TEXTS), expected)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    np.testing.assert_array_equal(torch.load(file, weights_only=False).encode(TEXTS), expected)
    restored = SentenceTransformer(modules=[Transformer(model[0].auto_model.name_or_path), Pooling(WIDTH)])
    restored.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(restored.encode(TEXTS), expected)


def test_the_card_s_data_name_the_base_model(model, checkpoint):
    assert model.model_card_data.model_name is None
    data = SentenceTransformer(checkpoint, device="cpu").model_card_data
    assert hasattr(data, "base_model")
    assert hasattr(data, "base_model_revision")
    assert data.model_name is None


@pytest.mark.parametrize(
    "name",
    [
        "accepts_loss_kwargs", "loss_type", "main_input_name", "generation_config", "is_quantized", "hf_quantizer",
        "quantization_method", "is_loaded_in_8bit", "is_loaded_in_4bit", "hf_device_map", "_tp_size",
        "_is_accelerate_prepared", "base_model", "is_parallelizable", "_hf_peft_config_loaded",
    ],
)  # fmt: skip
def test_probing_for_what_a_model_does_not_have_neither_fails_nor_recurses(model, name):
    missing = object()
    assert getattr(model, name, missing) in (missing, None, False)
    assert getattr(nn.Sequential(), name, missing) is missing
    setattr(model, name, "set")  # as accelerate does
    assert getattr(model, name) == "set"
    np.testing.assert_array_equal(model.encode(TEXTS).shape, (3, WIDTH))


def test_probing_a_model_without_transformer_neither_fails_nor_recurses():
    for model in (
        SentenceTransformer(modules=[nn.Identity()]),
        SentenceTransformer.__new__(SentenceTransformer),
    ):
        for name in ("config", "accepts_loss_kwargs", "hf_device_map", "auto_model", "_anything"):
            assert getattr(model, name, None) is None


def test_the_configuration_can_be_read_and_set(model):
    assert model.config.model_type == "bert"
    config = copy.deepcopy(model.config)
    model.config = config
    assert model[0].auto_model.config is config
    with pytest.raises(AttributeError, match="no transformer"):
        SentenceTransformer(modules=[nn.Identity()]).config = config


def test_gradient_checkpointing_reaches_the_transformer(model):
    model.gradient_checkpointing_enable()
    assert any(getattr(part, "gradient_checkpointing", False) for part in model[0].auto_model.modules())
    model.train()
    model(model.tokenize(TEXTS))["sentence_embedding"].sum().backward()
    assert model[0].auto_model.encoder.layer[0].attention.self.query.weight.grad is not None


def test_the_forward_can_be_traced_with_positions_among_the_features(model):
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, *features):
            names = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
            return self.model(dict(zip(names, features)))["sentence_embedding"]

    def features(*ids):
        row = torch.tensor([ids])
        return row, torch.ones_like(row), torch.zeros_like(row), torch.arange(len(ids))[None]

    assert model._modules["0"].auto_model is not None  # read before, as eland does

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of torch.jit, which is deprecated, and of what tracing cannot see
        traced = torch.jit.trace(Named(), features(2, 20, 3), strict=False)
        vector = traced(*features(2, 21, 22, 23, 3)).numpy()
    np.testing.assert_allclose(vector, model.encode([[2, 21, 22, 23, 3]]), atol=1e-6)


@pytest.mark.parametrize(
    "path",
    [
        "sentence_transformers.SentenceTransformer",
        "sentence_transformers.sentence_transformer",
        "sentence_transformers.models",
        "sentence_transformers.util",
        "sentence_transformers.quantization",
        "sentence_transformers.similarity_functions",
    ],
)
def test_the_paths_others_import_from_are_there(path):
    assert importlib.import_module(path).__name__


def test_an_evaluator_is_called_with_the_model_and_a_folder_that_is_there(model, tmp_path):
    calls = []
    result = model.evaluate(lambda *given: calls.append(given) or 0.5, str(tmp_path / "new" / "folder"))
    assert result == 0.5
    assert calls == [(model, str(tmp_path / "new" / "folder"))]
    assert (tmp_path / "new" / "folder").is_dir()
    model.evaluate(lambda *given: calls.append(given))
    assert calls[1] == (model, None)
